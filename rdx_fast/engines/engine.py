"""What every engine is to the Detector."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from rdx_fast.kernels.cosine_map import Floats
from rdx_fast.kernels.epilogue import Summary
from rdx_fast.kernels.resize_normalize import Crop
from rdx_fast.manifest import ExecutionSpec, Manifest
from rdx_fast.postprocess import AnomalyMapper


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


class Look(NamedTuple):
    """How to look at frames; see ``Detector.score``."""

    maps: bool = True
    pixel_format: str | None = None
    crop: Crop | None = None


class Inspection(NamedTuple):
    """What was read off a batch's maps; the maps ``[B, H, W]`` float32 if wanted; seconds that each
    stage took."""

    summary: Summary
    anomaly_maps: NDArray[np.float32] | None
    seconds: dict[str, float]


class Chain(Protocol):
    """The way of a batch through an engine: before the network, the network, after it.

    Called from several threads at once. Raises ``ValueError`` for a batch that is not taken,
    ``EngineError`` if the engine fails.
    """

    description: str

    def inspect(self, batch: Any, look: Look) -> Inspection:
        """Inspect a batch, now."""

    def submit(self, batch: Any, look: Look) -> Callable[[], Inspection]:
        """Begin with a batch; the returned function, to be called once, waits for its end."""

    def close(self) -> None:
        """Free what is the chain's own."""


class Engine(Protocol):
    """A network ready to run."""

    manifest: Manifest
    execution: ExecutionSpec
    """Which of the bundle's networks runs, in what arithmetic, and its threshold."""

    @property
    def description(self) -> str:
        """What runs and why, for people: backend, device, the precision really executed and the
        network it is stored as, threads."""

    def chain(self, mapper: AnomalyMapper) -> Chain:
        """The way of frames through this engine to what ``mapper`` makes of them."""

    def close(self) -> None:
        """Free the engine; its chains raise ``EngineError`` afterwards."""


class HostEngine(Engine, Protocol):
    """An engine whose features arrive in host memory. ``run`` may be called from several threads
    at once."""

    def run(self, inputs: NDArray[np.float32]) -> Iterator[Chunk]:
        """Features of ``inputs: [B, 3, H, W] float32, normalised``, chunk by chunk, in order."""
