"""What every pipeline is to the Detector."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from rdx_fast.kernels.epilogue import MapStats
from rdx_fast.kernels.resize_normalize import Crop


class ScoreOptions(NamedTuple):
    """How frames are scored; see ``Detector.score``."""

    maps: bool = True
    pixel_format: str | None = None
    crop: Crop | None = None


class BatchScores(NamedTuple):
    """What was read off a batch's maps; the maps ``[B, H, W]`` float32 if wanted; seconds that each
    stage took."""

    summary: MapStats
    anomaly_maps: NDArray[np.float32] | None
    seconds: dict[str, float]


class Pipeline(Protocol):
    """The steps of a batch: preprocessing, network, postprocessing.

    Called from several threads at once. Raises ``ValueError`` for a batch that is not taken,
    ``EngineError`` if the engine fails.
    """

    description: str

    def inspect(self, batch: Any, options: ScoreOptions) -> BatchScores:
        """Score a batch, now."""

    def submit(self, batch: Any, options: ScoreOptions) -> Callable[[], BatchScores]:
        """Begin with a batch; the returned function, to be called once, waits for its end."""

    def close(self) -> None:
        """Free what is the pipeline's own."""
