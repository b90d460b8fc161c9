"""A CUDA device through the driver API only: memory, copies, graphs and precompiled kernels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rdx_fast.devices.device import Pinned, no_collection, on_a_gpu
from rdx_fast.errors import MissingDependencyError
from rdx_fast.kernels.gpu.driver import LEGACY_STREAM, Gpu, Stream
from rdx_fast.kernels.gpu.launch import Launch
from rdx_fast.kernels.gpu.library import DeviceArray, KernelLibrary


class CudaDevice:
    """A ``device.Device`` through the CUDA driver API.

    Create, use and close it inside ``gpu.current()``.
    """

    def __init__(self, gpu: Gpu, kernels: KernelLibrary, stream: Stream | None = None) -> None:
        self.architecture = kernels.architecture
        self.stream = Stream() if stream is None else stream
        self._gpu = gpu
        self._kernels = kernels
        self._borrowed: list[Any] = []

    def current(self) -> AbstractContextManager[None]:
        return self._gpu.current()

    def child(self) -> CudaDevice:
        return CudaDevice(self._gpu, self._kernels, Stream(self.stream))

    def empty(self, shape: Sequence[int], dtype: Any) -> DeviceArray:
        size = prod(shape) * np.dtype(dtype).itemsize
        return DeviceArray.contiguous(self.stream.allocate(size), shape, dtype)

    def upload(self, values: NDArray[Any]) -> DeviceArray:
        there = self.empty(values.shape, values.dtype)
        given = np.ascontiguousarray(values)
        self.stream.copy(there.pointer, given.ctypes.data, given.nbytes)
        self.stream.wait()
        return there

    def view(
        self, block: DeviceArray, offset: int, shape: Sequence[int], dtype: Any
    ) -> DeviceArray:
        return DeviceArray.contiguous(block.pointer + offset, shape, dtype)

    def pinned(self, shape: Sequence[int], dtype: Any) -> Pinned:
        host, pointer = self.stream.pinned(shape, dtype)
        return Pinned(host, DeviceArray.contiguous(pointer, shape, dtype))

    def copy(self, target: DeviceArray, source: DeviceArray) -> None:
        self.stream.copy(target.pointer, source.pointer, source.nbytes)

    def fill(self, block: DeviceArray, byte: int) -> None:
        self.stream.fill(block.pointer, byte, prod(block.shape))

    def prepare(self, launch: Launch) -> Callable[[], None]:
        return partial(self._kernels.prepare(launch).start, int(self.stream))

    def holds(self, batch: Any) -> bool:
        return on_a_gpu(batch)

    def borrow(self, array: Any) -> DeviceArray:
        with self.current():
            view = strided_view(array, int(self.stream))
            if not names_a_stream(array):
                self.stream.wait_for(LEGACY_STREAM)
        if view.device_id != self._gpu.ordinal:
            raise ValueError(
                f"the batch is on GPU {view.device_id}, the engine on GPU {self._gpu.ordinal}: "
                f"copy it to the engine's GPU, or open the engine there (GpuOptions.device)"
            )
        self._borrowed.append(view)  # kept until the work on it is done
        whole = DeviceArray.contiguous(view.ptr, view.shape, view.dtype)
        if view.strides is None:
            return whole
        return DeviceArray(whole.pointer, whole.shape, whole.dtype, tuple(view.strides))

    def record(self, steps: Callable[[], None]) -> Callable[[], None]:
        steps()  # modules are loaded and plans prepared outside the graph
        self.wait()
        with no_collection():
            return self.stream.capture(steps)

    def wait(self) -> None:
        with self.current():
            self.stream.wait()
        self._borrowed.clear()

    def close(self) -> None:
        self.stream.close()


def names_a_stream(array: Any) -> bool:
    """Whether an array's interface orders our work after its owner's: DLPack, or a stream in the
    CUDA Array Interface. Libraries that do neither use the legacy default stream."""
    if hasattr(array, "__dlpack__") and hasattr(array, "__dlpack_device__"):
        return True
    return array.__cuda_array_interface__.get("stream") is not None


def strided_view(array: Any, stream: int) -> Any:
    """A cuda-python view of another library's array; ``stream`` waits for the owner's work on it.

    Args:
        array: anything with DLPack or version 3 of the CUDA Array Interface
        stream: handle of the CUDA stream that will use the array

    Raises:
        MissingDependencyError: the package cuda-core is not installed
        ValueError: the array supports neither protocol as required
    """
    try:
        from cuda.core.utils import StridedMemoryView
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "cuda":
            raise
        raise MissingDependencyError("cuda-core", "scoring arrays on the GPU", "gpu") from None
    try:
        return StridedMemoryView.from_any_interface(array, stream_ptr=stream)
    except BufferError as error:
        raise ValueError(
            f"the {type(array).__name__} on the GPU cannot be used ({error}): give an array that "
            f"supports DLPack or version 3 of the CUDA Array Interface"
        ) from error
