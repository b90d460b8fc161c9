"""NVIDIA's driver through cuda-python: one GPU's context, memory, streams and graphs, no torch.

Needs the package cuda-bindings and the driver. Everything fails with a named exception.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rdx_fast.errors import (
    DeviceLostError,
    DeviceMemoryError,
    DriverTooOldError,
    EngineError,
    MissingDependencyError,
    NoDriverError,
)

OLDEST = 12080  # CUDA version of the oldest driver that compiles the kernels' PTX: 12.8
LEGACY_STREAM = 1  # handle of the default stream, which libraries use unless told otherwise
_VERSION_FILE = Path("/proc/driver/nvidia/version")
_NO_DRIVER = {"NO_DEVICE", "STUB_LIBRARY", "DEVICE_NOT_LICENSED"}
_TOO_OLD = {
    "CALL_REQUIRES_NEWER_DRIVER",
    "COMPAT_NOT_SUPPORTED_ON_DEVICE",
    "SYSTEM_DRIVER_MISMATCH",
    "UNSUPPORTED_PTX_VERSION",
}
# After these the context is of no more use.
_LOST = {
    "ASSERT",
    "CONTAINED",
    "CONTEXT_IS_DESTROYED",
    "DEVICE_UNAVAILABLE",
    "ECC_UNCORRECTABLE",
    "EXTERNAL_DEVICE",
    "HARDWARE_STACK_ERROR",
    "ILLEGAL_ADDRESS",
    "ILLEGAL_INSTRUCTION",
    "INVALID_ADDRESS_SPACE",
    "INVALID_PC",
    "LAUNCH_FAILED",
    "LAUNCH_TIMEOUT",
    "MISALIGNED_ADDRESS",
    "NVLINK_UNCORRECTABLE",
    "TENSOR_MEMORY_LEAK",
    "UNKNOWN",
}


@cache
def bindings() -> Any:
    """The module ``cuda.bindings.driver``."""
    try:
        from cuda.bindings import driver
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "cuda":
            raise
        raise MissingDependencyError("cuda-bindings", "running on a GPU", "gpu") from None
    return driver


def call(name: str, *arguments: Any) -> Any:
    """Call the driver and return what it gives, several things as a tuple.

    Raises ``EngineError``, or the one of its kinds that says what happened, in the driver's words.
    """
    driver = bindings()
    try:
        status, *results = getattr(driver, name)(*arguments)
    except RuntimeError as error:
        # cuda-python found no libcuda to call.
        raise NoDriverError(
            f"a GPU was asked for and NVIDIA's driver is not installed ({error})",
            "install the driver, or use the CPU with backend='openvino'",
        ) from error
    if status != driver.CUresult.CUDA_SUCCESS:
        _, text = driver.cuGetErrorString(status)
        raise error_of(name, status.name, (text or b"").decode())
    return results[0] if len(results) == 1 else tuple(results)


def error_of(function: str, status: str, text: str) -> EngineError:
    """The exception for a driver's status, such as ``CUDA_ERROR_OUT_OF_MEMORY``."""
    kind = status.removeprefix("CUDA_ERROR_")
    what = f"CUDA's {function} failed: {status}, {text}"
    if kind in _NO_DRIVER:
        return NoDriverError(
            f"a GPU was asked for and {what}",
            "check that nvidia-smi lists one and that this process may use it, or use the CPU with "
            "backend='openvino'",
        )
    if kind in _TOO_OLD:
        return DriverTooOldError(f"{what}. Install a newer NVIDIA driver ({_version(OLDEST)} CUDA)")
    if kind == "OUT_OF_MEMORY":
        return DeviceMemoryError(
            f"{what}. Use smaller batches or fewer Detectors at a time, or free the GPU's memory"
        )
    if kind in _LOST:
        return DeviceLostError(
            f"{what}. The driver gives this process no GPU again: start a new one. If it happens "
            f"again, see dmesg for an Xid"
        )
    return EngineError(what)


class Gpu:
    """One GPU's primary context, which torch, CuPy and PyCUDA's ``autoprimaryctx`` share.

    A context manager; ``with gpu.current():`` makes it current in the calling thread.

    Attributes:
        ordinal: index of the GPU
        name: of the GPU
        architecture: compute capability, 90 for 9.0
        driver: version of the driver, as text
        cuda: CUDA version that the driver supports, 12080 for 12.8

    Raises:
        NoDriverError: there is no driver or no GPU
        DriverTooOldError: the driver is too old
        EngineError: there is no such GPU
    """

    def __init__(self, ordinal: int = 0) -> None:
        call("cuInit", 0)
        self.cuda = check_version(call("cuDriverGetVersion"))
        count = call("cuDeviceGetCount")
        if not 0 <= ordinal < count:
            raise EngineError(f"GPU {ordinal} was asked for, this machine has {count}: 0 is first")
        self.ordinal = ordinal
        self._device = call("cuDeviceGet", ordinal)
        self.name = call("cuDeviceGetName", 128, self._device).split(b"\0")[0].decode()
        attributes = bindings().CUdevice_attribute
        major, minor = (
            call("cuDeviceGetAttribute", attribute, self._device)
            for attribute in (
                attributes.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR,
                attributes.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR,
            )
        )
        self.architecture = 10 * major + minor
        self.driver = driver_version(self.cuda, _VERSION_FILE)
        self._context = call("cuDevicePrimaryCtxRetain", self._device)

    @contextmanager
    def current(self) -> Iterator[None]:
        call("cuCtxPushCurrent", self._context)
        try:
            yield
        finally:
            call("cuCtxPopCurrent")

    def close(self) -> None:
        """Give the context back."""
        _free("cuDevicePrimaryCtxRelease", self._device)

    def __enter__(self) -> Gpu:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Stream:
    """A queue of work on the current GPU, and all memory that was allocated with it.

    The queue does not wait for the legacy default stream, nor that for it: otherwise no library in
    the process could use the default stream while a graph is recorded. See ``wait_for``.

    Args:
        of: queue on that stream, with memory of one's own
    """

    def __init__(self, of: Stream | None = None) -> None:
        self._held = ExitStack()
        if of is None:
            flag = bindings().CUstream_flags.CU_STREAM_NON_BLOCKING
            self.handle: Any = call("cuStreamCreate", flag)
            self._held.callback(_free, "cuStreamDestroy", self.handle)
        else:
            self.handle = of.handle

    def __int__(self) -> int:
        return int(self.handle)

    def allocate(self, size: int) -> int:
        """Bytes on the GPU, as an address."""
        pointer = call("cuMemAlloc", max(size, 1))
        self._held.callback(_free, "cuMemFree", pointer)
        return int(pointer)

    def pinned(self, shape: Sequence[int], dtype: Any) -> tuple[NDArray[Any], int]:
        """Allocate page-locked host memory, which the GPU reads and writes in place.

        Returns:
            the memory, not to be used after ``close``, and its address for kernels and copies
        """
        size = prod(shape) * np.dtype(dtype).itemsize
        # With unified addressing, which all supported GPUs have, one address serves both sides.
        pointer = int(call("cuMemHostAlloc", max(size, 1), 0))
        self._held.callback(_free, "cuMemFreeHost", pointer)
        memory = (ctypes.c_uint8 * size).from_address(pointer)
        return np.frombuffer(memory, dtype).reshape(shape), pointer

    def copy(self, target: int, source: int, size: int) -> None:
        """Queue a copy of bytes between pinned or device memory."""
        call("cuMemcpyAsync", target, source, size, self.handle)

    def fill(self, target: int, byte: int, size: int) -> None:
        call("cuMemsetD8Async", target, byte, size, self.handle)

    def wait_for(self, stream: int) -> None:
        """Let what is queued from now on wait for what another stream holds now."""
        flag = bindings().CUevent_flags.CU_EVENT_DISABLE_TIMING
        event = call("cuEventCreate", flag)
        try:
            call("cuEventRecord", event, stream)
            call("cuStreamWaitEvent", self.handle, event, 0)
        finally:
            _free("cuEventDestroy", event)

    def capture(self, steps: Callable[[], None]) -> Callable[[], None]:
        """Record what ``steps`` queues as a graph; the returned function runs it again."""
        mode = bindings().CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
        call("cuStreamBeginCapture", self.handle, mode)
        try:
            steps()
        except BaseException:
            with suppress(EngineError):
                _free("cuGraphDestroy", call("cuStreamEndCapture", self.handle))
            raise
        graph = call("cuStreamEndCapture", self.handle)
        try:
            executable = call("cuGraphInstantiate", graph, 0)
        finally:
            _free("cuGraphDestroy", graph)
        self._held.callback(_free, "cuGraphExecDestroy", executable)
        return lambda: call("cuGraphLaunch", executable, self.handle)

    def wait(self) -> None:
        call("cuStreamSynchronize", self.handle)

    def close(self) -> None:
        """Free everything, the last allocated first."""
        self._held.close()


def check_version(version: int, wanted: int = OLDEST) -> int:
    """The driver's CUDA version, 12080 for 12.8. Raises ``DriverTooOldError``."""
    if version < wanted:
        raise DriverTooOldError(
            f"the NVIDIA driver supports CUDA {_version(version)}, {_version(wanted)} or later is "
            f"wanted: install a newer driver"
        )
    return version


def driver_version(cuda: int, file: Path) -> str:
    """The driver's own version, where the kernel module tells it, and its CUDA version."""
    try:
        words = file.read_text().splitlines()[0].split()
    except (OSError, IndexError):
        return f"CUDA {_version(cuda)}"
    own = next((word for word in words if word[:1].isdigit() and "." in word), "unknown")
    return f"{own}, CUDA {_version(cuda)}"


def _version(cuda: int) -> str:
    return f"{cuda // 1000}.{cuda % 1000 // 10}"


def _free(name: str, handle: Any) -> None:
    # What a lost GPU held is gone with it.
    with suppress(EngineError):
        call(name, handle)
