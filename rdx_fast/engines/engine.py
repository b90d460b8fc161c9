"""The interface of engines to the pipelines and the Detector."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from rdx_fast.bundle.bundle import Bundle
from rdx_fast.bundle.manifest import ExecutionSpec, Manifest
from rdx_fast.kernels.cosine_map import Floats

if TYPE_CHECKING:
    from rdx_fast.devices.device import BoundNetwork, Device


@dataclass(frozen=True, slots=True)
class GpuOptions:
    """Options of engines on a GPU.

    Attributes:
        device: index of the GPU, 0 is the first
        max_batch: the most images that the network takes at once. Larger batches are scored in
            parts
        workspace_mb: MB of GPU memory that TensorRT may use while it searches for the fastest plan
        optimization_level: how long TensorRT searches for the fastest plan, 0 to 5; at 5 also for
            tilings that keep data in the GPU's L2 cache. TensorRT for RTX knows no levels but 3
        compile: compile the network with ``torch.compile`` (backend "torch" only)
        fuse: run convolution, residual addition and ReLU as one operator of cuDNN; False runs the
            graph as it was exported, for comparison (backend "torch" only; without effect if
            ``compile``, which fuses by itself)

    Raises:
        ValueError: a value is out of range or of another type
    """

    device: int = 0
    max_batch: int = 128
    workspace_mb: int = 4096
    optimization_level: int = 3
    compile: bool = False
    fuse: bool = True

    def __post_init__(self) -> None:
        for name, least, most, wanted in (
            ("device", 0, None, "the index of a GPU as an integer, 0 or more"),
            ("max_batch", 1, None, "an integer, at least 1"),
            ("workspace_mb", 1, None, "an integer, at least 1"),
            ("optimization_level", 0, 5, "an integer, 0 to 5"),
        ):
            value = getattr(self, name)
            # type(), since True is an int.
            if type(value) is not int or value < least or (most is not None and value > most):
                raise ValueError(f"{name} is {value!r}, wanted {wanted}")

    @property
    def profiles(self) -> tuple[tuple[int, int, int], ...]:
        """Ranges of batches that a TensorRT plan is optimised for, each as its smallest, usual and
        largest batch. Together they hold every batch up to ``max_batch``."""
        ranges = ((1, 1, 1), (2, 8, 8), (9, 32, self.max_batch))
        return tuple(
            (smallest, min(usual, self.max_batch), min(largest, self.max_batch))
            for smallest, usual, largest in ranges
            if smallest <= self.max_batch
        )


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
        bundle: what was opened
        manifest: of the bundle
        execution: which of the bundle's networks runs, in which precision, and its limits
    """

    bundle: Bundle
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
