"""What a bundle's recipe and limits mean for an opened engine: frames, regions, verdicts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rdx_fast.defects import Defect, find_defects
from rdx_fast.engines import Engine
from rdx_fast.errors import EngineError
from rdx_fast.judge import Judge
from rdx_fast.kernels.epilogue import Epilogue, region_labels
from rdx_fast.kernels.resize_normalize import Crop, Levels
from rdx_fast.limits.limits import Limits
from rdx_fast.pipelines import BatchScores, Pipeline, ScoreOptions, open_pipeline
from rdx_fast.pipelines.pipeline import nothing
from rdx_fast.pipelines.tiled import in_tiles
from rdx_fast.postprocess import AnomalyMapper
from rdx_fast.preprocess import Batch, Frame, FrameOptions, as_frames
from rdx_fast.recipe.frame_check import FrameCheck
from rdx_fast.recipe.regions import map_labels, map_size
from rdx_fast.result import Result


class AppliedRecipe:
    """Of one ``Detector``, whose arguments these are.

    Args:
        engine: the opened engine
        region: region of interest, for a recipe without regions
        top_k: number of largest map values in the top mean
        limits: other limits than the bundle's
        check_frames: whether frames that cannot be pictures of a part are refused

    Attributes:
        recipe: of the bundle
        limits: of its regions
        calibration: see ``Detector``
        labels: of the map, likewise

    Raises:
        RecipeError: the recipe was changed after the limits were calibrated
        ValueError: the region or the limits do not fit the recipe
    """

    def __init__(
        self,
        engine: Engine,
        region: NDArray[np.bool_] | None,
        top_k: int,
        limits: Sequence[Limits] | None,
        check_frames: bool,
    ) -> None:
        self._engine, self._top_k, self._own_region = engine, top_k, region is not None
        self.recipe = engine.manifest.recipe
        self._judge = Judge.of_engine(engine, limits)
        self.limits, self.calibration = self._judge.limits, self._judge.calibration
        self.labels = region_labels(region)
        if self.recipe.regions:
            if region is not None:
                raise ValueError("region is given and the recipe has regions: leave it out")
            spec = engine.manifest.map
            size = map_size(self.recipe, (spec.height, spec.width))
            self.labels = map_labels(self.recipe, size, engine.bundle.mask)
        good = engine.manifest.frames.get(engine.execution.label)
        self._frame_check = FrameCheck(self.recipe.frame.size, check_frames, good)

    def open_pipeline(self) -> Pipeline:
        """Open the pipeline that reads scores and areas of the regions."""
        manifest, tiles = self._engine.manifest, self.recipe.tiles
        thresholds = tuple(limit.ok_below.value for limit in self.limits)
        epilogue = Epilogue(self.labels, thresholds, self._top_k)
        mapper = AnomalyMapper(manifest.map, manifest.scales, None if tiles else epilogue)
        return in_tiles(open_pipeline(self._engine, mapper), tiles, mapper.size, epilogue)

    def options(
        self,
        maps: bool,
        pixel_format: str | None = None,
        crop: Crop | None = None,
        levels: Levels | None = None,
    ) -> ScoreOptions:
        """What is asked for, or what the recipe states. Raises ``ValueError`` if they differ."""
        found = FrameOptions.of_recipe(self.recipe, pixel_format, crop, levels)
        return ScoreOptions(maps, found.pixel_format, found.crop, found.levels)

    def check(self, batch: Batch, options: ScoreOptions) -> Callable[[], None]:
        """Check that a batch fits, which needs no pixels.

        Returns:
            what looks at the pixels; it raises ``ValueError`` if a frame must not be scored, see
            ``FrameCheck``

        Raises:
            ValueError: type, shape or size do not fit the recipe or the options
        """
        if not isinstance(batch, np.ndarray | list | tuple) and _is_array(batch):  # on a GPU
            self._frame_check.on_device(_shape(batch))
            return nothing
        wanted = FrameOptions(options.pixel_format, options.crop, options.levels)
        frames = as_frames(batch)
        for frame in frames:
            wanted.check(frame)
            self._frame_check.size(frame.shape[:2])
        return partial(self._look_at, frames, options)

    def _look_at(self, frames: Sequence[Frame], options: ScoreOptions) -> None:
        for frame in frames:
            self._frame_check(frame, options.crop, options.levels)

    def checked(self, frame: Frame, options: ScoreOptions) -> Frame:
        """The frame. Raises ``ValueError`` for one that does not fit or must not be scored."""
        self.check([frame], options)()
        return frame

    def grey_frame(self) -> Frame:
        """A frame as the recipe wants it, halfway between black and white."""
        frame = self.recipe.frame
        shown = self.recipe.tiles or self._engine.manifest.input
        height, width = frame.size or (shown.height, shown.width)
        if frame.size is None and frame.crop is not None:
            height, width = frame.crop[0] + frame.crop[2], frame.crop[1] + frame.crop[3]
        colour = frame.pixel_format in (None, "rgb", "bgr")
        shape = (height, width, 3) if colour else (height, width)
        if frame.levels is None:
            return np.full(shape, 128, np.uint8)
        return np.full(shape, sum(frame.levels) // 2, np.uint16)

    def result(self, scored: BatchScores, options: ScoreOptions, description: str) -> Result:
        """Judge scores. Raises ``EngineError`` for one that is not finite."""
        # NaN compares false with any limit: it must never pass for a good part.
        summary, anomaly_maps, seconds = scored
        if not np.isfinite(summary.maxima).all():
            bad = np.flatnonzero(~np.isfinite(summary.maxima).all(axis=1)).tolist()
            raise EngineError(f"the engine gave scores that are not finite, for images {bad}")
        judged = self._judge(summary.maxima)
        one = summary.maxima.shape[1] == 1  # the usual case
        return Result(
            scores=summary.maxima[:, 0] if one else judged.of_deciding(summary.maxima),
            verdicts=judged.verdicts,
            p_values=judged.p_values if self._calibrated(options) else None,
            anomaly_maps=anomaly_maps,
            top_means=summary.top_means,
            areas=summary.areas[:, 0] if one else summary.areas.sum(axis=1),
            region_scores=summary.maxima,
            region_areas=summary.areas,
            deciding=judged.deciding,
            limits=self.limits,
            timings_ms={stage: 1000 * taken for stage, taken in seconds.items()},
            executed=self._engine.execution.executed,
            engine=description,
        )

    def _calibrated(self, options: ScoreOptions) -> bool:
        """Whether calibration scores are of what is shown and inspected."""
        return options.crop == self.recipe.frame.crop and not self._own_region

    def defects(
        self, result: Result, frame_size: tuple[int, int], crop: Crop | None
    ) -> list[list[Defect]]:
        """See ``Detector.defects``."""
        if result.anomaly_maps is None:
            raise ValueError("the result has no anomaly maps: score with maps=True")
        crop = self.options(True, crop=crop).crop
        scale = self.recipe.mm_per_pixel
        return [
            find_defects(of, result.limits, self.labels, frame_size, crop, scale)
            for of in result.anomaly_maps
        ]


def _is_array(batch: Any) -> bool:
    return hasattr(batch, "__cuda_array_interface__") or hasattr(batch, "__dlpack__")


def _shape(array: Any) -> tuple[int, ...] | None:
    """Shape of an array on a GPU; None for one that does not tell."""
    interface = getattr(array, "__cuda_array_interface__", None)
    shape = getattr(array, "shape", None) if interface is None else interface["shape"]
    return None if shape is None else tuple(shape)
