"""A CUDA device through torch, or torch's CPU device, on which tests run the same pipeline."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.dlpack import from_dlpack

from rdx_fast.devices.device import Pinned, on_a_gpu
from rdx_fast.devices.graphs import recorded
from rdx_fast.errors import DeviceLostError, DeviceMemoryError, EngineError
from rdx_fast.kernels import on_triton
from rdx_fast.kernels.gpu.driver import LEGACY_STREAM
from rdx_fast.kernels.gpu.launch import Launch


class TorchDevice:
    """A ``device.Device`` through torch, which allocates the memory and frees it when unused."""

    def __init__(self, device: torch.device, stream: torch.cuda.Stream | None = None) -> None:
        self.torch_device = device
        self.architecture = on_triton.architecture_of(torch.empty(0, device=device))
        self._cuda = device.type == "cuda"
        self._stream = stream
        if self._cuda and stream is None:
            self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    @contextmanager
    def current(self) -> Iterator[None]:
        # The stream makes its GPU the current one, too.
        with named_errors(), torch.cuda.stream(self._stream):
            yield

    def child(self) -> TorchDevice:
        return TorchDevice(self.torch_device, self._stream)

    def empty(self, shape: Sequence[int], dtype: Any) -> Tensor:
        return torch.empty(tuple(shape), dtype=torch_type(dtype), device=self.torch_device)

    def upload(self, values: NDArray[Any]) -> Tensor:
        return torch.tensor(values, device=self.torch_device)

    def view(self, block: Tensor, offset: int, shape: Sequence[int], dtype: Any) -> Tensor:
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        return block[offset : offset + size].view(torch_type(dtype)).reshape(tuple(shape))

    def pinned(self, shape: Sequence[int], dtype: Any) -> Pinned:
        memory = torch.empty(tuple(shape), dtype=torch_type(dtype), pin_memory=self._cuda)
        return Pinned(memory.numpy(), memory)

    def copy(self, target: Tensor, source: Tensor) -> None:
        target.copy_(source, non_blocking=True)

    def prepare(self, launch: Launch) -> Callable[[], None]:
        return on_triton.prepared(launch) if self._cuda else partial(on_triton.run, launch)

    def holds(self, batch: Any) -> bool:
        return isinstance(batch, Tensor) or on_a_gpu(batch)

    def borrow(self, array: Any) -> Tensor:
        with named_errors():
            caller = torch.cuda.current_stream(self.torch_device) if self._cuda else None
            with torch.cuda.stream(self._stream):
                tensor = self._tensor(array)
        if tensor.device != self.torch_device:
            raise ValueError(
                f"the batch is on {tensor.device}, the engine on {self.torch_device}: copy it to "
                f"the engine's device, or open the engine there (GpuOptions.device)"
            )
        if self._stream is not None and caller is not None:
            self._stream.wait_stream(caller)
        return tensor

    def _tensor(self, array: Any) -> Tensor:
        """A view of an array; this device's queue waits for what another library's stream holds."""
        if isinstance(array, Tensor):
            return array
        if hasattr(array, "__dlpack__"):  # whose owner lets the current stream wait
            return from_dlpack(array)
        named = array.__cuda_array_interface__.get("stream")
        owner = torch.cuda.default_stream(self.torch_device)
        if named not in (None, LEGACY_STREAM):  # which torch knows by the default one alone
            owner = torch.cuda.ExternalStream(named, self.torch_device)  # type: ignore[no-untyped-call]
        if self._stream is not None:
            self._stream.wait_stream(owner)
        return torch.as_tensor(array, device="cuda")

    def record(self, steps: Callable[[], None]) -> Callable[[], None]:
        steps()  # kernels and plans are chosen outside the graph
        if self._stream is None:
            return steps
        self.wait()
        return recorded(steps, self._stream, self.torch_device).replay

    def wait(self) -> None:
        if self._stream is not None:
            with named_errors():
                self._stream.synchronize()

    def close(self) -> None:
        pass  # torch frees what is no longer referred to


def torch_type(dtype: Any) -> torch.dtype:
    return getattr(torch, np.dtype(dtype).name)


@contextmanager
def named_errors() -> Iterator[None]:
    """Raise torch's errors as the corresponding ``EngineError``."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise DeviceMemoryError(
            f"the GPU's memory is full: {error}. Use smaller batches or fewer Detectors at a time"
        ) from error
    except RuntimeError as error:
        if refuses_capture(error):
            raise EngineError(
                f"the GPU could not record a graph: {error}. Something in this process used the "
                f"GPU in a way that recording forbids; try again"
            ) from error
        if "CUDA error" in str(error):
            raise DeviceLostError(
                f"the GPU failed: {error}. The driver gives this process no GPU again: start a new "
                f"one"
            ) from error
        raise EngineError(f"torch failed while running the network: {error}") from error


def refuses_capture(error: RuntimeError) -> bool:
    """Whether it is one of CUDA's errors 900 to 908, which concern the recording of a graph alone:
    the device is as good as before."""
    code = getattr(error, "error_code", None)  # of torch.AcceleratorError
    if code is not None:
        return 900 <= code <= 908
    return "CUDA error" in str(error) and "captur" in str(error)
