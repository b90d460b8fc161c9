"""What every engine is to the Detector."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from rdx_fast.kernels.cosine_map import Floats
from rdx_fast.manifest import Manifest


class Chunk(NamedTuple):
    """Features of images ``start`` to ``start + n`` of a batch: maps ``[n, C_s, h_s, w_s]``.

    The arrays may be the engine's own buffers: use them before asking for the next chunk.
    """

    start: int
    teacher: list[Floats]
    student: list[Floats]


class Engine(Protocol):
    """A network ready to run. ``run`` may be called from several threads at once."""

    manifest: Manifest

    @property
    def description(self) -> str:
        """What runs, for people: backend, device, the precision really executed, threads."""

    def run(self, inputs: NDArray[np.float32]) -> Iterator[Chunk]:
        """Features of ``inputs: [B, 3, H, W] float32, normalised``, chunk by chunk, in order."""

    def close(self) -> None:
        """Free the engine; ``run`` raises ``EngineError`` afterwards."""
