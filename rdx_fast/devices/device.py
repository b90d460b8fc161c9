"""What the pipeline on a GPU asks of a device.

The same of torch and of the driver itself: the pipeline is written once, and runs in tests on
torch's CPU device as it does on a GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, Protocol

from numpy.typing import NDArray

from rdx_fast.kernels.gpu.launch import Array, Launch


class Device(Protocol):
    """A queue of work and the memory that belongs to it."""

    architecture: int

    def current(self) -> AbstractContextManager[Any]:
        """The calling thread works on this device inside."""

    def child(self) -> Device:
        """The same queue with memory of its own, freed by its ``close``."""

    def empty(self, shape: Sequence[int], dtype: Any) -> Array:
        """Contiguous memory on the device, not yet written; ``dtype`` is NumPy's."""

    def upload(self, values: NDArray[Any]) -> Array:
        """A copy on the device, there when this returns."""

    def view(self, block: Any, offset: int, shape: Sequence[int], dtype: Any) -> Array:
        """Part of a ``uint8`` array, from byte ``offset`` on, as another."""

    def pinned(self, shape: Sequence[int], dtype: Any) -> NDArray[Any]:
        """Host memory that is copied from and to without the host's help."""

    def copy_in(self, target: Any, source: NDArray[Any]) -> None:
        """Queue a copy from pinned memory."""

    def copy_out(self, target: NDArray[Any], source: Any) -> None:
        """Queue a copy to pinned memory."""

    def fill(self, block: Any, byte: int) -> None:
        """Queue the writing of a ``uint8`` array."""

    def launch(self, launch: Launch) -> None:
        """Queue a kernel."""

    def holds(self, batch: Any) -> bool:
        """Whether a batch is an array on a device, which can be borrowed."""

    def borrow(self, array: Any) -> Array:
        """Somebody's array on this device, without a copy; what is queued from now on waits for
        what its owner has queued. Raises ``ValueError`` if it lies elsewhere."""

    def record(self, steps: Callable[[], None]) -> Callable[[], None]:
        """Run what ``steps`` queues once, then keep it as a graph; the returned function queues it
        again."""

    def wait(self) -> None:
        """Until everything queued is done."""

    def close(self, lost: bool = False) -> None:
        """Free the memory; ``lost``: the device failed and is of no more use."""


class BoundNetwork(NamedTuple):
    """A network on a device for one batch size: where it reads, and what queues it and returns
    where teacher and student maps will be."""

    image: Array
    run: Callable[[], tuple[Sequence[Array], Sequence[Array]]]
