"""The main path: frames in, verdicts out."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from contextlib import closing
from pathlib import Path
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from rdx_fast.applied_recipe import AppliedRecipe
from rdx_fast.bundle.bundle import open_bundle
from rdx_fast.defects import Defect
from rdx_fast.engines import Engine, Progress, open_engine
from rdx_fast.kernels.resize_normalize import Crop, Levels
from rdx_fast.limits.limits import Limits, ThresholdSpec
from rdx_fast.limits.relative import relative_map
from rdx_fast.pipelines import BatchScores, ScoreOptions
from rdx_fast.pipelines.streaming import ScoreStream, stream_scores
from rdx_fast.preprocess import Batch, Frame
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
            see ``rdx_fast.recipe.frame_check``
        public_key: file of a key that must have signed the bundle, and the TensorRT plans and
            kernels in it; None opens unsigned ones too

    Attributes:
        manifest: of the bundle
        recipe: what of a frame is inspected
        limits: what scores are judged by, for each region of the recipe
        calibration: scores of good images that the limits came from, float32 [n, R]; None for none
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
        public_key: Path | None = None,
    ) -> None:
        if isinstance(engine, str | Path):
            report = on_progress or (lambda *_: None)
            self.engine = _opened(Path(engine), public_key, backend, threads, report, precision)
        elif backend != "auto" or {threads, precision, on_progress, public_key} != {None}:
            raise ValueError(
                "backend, threads, precision, on_progress and public_key are for a bundle, and an "
                "opened engine was given: omit them"
            )
        else:
            self.engine = engine
        self.manifest = self.engine.manifest
        self.recipe = self.manifest.recipe
        try:
            self._applied = AppliedRecipe(self.engine, region, top_k, limits, check_frames)
            self._pipeline = self._applied.open_pipeline()
        except BaseException:
            if self.engine is not engine:
                self.engine.close()
            raise
        self.limits, self.labels = self._applied.limits, self._applied.labels
        self.calibration = self._applied.calibration
        self.description = self._pipeline.description

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
            crop: top, left, height, width in frame pixels of what is shown to the network. Limits
                and p-values are those of the recipe's crop: with one that the recipe does not
                state, the limits promise nothing, and there are no p-values
            levels: black and white of uint16 images, (0, 4095) for 12 bits; None for uint8

        Raises:
            ValueError: a batch of another type or shape, an empty one, NaN, or unfit options
            EngineError: the engine fails, or gives a score that is not finite
        """
        begin = perf_counter()
        options = self._applied.options(maps, pixel_format, crop, levels)
        look = self._applied.check(batch, options)
        scored = self._pipeline.score(batch, options, look)
        return self._result(scored, options, begin)

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
        options = self._applied.options(maps, pixel_format, crop, levels)
        checked = (self._applied.checked(frame, options) for frame in frames)
        stream = stream_scores(self._pipeline, checked, batch, depth, options)
        return self._results(stream, options)

    def _results(self, stream: ScoreStream, options: ScoreOptions) -> Generator[Result, None, None]:
        with closing(stream):
            for scored, begin in stream:
                yield self._result(scored, options, begin)

    def _result(self, scored: BatchScores, options: ScoreOptions, begin: float) -> Result:
        result = self._applied.result(scored, options, self.description)
        result.timings_ms["total"] = 1000 * (perf_counter() - begin)
        return result

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
        return self._applied.defects(result, frame_size, crop)

    def relative_map(self, anomaly_map: NDArray[np.float32]) -> NDArray[np.float32]:
        """An anomaly map of a result, float32 [H, W], as multiples of the OK limit of each pixel's
        region; 0 where nothing is inspected."""
        return relative_map(anomaly_map, self.limits, self.labels)

    def warmup(self, runs: int = 3, batch: int = 1, depth: int = 1) -> None:
        """Score grey frames, so that the first real ones find buffers, caches and graphs ready.

        Args:
            runs: how often, with and without maps
            batch: frames scored at a time; an engine on a GPU prepares each size by itself
            depth: batches in flight, as ``stream`` will have
        """
        grey = self._applied.grey_frame()
        for maps in (True, False):
            options = self._applied.options(maps)
            for _ in range(runs):
                # In this thread, which has buffers of its own.
                self._pipeline.score([grey] * batch, options)
            if depth > 1:
                frames = [grey] * (runs * depth * batch)
                for _ in stream_scores(self._pipeline, frames, batch, depth, options):
                    pass

    def close(self) -> None:
        """Free the engine and what its pipeline holds."""
        self._pipeline.close()
        self.engine.close()

    def __enter__(self) -> Detector:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _opened(
    path: Path,
    public_key: Path | None,
    backend: str,
    threads: int | None,
    on_progress: Progress,
    precision: str | None,
) -> Engine:
    """The engine of the bundle in a folder."""
    while True:
        bundle = open_bundle(path, public_key)
        engine = open_engine(bundle, backend, threads, on_progress=on_progress, precision=precision)
        if bundle.is_current():
            return engine
        engine.close()  # another version was released meanwhile: the network may be that one's
