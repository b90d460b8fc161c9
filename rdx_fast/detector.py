"""The main path: frames in, verdicts out."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from contextlib import closing
from pathlib import Path
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from rdx_fast.bundle import open_bundle
from rdx_fast.engines import Engine, Progress, open_engine
from rdx_fast.errors import EngineError
from rdx_fast.kernels.epilogue import Epilogue
from rdx_fast.kernels.resize_normalize import Crop
from rdx_fast.manifest import ThresholdSpec
from rdx_fast.pipelines import BatchScores, ScoreOptions, open_pipeline
from rdx_fast.pipelines.streaming import ScoreStream, stream_scores
from rdx_fast.pipelines.tiled import in_tiles
from rdx_fast.postprocess import AnomalyMapper
from rdx_fast.preprocess import Batch, Frame
from rdx_fast.result import Result
from rdx_fast.tiling import TileSpec


class Detector:
    """Scores images with an engine bundle. Safe to call from several threads; a context manager.

    Scores differ a little between precisions, so each has a threshold of its own: ``threshold`` is
    the one in force.

    Args:
        engine: path of a bundle, or an opened engine (see ``open_engine``, which has more options)
        backend: "auto", "openvino" (CPU), "tensorrt" or "torch" (GPU)
        threads: CPU threads of the engine, None for its own choice
        region: region of interest, bool [H, W] of the manifest's map size, with tiles of the whole
            map's; scores and areas are of what lies inside
        top_k: also give the mean of that many largest map values
        tiles: score frames in tiles, whose maps are blended to one; None for whole frames
        precision: what is executed, "fp32", "fp16", "bf16", "int8" or "fp8"; None for the fastest
            that the bundle holds and this machine has
        on_progress: called with step, steps done and steps in all while a TensorRT plan is built

    Raises:
        BundleError: the bundle is incomplete or damaged
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
        tiles: TileSpec | None = None,
    ) -> None:
        if isinstance(engine, str | Path):
            bundle, report = open_bundle(engine), on_progress or (lambda *_: None)
            self.engine = open_engine(
                bundle, backend, threads, on_progress=report, precision=precision
            )
        elif backend != "auto" or (threads, precision, on_progress) != (None, None, None):
            raise ValueError(
                "backend, threads, precision and on_progress are the opened engine's own: leave "
                "them out"
            )
        else:
            self.engine = engine
        self.manifest = self.engine.manifest
        epilogue = Epilogue(region, self.threshold.value, top_k)
        mapper = AnomalyMapper(self.manifest.map, self.manifest.scales, None if tiles else epilogue)
        pipeline = open_pipeline(self.engine, mapper)
        self.tiles, self._pipeline = tiles, in_tiles(pipeline, tiles, mapper.size, epilogue)
        self.description = self._pipeline.description

    @property
    def threshold(self) -> ThresholdSpec:
        """What scores are judged by: the bundle's, for the precision that is executed."""
        return self.engine.execution.threshold

    def score(
        self,
        batch: Batch,
        maps: bool = True,
        pixel_format: str | None = None,
        crop: Crop | None = None,
    ) -> Result:
        """Score one image or a batch.

        Args:
            batch: uint8 RGB [H, W, 3], mono [H, W], [B, H, W, 3], or a list of such images of any
                sizes. An engine on a GPU also takes arrays that lie there, without a copy and in
                the order of their owner's stream: of torch, CuPy, PyCUDA, of anything with DLPack
                or ``__cuda_array_interface__``
            maps: whether ``Result.anomaly_maps`` is wanted; without, none is written
            pixel_format: "rgb", "bgr", "mono", "bayer_rggb", "bayer_bggr", "bayer_grbg" or
                "bayer_gbrg"; None is RGB for three channels and mono for one
            crop: top, left, height, width in frame pixels of what is shown to the network

        Raises:
            ValueError: a batch of another type or shape, an empty one, or NaN
            EngineError: the engine fails, or gives a score that is not finite
        """
        begin = perf_counter()
        scored = self._pipeline.score(batch, ScoreOptions(maps, pixel_format, crop))
        return self._result(scored, begin)

    def stream(
        self,
        frames: Iterable[Frame],
        batch: int = 1,
        depth: int = 2,
        maps: bool = False,
        pixel_format: str | None = None,
        crop: Crop | None = None,
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

        Raises:
            ValueError: as for ``score``; at once for a ``batch`` or ``depth`` below 1
            EngineError: as for ``score``
        """
        if batch < 1 or depth < 1:
            raise ValueError(f"batch is {batch} and depth {depth}, wanted at least 1 of each")
        options = ScoreOptions(maps, pixel_format, crop)
        return self._results(stream_scores(self._pipeline, frames, batch, depth, options))

    def _results(self, stream: ScoreStream) -> Generator[Result, None, None]:
        with closing(stream):
            for scored, begin in stream:
                yield self._result(scored, begin)

    def _result(self, scored: BatchScores, begin: float) -> Result:
        # NaN compares false with any threshold: it must never pass for a good part.
        summary, anomaly_maps, seconds = scored
        scores = summary.maxima
        if not np.isfinite(scores).all():
            bad = np.flatnonzero(~np.isfinite(scores)).tolist()
            raise EngineError(f"the engine gave scores that are not finite, for images {bad}")
        seconds = {**seconds, "total": perf_counter() - begin}
        return Result(
            scores=scores,
            anomaly_maps=anomaly_maps,
            top_means=summary.top_means,
            areas=summary.areas,
            is_anomalous=scores > self.threshold.value,
            threshold=self.threshold.value,
            timings_ms={stage: 1000 * taken for stage, taken in seconds.items()},
            executed=self.engine.execution.executed,
            engine=self.description,
        )

    def warmup(self, runs: int = 3, batch: int = 1, depth: int = 1) -> None:
        """Score grey frames, so that the first real ones find buffers, caches and graphs ready.

        Args:
            runs: how often, with and without maps
            batch: frames scored at a time; an engine on a GPU prepares each size by itself
            depth: batches in flight, as ``stream`` will have
        """
        shown = self.tiles or self.manifest.input
        grey = np.full((shown.height, shown.width, 3), 128, np.uint8)
        for maps in (True, False):
            for _ in range(runs):
                self.score([grey] * batch, maps)  # in this thread, which has buffers of its own
            if depth > 1:
                for _ in self.stream([grey] * (runs * depth * batch), batch, depth, maps):
                    pass

    def close(self) -> None:
        """Free the engine and what its pipeline holds."""
        self._pipeline.close()
        self.engine.close()

    def __enter__(self) -> Detector:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
