"""The benchmark of GPUs without one: what it runs and records, not how fast anything is."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer

from rdx_fast import Detector
from rdx_fast.bench import gpu, gpu_engines
from rdx_fast.bench.gpu_engines import Subject, measure_engine, measure_rivals
from rdx_fast.bench.steps import Step, Target, run_steps
from rdx_fast.bundle import Bundle
from rdx_fast.engines import GpuOptions
from rdx_fast.engines.torch_engine import TorchEngine
from rdx_fast.errors import DeviceLostError, MissingDependencyError
from support.checkout import ROOT

COMMON = {"commit": "abc", "gpu": "a GPU", "versions": {"torch": "2"}}
SAME = ("commit", "gpu")


class Steps:
    """Steps that count their calls; those of ``errors`` fail."""

    def __init__(self, names: str, errors: dict[str, BaseException] | None = None) -> None:
        self.called: list[str] = []
        self.errors = errors or {}
        self.steps: list[Step] = [(name, partial(self.measure, name)) for name in names]

    def measure(self, name: str) -> Iterator[dict[str, Any]]:
        self.called.append(name)
        yield {"value": 1}
        if name in self.errors:
            raise self.errors[name]
        yield {"value": 2}

    def run(self, output: Path | None, budget: float = 1e9, **common: Any) -> dict[str, str]:
        return run_steps(self.steps, COMMON | common, SAME, output, budget)


def rows(output: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.read_text().splitlines()]


def test_rows_of_steps(tmp_path: Path) -> None:
    output = tmp_path / "new" / "rows.jsonl"
    assert Steps("ab").run(output) == {"a": "done", "b": "done"}
    found = rows(output)
    assert [row["step"] for row in found] == ["a"] * 4 + ["b"] * 4
    assert [row.get("state", row.get("value")) for row in found[:4]] == ["begun", 1, 2, "done"]
    assert all(row.items() >= COMMON.items() and row["time"] for row in found)


def test_a_second_call_goes_on(tmp_path: Path) -> None:
    output = tmp_path / "rows.jsonl"
    first = Steps("abc", {"b": RuntimeError("no luck")})
    assert first.run(output) == {"a": "done", "b": "failed", "c": "done"}
    failed = [row["failed"] for row in rows(output) if "failed" in row]
    assert failed == ["RuntimeError: no luck"]
    second = Steps("abcd")
    assert second.run(output) == dict.fromkeys("abcd", "done")
    assert second.called == ["d", "b"]  # what was never tried goes first
    for common in ({"commit": "def"}, {"gpu": "another GPU"}):
        other = Steps("ab")
        other.run(output, **common)
        assert other.called == ["a", "b"]


def test_rows_are_written_as_they_come(tmp_path: Path) -> None:
    """A call may be killed at any time, while it writes too."""
    output = tmp_path / "rows.jsonl"
    with pytest.raises(KeyboardInterrupt):
        Steps("abc", {"b": KeyboardInterrupt()}).run(output)
    assert [row.get("state", row.get("value")) for row in rows(output)][-2:] == ["begun", 1]
    with output.open("a") as file:
        file.write('{"step": "b", "sta\n')
    second = Steps("abc")
    assert second.run(output) == dict.fromkeys("abc", "done")
    assert second.called == ["c", "b"]


def test_budget(tmp_path: Path) -> None:
    time = [0.0]

    def slow() -> Iterator[dict[str, Any]]:
        time[0] += 10
        yield {}

    steps: list[Step] = [(name, slow) for name in "abc"]
    states = run_steps(steps, COMMON, SAME, tmp_path / "rows.jsonl", 15, lambda: time[0])
    assert states == {"a": "done", "b": "done", "c": "not run"}
    assert Steps("a").run(None, budget=0) == {"a": "not run"}


@pytest.mark.parametrize(
    "error", [DeviceLostError("gone"), RuntimeError("CUDA error: an illegal memory access")]
)
def test_a_lost_gpu_ends_the_call(tmp_path: Path, error: Exception) -> None:
    output = tmp_path / "rows.jsonl"
    first = Steps("abc", {"b": error})
    assert first.run(output) == {"a": "done", "b": "failed", "c": "not run"}
    second = Steps("abc", {"b": error})
    assert second.run(output) == {"a": "done", "b": "failed", "c": "done"}
    assert second.called == ["c", "b"]


def test_targets() -> None:
    p50 = Target("p50", 1.0, at_most=True)
    assert p50.judged(1.0) == {"target": "p50 <= 1.0", "value": 1.0, "met": True}
    assert p50.judged(1.1)["met"] is p50.judged(float("nan"))["met"] is False
    fps = Target("frames/s", 5500, at_most=False)
    assert [fps.judged(value)["met"] for value in (5499.0, 5500.0)] == [False, True]


def test_steps_of_a_gpu(tmp_path: Path) -> None:
    subject = Subject(None, "resnet18", tmp_path, None)
    names = [name for name, _ in gpu.all_steps(subject, ROOT / "tests", 10, 0.1)]
    assert names[: len(gpu.TESTS)] == [f"tests of {name}" for name in gpu.TESTS]
    last = ["torch, compiled", "torch.compile alone", "recovery of a lost GPU"]
    assert names[-3:] == last
    assert len(set(names)) == len(names)
    without = [name for name, _ in gpu.all_steps(subject, None, 10, 0.1)]
    assert without == names[len(gpu.TESTS) : -1]
    with pytest.raises(typer.BadParameter, match="holds no tests of aot, cosine_map"):
        gpu.all_steps(subject, tmp_path, 10, 0.1)
    source = (ROOT / "tests/gpu/test_gpu.py").read_text()
    assert source.count(f"def {gpu.LOST}") == 1
    assert list(tmp_path.iterdir()) == []  # nothing is exported before a step asks for it


@pytest.mark.slow
def test_tests_run_as_a_step(tmp_path: Path) -> None:
    file = tmp_path / "test_it.py"
    file.write_text("def test_a(): pass\ndef test_lost(): raise ValueError('an error')\n")
    (row,) = gpu.run_tests(file, "not lost")
    assert row["tests"] == "test_it"
    assert row["passed"].startswith("1 passed, 1 deselected")
    with pytest.raises(RuntimeError, match=r"tests fail on this GPU[\s\S]*ValueError: an error"):
        list(gpu.run_tests(file, "lost"))


@pytest.fixture
def on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """``measure_engine`` with the torch engine on a CPU, and targets as on a GPU."""
    monkeypatch.setattr(gpu_engines, "STREAM_BATCHES", (1, 2))
    monkeypatch.setattr(gpu_engines, "LATENCY_BATCHES", (1, 2))
    monkeypatch.setattr(Subject, "limit_fps", 1e6)

    def opened(bundle: Bundle, backend: str, gpu: GpuOptions) -> TorchEngine:
        return TorchEngine(bundle, "cpu", gpu)

    monkeypatch.setattr(gpu_engines, "open_engine", opened)
    monkeypatch.setattr(gpu_engines.torch.cuda, "get_device_name", lambda: "NVIDIA H200 NVL")
    return partial(measure_engine, calls=100, seconds=0.05)


@pytest.mark.slow
def test_rows_about_one_engine(
    bundle: Bundle, tmp_path: Path, on_the_cpu: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject = Subject(bundle.path, "", tmp_path, None)
    assert subject.targets() == {}  # of another network
    spec = bundle.manifest.input
    of = (bundle.manifest.method, bundle.manifest.backbone, (spec.height, spec.width))
    monkeypatch.setattr(gpu_engines, "TARGETS_OF", of)
    found = list(on_the_cpu(subject, "torch", GpuOptions()))
    assert found[0]["verdicts_that_differ"] == 0
    assert [row["batch"] for row in found if "latency_ms" in row] == [1, 2, 1]
    assert [row["batch"] for row in found if "fps" in row] == [1, 2]
    judged = [target for row in found for target in row.get("targets", ())]
    assert [target["target"] for target in judged] == [
        "ms from host to host at batch 1, p50 <= 1.0",
        "ms from host to host at batch 1, p99 <= 1.3",
        "frames/s at the best batch >= 6500",
    ]
    assert judged[-1]["value"] == pytest.approx(max(r["fps"] for r in found if "fps" in r), abs=0.1)
    assert all("fused" in row["engine"] and row["open_s"] > 0 for row in found)


def test_an_engine_that_is_not_installed(
    bundle: Bundle, tmp_path: Path, on_the_cpu: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing() -> None:
        raise MissingDependencyError("tensorrt", "running on a GPU", "tensorrt")

    monkeypatch.setattr(gpu_engines, "load_api", missing)
    subject = Subject(bundle.path, "", tmp_path, None)
    (row,) = on_the_cpu(subject, "tensorrt", GpuOptions())
    assert "tensorrt" in row["not_installed"]


def test_nothing_is_timed_that_scores_otherwise(
    bundle: Bundle, tmp_path: Path, on_the_cpu: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def louder(self: Detector, frames: Any, **options: Any) -> Iterator[Any]:
        scale = 1.1 if "torch" in self.description else 1.0
        for frame in frames:
            result = self.score(frame)
            yield type("Scored", (), {"scores": scale * np.atleast_1d(result.scores)})

    monkeypatch.setattr(Detector, "stream", louder)
    subject = Subject(bundle.path, "", tmp_path, None)
    with pytest.raises(RuntimeError, match="nothing is timed"):
        list(on_the_cpu(subject, "torch", GpuOptions()))


def test_rows_about_what_is_replaced(
    bundle: Bundle, tmp_path: Path, on_the_cpu: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def of_the_cpu(network: Any, manifest: Any, device: str, compiled: bool) -> Any:
        assert not compiled
        return published(network, manifest, "cpu")

    published = gpu_engines.rivals
    monkeypatch.setattr(gpu_engines, "rivals", of_the_cpu)
    targets = {"published": gpu_engines.TARGETS["published"]}
    monkeypatch.setattr(Subject, "targets", lambda _: targets)
    subject = Subject(bundle.path, "", tmp_path, None)
    agreed, row = measure_rivals(subject, compiled=False, calls=3)
    assert agreed["verdicts_that_differ"] == 0
    assert row["rival"] == "published"
    (judged,) = row["targets"]
    assert judged["target"] == "times faster than the published pipeline >= 15"
    assert judged["value"] == row["times_longer"][1]
