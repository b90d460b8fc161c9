"""The interface between the GPU pipeline and a device.

torch and the CUDA driver both implement it: the pipeline is written once, and tests run it on
torch's CPU device in the same way as on a GPU.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, NamedTuple, Protocol

from numpy.typing import NDArray

from rdx_fast.kernels.gpu.launch import Array, Launch

# Held while engines are opened and closed, networks bound, graphs recorded, memory allocated and
# freed: all of these may synchronise the device, which no thread may do while another one records.
EXCLUSIVE = threading.RLock()
_CUDA_MEMORY = (2, 13)  # DLPack's names, plain and managed


@contextmanager
def no_collection() -> Iterator[None]:
    """Keep the garbage collector from running while a graph is recorded: a finaliser that frees
    memory of the device would spoil the graph. ``EXCLUSIVE`` must be held: the collector is the
    process's."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def on_a_gpu(batch: Any) -> bool:
    """Whether a batch is an array in CUDA memory, of any library."""
    if hasattr(batch, "__cuda_array_interface__"):
        return True
    where = getattr(batch, "__dlpack_device__", None)
    return where is not None and where()[0] in _CUDA_MEMORY


class Pinned(NamedTuple):
    """Page-locked host memory.

    Attributes:
        host: as the host sees it
        device: the same memory as kernels and copies take it
    """

    host: NDArray[Any]
    device: Array


class Device(Protocol):
    """A queue of work and the memory that belongs to it.

    Attributes:
        architecture: compute capability for which kernels are chosen, such as 90 for 9.0
    """

    architecture: int

    def current(self) -> AbstractContextManager[Any]:
        """A context manager that makes this device current in the calling thread."""

    def child(self) -> Device:
        """A device on the same queue with its own memory, which its ``close`` frees."""

    def empty(self, shape: Sequence[int], dtype: Any) -> Array:
        """Allocate a contiguous, uninitialised array on the device; ``dtype`` is a NumPy dtype."""

    def upload(self, values: NDArray[Any]) -> Array:
        """Copy ``values`` to the device; the copy is complete on return."""

    def view(self, block: Any, offset: int, shape: Sequence[int], dtype: Any) -> Array:
        """View part of a ``uint8`` array, from byte ``offset``, in another shape and dtype."""

    def pinned(self, shape: Sequence[int], dtype: Any) -> Pinned:
        """Allocate page-locked host memory, which the device reads and writes in place."""

    def copy(self, target: Any, source: Any) -> None:
        """Queue a copy between contiguous arrays of one dtype and size, pinned or on the device."""

    def prepare(self, launch: Launch) -> Callable[[], None]:
        """Prepare a kernel's launch; the returned function queues it."""

    def holds(self, batch: Any) -> bool:
        """Whether a batch is an array on a device that ``borrow`` accepts."""

    def borrow(self, array: Any) -> Array:
        """Use another library's array on this device without a copy.

        Work queued from now on waits for what the owner of the array has queued. The device must
        not be current: the caller's own stream may be the owner's.

        Raises:
            ValueError: the array is on another device
        """

    def record(self, steps: Callable[[], None]) -> Callable[[], None]:
        """Run ``steps`` once, then record what they queue as a graph.

        ``EXCLUSIVE`` must be held.

        Returns:
            a function that queues the recorded work again
        """

    def wait(self) -> None:
        """Wait until all queued work is done; the device need not be current."""

    def close(self) -> None:
        """Free the memory."""


class BoundNetwork(NamedTuple):
    """A network on a device, for one batch size.

    Attributes:
        image: the network's input array
        run: queues the network and returns the arrays that teacher and student maps are written to
    """

    image: Array
    run: Callable[[], tuple[Sequence[Array], Sequence[Array]]]
