"""What every engine is to the Detector."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from rdx_fast.devices.device import BoundNetwork, Device
from rdx_fast.kernels.cosine_map import Floats
from rdx_fast.manifest import ExecutionSpec, Manifest


@dataclass(frozen=True, slots=True)
class GpuOptions:
    """What engines on a GPU are opened for.

    ``device``: which GPU, 0 is the first; ``batches``: smallest, usual and largest batch that
    TensorRT plans for, the last also the most that torch takes at once (larger batches are scored
    in parts); ``workspace_mb``: memory that TensorRT may use while it looks for the fastest plan;
    ``compile``: let ``torch.compile`` have the network (torch alone).

    Raises ``ValueError`` for anything out of range.
    """

    device: int = 0
    batches: tuple[int, int, int] = (1, 1, 32)
    workspace_mb: int = 4096
    compile: bool = False

    def __post_init__(self) -> None:
        smallest, usual, largest = self.batches
        if not 1 == smallest <= usual <= largest:
            raise ValueError(
                f"batches are {self.batches}, wanted smallest, usual and largest; the smallest is "
                f"1, since what a batch leaves over is scored too"
            )
        if self.device < 0:
            raise ValueError(f"device is {self.device}, wanted 0 or more")
        if self.workspace_mb < 1:
            raise ValueError(f"workspace_mb is {self.workspace_mb}, wanted at least 1")


Progress = Callable[[str, int, int], None]
"""Called with what is being built, and steps done of how many."""


class Chunk(NamedTuple):
    """Features of images ``start`` to ``start + n`` of a batch: maps ``[n, C_s, h_s, w_s]``.

    The arrays may be the engine's own buffers: use them before asking for the next chunk.
    """

    start: int
    teacher: list[Floats]
    student: list[Floats]


class Engine(Protocol):
    """A network ready to run."""

    manifest: Manifest
    execution: ExecutionSpec
    """Which of the bundle's networks runs, in what arithmetic, and its threshold."""

    @property
    def description(self) -> str:
        """What runs and why, for people: backend, device, the precision really executed and the
        network it is stored as, threads."""

    @property
    def on_device(self) -> bool:
        """Whether features stay on a device (``DeviceEngine``), or arrive in host memory
        (``HostEngine``)."""

    def close(self) -> None:
        """Free the engine; pipelines of it raise ``EngineError`` afterwards."""


class HostEngine(Engine, Protocol):
    """An engine whose features arrive in host memory. ``run`` may be called from several threads
    at once."""

    @property
    def frame_threads(self) -> int:
        """CPU threads that wait while the network does not run: they resize large frames."""

    def run(self, inputs: NDArray[np.float32]) -> Iterator[Chunk]:
        """Features of ``inputs: [B, 3, H, W] float32, normalised``, chunk by chunk, in order."""


class DeviceEngine(Engine, Protocol):
    """An engine that works on a device's queue and memory."""

    @property
    def kernels(self) -> str:
        """Which kernels run around the network, for people."""

    @property
    def max_batch(self) -> int:
        """Images that the network takes at once."""

    def open_device(self) -> Device:
        """A new queue on the device."""

    def bind(self, device: Device, batch: int) -> BoundNetwork:
        """The network on a queue, for a batch size."""
