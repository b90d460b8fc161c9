"""A CUDA device through torch, or torch's CPU device, on which tests run the same pipeline."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rdx_fast.errors import DeviceLostError, DeviceMemoryError, EngineError
from rdx_fast.kernels import on_triton
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
        self._caller: torch.cuda.Stream | None = None
        self._pinned: dict[int, Tensor] = {}

    @contextmanager
    def current(self) -> Iterator[None]:
        with named_errors():
            if self._stream is None:
                yield
                return
            self._caller = torch.cuda.current_stream(self.torch_device)
            with torch.cuda.device(self.torch_device), torch.cuda.stream(self._stream):
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

    def pinned(self, shape: Sequence[int], dtype: Any) -> NDArray[Any]:
        memory = torch.empty(tuple(shape), dtype=torch_type(dtype), pin_memory=self._cuda)
        values = memory.numpy()
        self._pinned[values.ctypes.data] = memory
        return values

    def copy_in(self, target: Tensor, source: NDArray[Any]) -> None:
        target.copy_(self._pinned[source.ctypes.data], non_blocking=True)

    def copy_out(self, target: NDArray[Any], source: Tensor) -> None:
        self._pinned[target.ctypes.data].copy_(source, non_blocking=True)

    def fill(self, block: Tensor, byte: int) -> None:
        block.fill_(byte)

    def launch(self, launch: Launch) -> None:
        on_triton.run(launch)

    def holds(self, batch: Any) -> bool:
        return isinstance(batch, Tensor) or hasattr(batch, "__cuda_array_interface__")

    def borrow(self, array: Any) -> Tensor:
        tensor = array if isinstance(array, Tensor) else torch.as_tensor(array, device="cuda")
        if tensor.device != self.torch_device:
            raise ValueError(
                f"the batch is on {tensor.device}, the engine on {self.torch_device}: copy it to "
                f"the engine's device, or open the engine there (GpuOptions.device)"
            )
        if self._stream is not None and self._caller is not None:
            self._stream.wait_stream(self._caller)
        return tensor

    def record(self, steps: Callable[[], None]) -> Callable[[], None]:
        steps()  # kernels and plans are chosen outside the graph
        if self._stream is None:
            return steps
        self.wait()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"):
            steps()
        return graph.replay

    def wait(self) -> None:
        if self._stream is not None:
            self._stream.synchronize()

    def close(self, lost: bool = False) -> None:
        self._pinned.clear()


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
        if "CUDA error" in str(error):
            raise DeviceLostError(
                f"the GPU failed: {error}. torch cannot use it again in this process: restart it"
            ) from error
        raise EngineError(f"torch failed while running the network: {error}") from error
