"""The CPU pipeline: CPU kernels before and after an engine with features in host memory."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter

import numpy as np

from rdx_fast.engines.engine import HostEngine
from rdx_fast.errors import EngineError
from rdx_fast.kernels.epilogue import MapStats
from rdx_fast.kernels.native import IMPLEMENTATION
from rdx_fast.pipelines.pipeline import BatchScores, ScoreOptions
from rdx_fast.postprocess import AnomalyMapper
from rdx_fast.preprocess import Batch, as_frames, to_input


class CpuPipeline:
    """A ``pipeline.Pipeline`` that runs preprocessing, network and postprocessing in sequence."""

    def __init__(self, engine: HostEngine, mapper: AnomalyMapper) -> None:
        self.description = f"{engine.description}; kernels {IMPLEMENTATION}"
        self._engine = engine
        self._mapper = mapper
        # Two, so that one batch is preprocessed or postprocessed while the network runs another.
        self._workers = ThreadPoolExecutor(2, thread_name_prefix="rdx_fast")

    def score(self, batch: Batch, options: ScoreOptions) -> BatchScores:
        begin = perf_counter()
        frames = as_frames(batch)
        spec = self._engine.manifest.input
        inputs = to_input(
            frames,
            spec,
            options.pixel_format,
            options.crop,
            self._engine.frame_threads,
            options.levels,
        )
        preprocessed = perf_counter()

        summary = MapStats.empty(len(frames), self._mapper.epilogue)  # NaN until inspected
        maps = np.empty((len(frames), *self._mapper.size), np.float32) if options.maps else None
        postprocess = 0.0
        for chunk in self._engine.run(inputs):
            arrived = perf_counter()
            where = slice(chunk.start, chunk.start + len(chunk.teacher[0]))
            target = None if maps is None else maps[where]
            summary.put(where, self._mapper(chunk.teacher, chunk.student, target))
            postprocess += perf_counter() - arrived
        seconds = {
            "preprocess": preprocessed - begin,
            "network": perf_counter() - preprocessed - postprocess,
            "postprocess": postprocess,
        }
        return BatchScores(summary, maps, seconds)

    def submit(self, batch: Batch, options: ScoreOptions) -> Callable[[], BatchScores]:
        try:
            return self._workers.submit(self.score, batch, options).result
        except RuntimeError as error:
            raise EngineError("the engine is closed: open a new one") from error

    def close(self) -> None:
        self._workers.shutdown()
