from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from rdx_fast import Detector, Result
from rdx_fast.bundle.bundle import Bundle
from rdx_fast.errors import EngineError
from rdx_fast.kernels.epilogue import MapStats
from rdx_fast.pipelines import BatchScores, ScoreOptions
from support.trained import draw_part

Frame = NDArray[np.uint8]


pytestmark = pytest.mark.usefixtures("own_pipeline")


class Recorder:
    """An engine whose score is the frame's first pixel; batches end when they are told to."""

    description = "recorder"

    def __init__(self, bundle: Bundle) -> None:
        self.bundle, self.manifest = bundle, bundle.manifest
        (self.execution,) = bundle.manifest.executions
        self.flying = 0
        self.max_flying = 0
        self.batches: list[int] = []
        self.fail_at: int | None = None

    def pipeline(self, _: Any) -> Recorder:
        return self

    def score(self, batch: Any, options: ScoreOptions) -> BatchScores:
        return self.submit(batch, options)()

    def submit(self, batch: Any, options: ScoreOptions) -> Callable[[], BatchScores]:
        self.batches.append(len(batch))
        self.flying += 1
        self.max_flying = max(self.max_flying, self.flying)
        scores = np.array([frame[0, 0, 0] for frame in batch], np.float32)

        def result() -> BatchScores:
            self.flying -= 1
            if self.fail_at is not None and self.fail_at in scores:
                raise EngineError("it broke")
            maxima = scores[:, None]
            return BatchScores(MapStats(maxima, None, np.zeros(maxima.shape, np.int64)), None, {})

        return result

    def close(self) -> None:
        pass


def numbered(count: int, fail: Exception | None = None) -> Iterator[Frame]:
    for i in range(count):
        yield np.full((4, 4, 3), i, np.uint8)
    if fail is not None:
        raise fail


def drain(stream: Iterator[Result]) -> tuple[list[float], Exception | None]:
    """All scores, and what ended the stream."""
    scores: list[float] = []
    try:
        for result in stream:
            scores += result.scores.tolist()
    except Exception as error:
        return scores, error
    return scores, None


@pytest.mark.parametrize(("batch", "depth"), [(1, 1), (1, 3), (3, 2), (4, 2), (7, 1), (20, 5)])
def test_order_and_bounds(bundle: Bundle, batch: int, depth: int) -> None:
    engine = Recorder(bundle)
    detector = Detector(engine, check_frames=False)
    given = 0

    def counted() -> Iterator[Frame]:
        nonlocal given
        for frame in numbered(10):
            given += 1
            yield frame

    scores: list[float] = []
    for result in detector.stream(counted(), batch=batch, depth=depth):
        scores += result.scores.tolist()
        assert given <= len(scores) + (depth - 1) * batch  # held: what is in flight, no more
        assert len(result) <= batch
        assert result.timings_ms["total"] >= 0
    assert scores == list(range(10))
    assert engine.batches == [batch] * (10 // batch) + ([10 % batch] if 10 % batch else [])
    assert engine.max_flying == min(depth, -(-10 // batch))
    assert engine.flying == 0


@pytest.mark.parametrize("batch", [1, 2, 3, 10])
def test_a_source_that_fails(bundle: Bundle, batch: int) -> None:
    engine = Recorder(bundle)
    gone = ConnectionError("camera gone")
    scores, error = drain(Detector(engine, check_frames=False).stream(numbered(5, gone), batch))
    assert scores == [0, 1, 2, 3, 4]
    assert error is gone
    assert engine.flying == 0


def test_a_batch_that_fails(bundle: Bundle) -> None:
    engine = Recorder(bundle)
    engine.fail_at = 5
    scores, error = drain(
        Detector(engine, check_frames=False).stream(numbered(20), batch=2, depth=3)
    )
    assert scores == [0, 1, 2, 3]
    assert isinstance(error, EngineError)
    assert engine.flying == 0
    engine.fail_at = None
    assert len(list(Detector(engine, check_frames=False).stream(numbered(4)))) == 4


def test_left_early(bundle: Bundle) -> None:
    engine = Recorder(bundle)
    for result in Detector(engine, check_frames=False).stream(numbered(20), depth=4):
        assert result.scores.tolist() == [0]
        assert engine.flying == 3
        break
    assert engine.flying == 0


def test_nothing_comes_of_nothing(bundle: Bundle) -> None:
    detector = Detector(Recorder(bundle), check_frames=False)
    assert list(detector.stream([])) == []
    for arguments in ({"batch": 0}, {"depth": 0}):
        with pytest.raises(ValueError, match="wanted at least 1 of each"):
            detector.stream([], **arguments)


def test_on_the_host(bundle: Bundle) -> None:
    import rdx_fast.engines.openvino.network  # noqa: F401 -- starts a thread of OpenVINO's own

    rng = np.random.default_rng(5)
    frames = [draw_part(rng, defective=i % 3 == 0) for i in range(11)]
    before = threading.active_count()
    with Detector(bundle.path, "openvino", threads=1) as detector:
        whole = detector.score(frames)
        results = list(detector.stream(frames, batch=4, depth=2, maps=True))
        assert [len(r) for r in results] == [4, 4, 3]
        np.testing.assert_array_equal(np.concatenate([r.scores for r in results]), whole.scores)
        maps = [r.anomaly_maps for r in results]
        np.testing.assert_array_equal(np.concatenate(maps), whole.anomaly_maps)
        assert next(detector.stream(frames)).anomaly_maps is None

        broken = [*frames[:3], frames[3].astype(float), *frames[4:]]
        scores, error = drain(detector.stream(broken))
        assert scores == whole.scores[:3].tolist()
        assert "image 0 of the list is float64" in str(error)
    assert threading.active_count() == before
    with pytest.raises(EngineError, match="closed"):
        list(detector.stream(frames))
