"""Benchmarks of kernels and Detector with pytest-benchmark:
``python -m pytest -n0 bench/suite.py --benchmark-json=new.json``, then
``python -m rdx_fast.bench.compare_suites bench/results/baseline.json new.json``.

A reference operation outside our code, the yardstick, is timed before every round, so that two runs
can be compared even if the machine's speed has changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import pytest

from rdx_fast.bench.generated import generated_bundle
from rdx_fast.bench.kernels import pairs
from rdx_fast.bench.measure import drawn_frame
from rdx_fast.detector import Detector

ROUNDS = 100
UNSORTED = np.random.default_rng(0).random(50_000)


def run(benchmark: Any, call: Callable[[], object], rounds: int = ROUNDS) -> None:
    yardstick: list[float] = []

    def before_round() -> None:
        begin = perf_counter()
        np.sort(UNSORTED)
        yardstick.append(perf_counter() - begin)

    for _ in range(5):
        call()
    benchmark.pedantic(call, setup=before_round, rounds=rounds)
    benchmark.extra_info["yardstick"] = yardstick


@pytest.fixture(scope="session")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Detector]:
    bundle = generated_bundle("efficientnet_lite0", "fp32", tmp_path_factory.mktemp("bundle"))
    with Detector(bundle.path, threads=2) as opened:
        yield opened


@pytest.mark.parametrize(
    "pair", list(pairs(1)), ids=lambda pair: f"{pair.operation}, {pair.against}"
)
def test_kernel(benchmark: Any, pair: Any) -> None:
    run(benchmark, pair.ours)


@pytest.mark.parametrize("size", [256, 1024])
@pytest.mark.parametrize("maps", [True, False])
def test_score(benchmark: Any, detector: Detector, size: int, maps: bool) -> None:
    frame = drawn_frame(size, size)
    run(benchmark, lambda: detector.score(frame, maps=maps))


def test_score_batch(benchmark: Any, detector: Detector) -> None:
    frames = [drawn_frame(1024, 1024, seed) for seed in range(4)]
    run(benchmark, lambda: detector.score(frames), rounds=30)


def test_stream(benchmark: Any, detector: Detector) -> None:
    frames = [drawn_frame(1024, 1024, seed) for seed in range(8)]
    run(benchmark, lambda: list(detector.stream(frames)), rounds=20)


def test_open(benchmark: Any, tmp_path: Path) -> None:
    path = generated_bundle("efficientnet_lite0", "fp32", tmp_path).path
    run(benchmark, lambda: Detector(path).close(), rounds=10)
