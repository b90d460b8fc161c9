"""The interface of pipelines to the Detector."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from rdx_fast.kernels.epilogue import MapStats
from rdx_fast.kernels.resize_normalize import Crop, Levels
from rdx_fast.preprocess import FrameWindow


class ScoreOptions(NamedTuple):
    """Options of scoring.

    Attributes:
        maps: see ``Detector.score``
        pixel_format: see ``Detector.score``
        crop: see ``Detector.score``
        levels: see ``Detector.score``
        out: ``[B, H, W]`` float32, C-contiguous, that the maps are written to; None for a new array
        windows: windows of the resized frames, each after its frame's index in the batch; they are
            scored instead of the frames, and results are of windows. None for the frames
    """

    maps: bool = True
    pixel_format: str | None = None
    crop: Crop | None = None
    levels: Levels | None = None
    out: NDArray[np.float32] | None = None
    windows: Sequence[FrameWindow] | None = None


class BatchScores(NamedTuple):
    """Scores of a batch.

    Attributes:
        summary: scores and areas read off the maps
        anomaly_maps: ``[B, H, W]`` float32, None if not requested
        seconds: wall time by stage
    """

    summary: MapStats
    anomaly_maps: NDArray[np.float32] | None
    seconds: dict[str, float]


def maps_of(
    options: ScoreOptions, images: int, size: tuple[int, int]
) -> NDArray[np.float32] | None:
    """Where the maps of a batch are written to; None if they are not wanted."""
    if not options.maps:
        return None
    return np.empty((images, *size), np.float32) if options.out is None else options.out


def nothing() -> None:
    """A check that finds nothing."""


class Pipeline(Protocol):
    """Preprocessing, network and postprocessing of a batch.

    May be called from several threads at once.

    Attributes:
        description: engine and kernels, as text

    Raises:
        ValueError: the batch is not valid
        EngineError: the engine fails or is closed
    """

    description: str

    def score(
        self, batch: Any, options: ScoreOptions, check: Callable[[], None] = nothing
    ) -> BatchScores:
        """Score a batch and return its results.

        Args:
            batch: the frames
            options: of scoring
            check: is called before the results are returned, on a GPU, of whole frames, while they
                are computed; what it raises is raised in their place
        """

    def submit(self, batch: Any, options: ScoreOptions) -> Callable[[], BatchScores]:
        """Start scoring a batch.

        Returns:
            a function that waits for the results and returns them; call it exactly once
        """

    def close(self) -> None:
        """Free the pipeline's resources, but not its engine."""


class WindowPipeline(Pipeline, Protocol):
    """A pipeline that also scores windows of frames, see ``ScoreOptions.windows``.

    Attributes:
        max_windows: the most windows that are worth giving at once
        parts_in_flight: so many of these may be started before the first is done
    """

    max_windows: int
    parts_in_flight: int

    def shapes(self, batch: Any) -> list[tuple[int, ...]]:
        """Shapes of a batch's frames, ``[H, W, 3]`` or ``[H, W]``.

        Raises:
            ValueError: the batch is not valid
        """
