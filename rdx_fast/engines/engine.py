"""The interface of engines to the pipelines and the Detector."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from rdx_fast.kernels.cosine_map import Floats
from rdx_fast.manifest import ExecutionSpec, Manifest

if TYPE_CHECKING:
    from rdx_fast.devices.device import BoundNetwork, Device


@dataclass(frozen=True, slots=True)
class GpuOptions:
    """Options of engines on a GPU.

    Attributes:
        device: index of the GPU, 0 is the first
        batches: smallest, usual and largest batch that a TensorRT plan is built for; the largest is
            also the most images that torch takes at once. Larger batches are scored in parts. The
            smallest must be 1
        workspace_mb: MB of GPU memory that TensorRT may use while it searches for the fastest plan
        compile: compile the network with ``torch.compile`` (backend "torch" only)

    Raises:
        ValueError: a value is out of range
    """

    device: int = 0
    batches: tuple[int, int, int] = (1, 1, 32)
    workspace_mb: int = 4096
    compile: bool = False

    def __post_init__(self) -> None:
        smallest, usual, largest = self.batches
        if not 1 == smallest <= usual <= largest:
            raise ValueError(
                f"batches are {self.batches}, wanted smallest, usual and largest, in this order; "
                f"the smallest must be 1, since the remainder of a split batch is scored too"
            )
        if self.device < 0:
            raise ValueError(f"device is {self.device}, wanted 0 or more")
        if self.workspace_mb < 1:
            raise ValueError(f"workspace_mb is {self.workspace_mb}, wanted at least 1")


Progress = Callable[[str, int, int], None]
"""Called with the name of what is being built, the steps done and the steps in all."""


class Chunk(NamedTuple):
    """Features of ``n`` consecutive images of a batch.

    The arrays may be the engine's own buffers: use them before requesting the next chunk.

    Attributes:
        start: index of the first of these images in the batch
        teacher: maps ``[n, C_s, h_s, w_s]``, one for each scale, finest first
        student: the same from the student
    """

    start: int
    teacher: list[Floats]
    student: list[Floats]


class Engine(Protocol):
    """A network ready to run.

    Attributes:
        manifest: of the bundle
        execution: which of the bundle's networks runs, in which precision, and its threshold
    """

    manifest: Manifest
    execution: ExecutionSpec

    @property
    def description(self) -> str:
        """What runs and why, as text: backend, device, the precision actually executed, the stored
        network, threads."""

    @property
    def on_device(self) -> bool:
        """Whether features stay on a device (``DeviceEngine``) or are returned in host memory
        (``HostEngine``)."""

    def close(self) -> None:
        """Free the engine; its pipelines raise ``EngineError`` afterwards."""


class HostEngine(Engine, Protocol):
    """An engine that returns features in host memory.

    ``run`` may be called from several threads at once.
    """

    @property
    def frame_threads(self) -> int:
        """CPU threads that are idle while the network does not run; they resize large frames."""

    def run(self, inputs: NDArray[np.float32]) -> Iterator[Chunk]:
        """Features of ``inputs``, ``[B, 3, H, W]`` float32 normalised, in chunks, in order."""


class DeviceEngine(Engine, Protocol):
    """An engine that works with a device's queue and memory."""

    @property
    def kernels(self) -> str:
        """Which kernels run around the network, as text."""

    @property
    def max_batch(self) -> int:
        """The most images that the network takes at once."""

    @property
    def closed(self) -> bool:
        """Whether the engine is closed: graphs that were recorded with it must not run."""

    def open_device(self) -> Device:
        """Open a new queue on the device."""

    def bind(self, device: Device, batch: int) -> BoundNetwork:
        """Prepare the network on a device's queue for one batch size."""
