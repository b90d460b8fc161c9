"""The main path: frames in, verdicts out."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from contextlib import closing
from pathlib import Path
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from rdx_fast.bundle import open_bundle
from rdx_fast.defects import Defect, find_defects
from rdx_fast.engines import Engine, Progress, open_engine
from rdx_fast.errors import EngineError
from rdx_fast.frame_check import FrameCheck
from rdx_fast.judge import Judge
from rdx_fast.kernels.epilogue import Epilogue, region_labels
from rdx_fast.kernels.resize_normalize import Crop, Levels
from rdx_fast.limits import Limits, ThresholdSpec
from rdx_fast.pipelines import BatchScores, Pipeline, ScoreOptions, open_pipeline
from rdx_fast.pipelines.streaming import ScoreStream, stream_scores
from rdx_fast.pipelines.tiled import in_tiles
from rdx_fast.postprocess import AnomalyMapper
from rdx_fast.preprocess import Batch, Frame, FrameOptions, as_frames
from rdx_fast.regions import map_labels, map_size
from rdx_fast.result import Result


class Detector:
    """Scores images with an engine bundle. Safe to call from several threads; a context manager.

    Frames are inspected as the bundle's recipe says. Scores differ a little between precisions, so
    each has limits of its own: ``limits`` are those in force.

    Args:
        engine: path of a bundle, or an opened engine (see ``open_engine``, which has more options)
        backend: "auto", "openvino" (CPU), "tensorrt" or "torch" (GPU)
        threads: CPU threads of the engine, None for its own choice
        region: region of interest, bool [H, W] of the manifest's map size, with tiles of the whole
            map's, for a recipe without regions; scores and areas are of what lies inside
        top_k: also give the mean of that many largest map values
        precision: what is executed, "fp32", "fp16", "bf16", "int8" or "fp8"; None for the fastest
            that the bundle holds and this machine has
        on_progress: called with step, steps done and steps in all while a TensorRT plan is built
        limits: other limits than the bundle's, for each region of the recipe
        check_frames: whether frames in host memory that cannot be pictures of a part are refused,
            see ``rdx_fast.frame_check``

    Attributes:
        manifest: of the bundle
        recipe: what of a frame is inspected
        limits: what scores are judged by, for each region of the recipe
        labels: uint8 [H, W] of the map, the number of each pixel's region, counted from 1; 0 is not
            inspected. None if the whole map is one region
        description: of engine and kernels

    Raises:
        BundleError: the bundle is incomplete or damaged
        RecipeError: the recipe was changed after the limits were calibrated
        EngineError: the engine cannot be opened
        ValueError: an argument is invalid
    """

    def __init__(
        self,
        engine: str | Path | Engine,
        backend: str = "auto",
        threads: int | None = None,
        region: NDArray[np.bool_] | None = None,
        top_k: int = 0,
        precision: str | None = None,
        on_progress: Progress | None = None,
        limits: Sequence[Limits] | None = None,
        check_frames: bool = True,
    ) -> None:
        if isinstance(engine, str | Path):
            bundle, report = open_bundle(engine), on_progress or (lambda *_: None)
            self.engine = open_engine(
                bundle, backend, threads, on_progress=report, precision=precision
            )
        elif backend != "auto" or (threads, precision, on_progress) != (None, None, None):
            raise ValueError(
                "backend, threads, precision and on_progress are the opened engine's own: omit them"
            )
        else:
            self.engine = engine
        self.manifest = self.engine.manifest
        self.recipe = self.manifest.recipe
        self._judge = Judge.of_engine(self.engine, limits)
        self.limits = self._judge.limits
        good = self.manifest.frames if check_frames else None
        self._frame_check = FrameCheck(self.recipe.frame.size, check_frames, good)
        self._pipeline = self._open(self._epilogue(region, top_k))
        self.description = self._pipeline.description

    def _epilogue(self, region: NDArray[np.bool_] | None, top_k: int) -> Epilogue:
        spec = self.manifest.map
        labels = self.labels = region_labels(region)
        if self.recipe.regions:
            if region is not None:
                raise ValueError("region is given and the recipe has regions: leave it out")
            size = map_size(self.recipe, (spec.height, spec.width))
            labels = self.labels = map_labels(self.recipe, size, self.engine.bundle.mask)
        thresholds = tuple(limit.ok_below.value for limit in self.limits)
        return Epilogue(labels, thresholds, top_k)

    def _open(self, epilogue: Epilogue) -> Pipeline:
        tiles = self.recipe.tiles
        mapper = AnomalyMapper(self.manifest.map, self.manifest.scales, None if tiles else epilogue)
        return in_tiles(open_pipeline(self.engine, mapper), tiles, mapper.size, epilogue)

    @property
    def threshold(self) -> ThresholdSpec:
        """What is OK in the first region of the recipe."""
        return self.limits[0].ok_below

    def score(
        self,
        batch: Batch,
        maps: bool = True,
        pixel_format: str | None = None,
        crop: Crop | None = None,
        levels: Levels | None = None,
    ) -> Result:
        """Score one image or a batch.

        Args:
            batch: uint8 or uint16: RGB [H, W, 3], mono [H, W], [B, H, W, 3], or a list of images of
                any sizes. An engine on a GPU also takes arrays that lie there, of anything with
                DLPack or ``__cuda_array_interface__``, without a copy and in their stream's order
            maps: whether ``Result.anomaly_maps`` is wanted; without, none is written
            pixel_format: "rgb", "bgr", "mono", "bayer_rggb", "bayer_bggr", "bayer_grbg" or
                "bayer_gbrg"; None is RGB for three channels and mono for one
            crop: top, left, height, width in frame pixels of what is shown to the network
            levels: black and white of uint16 images, (0, 4095) for 12 bits; None for uint8

        Raises:
            ValueError: a batch of another type or shape, an empty one, NaN, or unfit options
            EngineError: the engine fails, or gives a score that is not finite
        """
        begin = perf_counter()
        options = self._options(maps, pixel_format, crop, levels)
        self._check(batch, options)
        scored = self._pipeline.score(batch, options)
        return self._result(scored, begin)

    def stream(
        self,
        frames: Iterable[Frame],
        batch: int = 1,
        depth: int = 2,
        maps: bool = False,
        pixel_format: str | None = None,
        crop: Crop | None = None,
        levels: Levels | None = None,
    ) -> Generator[Result, None, None]:
        """Score frames as they come, and yield the results of each batch in order.

        While one batch is scored the next is fetched and prepared. Results lag ``depth - 1``
        batches behind the frames: a line that waits for each verdict wants ``score``. If ``frames``
        raises, or a batch fails, what came before is yielded first; the exception then ends the
        stream.

        Args:
            frames: as ``score`` takes them; none may be written to before its result is there
            batch: frames scored at a time; the last batch may be smaller
            depth: batches in flight at most; no more frames than theirs are held
            maps: as for ``score``
            pixel_format: as for ``score``
            crop: as for ``score``
            levels: as for ``score``

        Raises:
            ValueError: as for ``score``; at once for a ``batch`` or ``depth`` below 1
            EngineError: as for ``score``
        """
        if batch < 1 or depth < 1:
            raise ValueError(f"batch is {batch} and depth {depth}, wanted at least 1 of each")
        options = self._options(maps, pixel_format, crop, levels)
        checked = (self._checked(frame, options) for frame in frames)
        return self._results(stream_scores(self._pipeline, checked, batch, depth, options))

    def _results(self, stream: ScoreStream) -> Generator[Result, None, None]:
        with closing(stream):
            for scored, begin in stream:
                yield self._result(scored, begin)

    def _options(
        self,
        maps: bool,
        pixel_format: str | None = None,
        crop: Crop | None = None,
        levels: Levels | None = None,
    ) -> ScoreOptions:
        """Raises ``ValueError`` if the recipe states something else."""
        found = FrameOptions.of_recipe(self.recipe, pixel_format, crop, levels)
        return ScoreOptions(maps, found.pixel_format, found.crop, found.levels)

    def _check(self, batch: Batch, options: ScoreOptions) -> None:
        """Raises ``ValueError`` for a frame that must not be scored, see ``FrameCheck``."""
        if hasattr(batch, "shape") and not isinstance(batch, np.ndarray):  # on a GPU
            self._frame_check.on_device(batch.shape)
            return
        for frame in as_frames(batch):
            self._frame_check(frame, options.crop, options.levels)

    def _checked(self, frame: Frame, options: ScoreOptions) -> Frame:
        self._check([frame], options)
        return frame

    def _result(self, scored: BatchScores, begin: float) -> Result:
        # NaN compares false with any limit: it must never pass for a good part.
        summary, anomaly_maps, seconds = scored
        if bad := np.flatnonzero(~np.isfinite(summary.maxima).all(axis=1)).tolist():
            raise EngineError(f"the engine gave scores that are not finite, for images {bad}")
        judged = self._judge(summary.maxima)
        seconds = {**seconds, "total": perf_counter() - begin}
        return Result(
            scores=np.take_along_axis(summary.maxima, judged.deciding[:, None], axis=1)[:, 0],
            verdicts=judged.verdicts,
            p_values=judged.p_values,
            anomaly_maps=anomaly_maps,
            top_means=summary.top_means,
            areas=summary.areas.sum(axis=1),
            region_scores=summary.maxima,
            region_areas=summary.areas,
            deciding=judged.deciding,
            limits=self.limits,
            timings_ms={stage: 1000 * taken for stage, taken in seconds.items()},
            executed=self.engine.execution.executed,
            engine=self.description,
        )

    def defects(
        self, result: Result, frame_size: tuple[int, int], crop: Crop | None = None
    ) -> list[list[Defect]]:
        """The defects of each image of a result, see ``find_defects``.

        Args:
            result: with anomaly maps
            frame_size: height and width of the frames that were scored
            crop: as it was given to ``score``

        Raises:
            ValueError: the result has no maps, or the crop exceeds the frame
        """
        if result.anomaly_maps is None:
            raise ValueError("the result has no anomaly maps: score with maps=True")
        crop = self._options(True, crop=crop).crop
        scale = self.recipe.mm_per_pixel
        return [
            find_defects(of, result.limits, self.labels, frame_size, crop, scale)
            for of in result.anomaly_maps
        ]

    def warmup(self, runs: int = 3, batch: int = 1, depth: int = 1) -> None:
        """Score grey frames, so that the first real ones find buffers, caches and graphs ready.

        Args:
            runs: how often, with and without maps
            batch: frames scored at a time; an engine on a GPU prepares each size by itself
            depth: batches in flight, as ``stream`` will have
        """
        grey = self._grey_frame()
        for maps in (True, False):
            options = self._options(maps)
            for _ in range(runs):
                # In this thread, which has buffers of its own.
                self._pipeline.score([grey] * batch, options)
            if depth > 1:
                frames = [grey] * (runs * depth * batch)
                for _ in stream_scores(self._pipeline, frames, batch, depth, options):
                    pass

    def _grey_frame(self) -> Frame:
        """A frame of the recipe, without contents."""
        frame = self.recipe.frame
        shown = self.recipe.tiles or self.manifest.input
        height, width = frame.size or (shown.height, shown.width)
        if frame.size is None and frame.crop is not None:
            height, width = frame.crop[0] + frame.crop[2], frame.crop[1] + frame.crop[3]
        colour = frame.pixel_format in (None, "rgb", "bgr")
        dtype = np.uint8 if frame.levels is None else np.uint16
        return np.full((height, width, 3) if colour else (height, width), 128, dtype)

    def close(self) -> None:
        """Free the engine and what its pipeline holds."""
        self._pipeline.close()
        self.engine.close()

    def __enter__(self) -> Detector:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
