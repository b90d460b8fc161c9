"""Streaming: the next batches are fetched and preprocessed while one is scored."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import suppress
from time import perf_counter

from rdx_fast.errors import RdxError
from rdx_fast.pipelines.pipeline import BatchScores, Pipeline, ScoreOptions
from rdx_fast.preprocess import Frame

ScoreStream = Generator[tuple[BatchScores, float], None, None]


def stream_scores(
    pipeline: Pipeline, frames: Iterable[Frame], batch: int, depth: int, options: ScoreOptions
) -> ScoreStream:
    """Score a stream of frames in batches. See ``Detector.stream``.

    Args:
        pipeline: scores the batches
        frames: the source
        batch: frames in a batch; the last batch may be smaller
        depth: the most batches in flight
        options: for all batches

    Yields:
        for each batch in order, its scores and its start time (of ``perf_counter``)
    """
    batches = _batches(frames, batch)
    flying: deque[tuple[float, Callable[[], BatchScores]]] = deque()
    failure: Exception | None = None
    fetching = True
    try:
        while fetching or flying:
            while fetching and len(flying) < depth:
                try:
                    given = next(batches, None)
                    if given is not None:
                        begin = perf_counter()
                        flying.append((begin, pipeline.submit(given, options)))
                except Exception as error:  # whatever the source of frames may raise
                    given, failure = None, error
                fetching = given is not None
            if flying:
                begin, result = flying.popleft()
                yield result(), begin
        if failure is not None:
            raise failure
    finally:
        # Left early: no batch may still read frames that the caller may now change.
        for _, result in flying:
            with suppress(RdxError, ValueError):
                result()


def _batches(frames: Iterable[Frame], size: int) -> Iterator[list[Frame]]:
    """Frames in lists of ``size``; the remainder comes last, even if the source raises."""
    pending: list[Frame] = []
    try:
        for frame in frames:
            pending.append(frame)
            if len(pending) == size:
                yield pending
                pending = []
    except Exception:
        if pending:
            yield pending
        raise
    if pending:
        yield pending
