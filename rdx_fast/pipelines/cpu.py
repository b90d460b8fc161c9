"""The CPU pipeline: CPU kernels before and after an engine with features in host memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from rdx_fast.bundle.manifest import InputSpec
from rdx_fast.engines.engine import Chunk
from rdx_fast.errors import EngineError
from rdx_fast.kernels.epilogue import MapStats
from rdx_fast.pipelines.pipeline import BatchScores, ScoreOptions, maps_of, nothing
from rdx_fast.postprocess import AnomalyMapper
from rdx_fast.preprocess import Batch, as_frames, to_input

PART_BYTES = 2**25  # of the inputs of windows that are scored at once


class CpuPipeline:
    """A ``pipeline.WindowPipeline`` that runs preprocessing, network and postprocessing in
    sequence.

    Args:
        description: of engine and kernels
        run: features of an input batch, see ``HostEngine.run``
        spec: the network's input
        mapper: operators of the postprocessing
        frame_threads: see ``HostEngine``
    """

    def __init__(
        self,
        description: str,
        run: Callable[[NDArray[np.float32]], Iterator[Chunk]],
        spec: InputSpec,
        mapper: AnomalyMapper,
        frame_threads: int = 1,
    ) -> None:
        self.description = description
        self.max_windows = max(8, PART_BYTES // (4 * 3 * spec.height * spec.width))
        self.parts_in_flight = 1  # another would share the CPU and need as much memory again
        self._run = run
        self._spec = spec
        self._mapper = mapper
        self._frame_threads = frame_threads
        # Two, so that one batch is preprocessed or postprocessed while the network runs another.
        self._workers = ThreadPoolExecutor(2, thread_name_prefix="rdx_fast")

    def score(
        self, batch: Batch, options: ScoreOptions, check: Callable[[], None] = nothing
    ) -> BatchScores:
        begin = perf_counter()
        check()
        inputs = to_input(
            as_frames(batch),
            self._spec,
            options.pixel_format,
            options.crop,
            self._frame_threads,
            options.levels,
            options.windows,
        )
        preprocessed = perf_counter()

        summary = MapStats.empty(len(inputs), self._mapper.epilogue)  # NaN until inspected
        maps = maps_of(options, len(inputs), self._mapper.size)
        postprocess = 0.0
        for chunk in self._run(inputs):
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

    def shapes(self, batch: Batch) -> list[tuple[int, ...]]:
        return [frame.shape for frame in as_frames(batch)]

    def close(self) -> None:
        self._workers.shutdown()
