"""The benchmark of GPUs without one: what it runs and records, not how fast anything is."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer

from rdx_fast import Detector
from rdx_fast.bench import gpu, gpu_engines
from rdx_fast.bench.gpu_engines import (
    Subject,
    check_tensorrt,
    copying_frames,
    measure_latency,
    measure_rivals,
    measure_staging,
    measure_stream,
)
from rdx_fast.bench.steps import NotApplicable, Step, Target, recorded, run_steps
from rdx_fast.bundle.bundle import Bundle
from rdx_fast.engines import GpuOptions
from rdx_fast.engines.tensorrt.api import Api
from rdx_fast.engines.torch_engine import TorchEngine
from rdx_fast.errors import DeviceLostError, MissingDependencyError
from rdx_fast.pipelines import staging
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

    def run(
        self,
        output: Path,
        budget: float = 1e9,
        between: Callable[[], None] = lambda: None,
        **common: Any,
    ) -> dict[str, str]:
        return run_steps(self.steps, COMMON | common, SAME, output, budget, between)


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
    (trace,) = [row["traceback"] for row in rows(output) if "traceback" in row]
    assert "raise self.errors[name]" in trace
    assert trace.endswith("RuntimeError: no luck")
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
    output = tmp_path / "rows.jsonl"
    states = run_steps(steps, COMMON, SAME, output, 15, clock=lambda: time[0])
    assert states == {"a": "done", "b": "done", "c": "not run"}
    assert Steps("a").run(tmp_path / "other.jsonl", budget=0) == {"a": "not run"}


def test_a_long_traceback_is_kept_from_its_end(tmp_path: Path) -> None:
    error = RuntimeError("no luck")
    error.add_note("\n".join(map(str, range(100))))
    Steps("a", {"a": error}).run(tmp_path / "rows.jsonl")
    (row,) = (row for row in rows(tmp_path / "rows.jsonl") if "failed" in row)
    assert row["failed"] == "RuntimeError: no luck"
    assert row["traceback"].splitlines() == [str(line) for line in range(70, 100)]


def test_a_step_with_nothing_to_measure_is_done(tmp_path: Path) -> None:
    output = tmp_path / "rows.jsonl"
    first = Steps("ab", {"a": NotApplicable("not installed here")})
    assert first.run(output) == {"a": "done", "b": "done"}
    reasons = [row["not_measured"] for row in rows(output) if "not_measured" in row]
    assert reasons == ["not installed here"]


def test_between_steps(tmp_path: Path) -> None:
    """Memory is freed after each step, a failed one too; where that fails, the GPU is lost."""
    output = tmp_path / "rows.jsonl"
    seen: list[list[str]] = []
    steps = Steps("abc", {"a": RuntimeError("no luck")})
    steps.run(output, between=lambda: seen.append(list(steps.called)))
    assert seen == [["a"], ["a", "b"], ["a", "b", "c"]]

    def lost() -> None:
        raise RuntimeError("CUDA error: unspecified launch failure")

    others = Steps("abc", {"a": ValueError("in no words that are known")})
    states = others.run(tmp_path / "others.jsonl", between=lost)
    assert states == {"a": "failed", "b": "not run", "c": "not run"}


@pytest.mark.parametrize(
    "error",
    [
        DeviceLostError("gone"),
        RuntimeError("CUDA error: an illegal memory access was encountered"),
        RuntimeError("Triton Error [CUDA]: an illegal memory access was encountered"),
    ],
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
    tests = [f"tests of {name}" for name in ("the kernels", "gpu", "gpu_training")]
    assert names[:3] == tests
    last = ["torch, compiled: latency at batch 1", "torch, compiled: frames/s at batch 32"]
    assert names[-4:] == [*last, "torch.compile alone", "a lost GPU"]
    assert len(set(names)) == len(names)
    without = [name for name, _ in gpu.all_steps(subject, None, 10, 0.1)]
    assert without == names[3:-1]
    with pytest.raises(typer.BadParameter, match="holds no tests of aot, cosine_map"):
        gpu.all_steps(subject, tmp_path, 10, 0.1)
    source = (ROOT / "tests/gpu/test_gpu.py").read_text()
    assert source.count(f"def {gpu.LOST}") == 1
    assert list(tmp_path.iterdir()) == []  # nothing is exported before a step asks for it


def test_best_rates() -> None:
    """Of a step that ran again the last row counts, not the best."""
    found = [
        {"step": "a at 1", "engine": "a", "batch": 1, "fps": 900.0},
        {"step": "a at 2", "engine": "a", "batch": 2, "fps": 300.0},
        {"step": "a at 1", "engine": "a", "batch": 1, "fps": 100.0},
        {"step": "b at 1", "engine": "b", "batch": 1, "fps": 50.0},
        {"step": "b at 1", "state": "done"},
    ]
    assert gpu.best_rates(found) == {"a": found[1], "b": found[3]}


@pytest.mark.slow
def test_tests_run_as_a_step(tmp_path: Path) -> None:
    file = tmp_path / "test_it.py"
    file.write_text(
        "import time\n"
        "def test_a(): pass\n"
        "def test_lost(): raise ValueError('an error')\n"
        "def test_hangs(): time.sleep(600)\n"
    )
    (row,) = gpu.run_tests([file], "test_a")
    assert row["tests"] == ["test_it"]
    assert row["passed"].startswith("1 passed, 2 deselected")
    with pytest.raises(RuntimeError, match="tests fail on this GPU") as failed:
        list(gpu.run_tests([file], "lost"))
    assert "ValueError: an error" not in str(failed.value)  # of another process
    assert "ValueError: an error" in "".join(failed.value.__notes__)
    with pytest.raises(RuntimeError, match="took longer than 3 s and were killed") as killed:
        list(gpu.run_tests([file], "hangs", seconds=3))
    assert "test_it.py::test_hangs" in "".join(killed.value.__notes__)


class Opened:
    """Engines that were opened, in order."""

    def __init__(self) -> None:
        self.engines: list[TorchEngine] = []

    def __call__(self, bundle: Bundle, backend: str, gpu: GpuOptions) -> TorchEngine:
        self.engines.append(TorchEngine(bundle, "cpu", gpu))
        return self.engines[-1]


@pytest.fixture
def on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> Opened:
    """The torch engine on a CPU, and targets as on a GPU."""
    monkeypatch.setattr(gpu_engines, "STREAM_BATCHES", (1, 2))
    monkeypatch.setattr(gpu_engines, "LATENCY_BATCHES", (1, 2))
    monkeypatch.setattr(Subject, "limit_fps", 1e6)
    opened = Opened()
    monkeypatch.setattr(gpu_engines, "open_engine", opened)
    cuda = gpu_engines.torch.cuda
    monkeypatch.setattr(cuda, "get_device_name", lambda: "NVIDIA H200 NVL")
    monkeypatch.setattr(cuda, "get_device_capability", lambda: (9, 0))
    return opened


@pytest.fixture
def subject(bundle: Bundle, tmp_path: Path) -> Iterator[Subject]:
    found = Subject(bundle.path, "", tmp_path, None)
    yield found
    found.close()


def steps_of_an_engine(subject: Subject, calls: int = 10) -> list[Step]:
    return gpu.engine_steps("it", subject, "torch", GpuOptions(), calls, 0.05, copied=True)


@pytest.mark.slow
def test_rows_about_one_engine(
    bundle: Bundle,
    subject: Subject,
    on_the_cpu: Opened,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert subject.targets() == {}  # of another network
    spec = bundle.manifest.input
    of = (bundle.manifest.method, bundle.manifest.backbone, (spec.height, spec.width))
    monkeypatch.setattr(gpu_engines, "TARGETS_OF", of)
    output = tmp_path / "rows.jsonl"
    states = run_steps(steps_of_an_engine(subject, 100), COMMON, SAME, output, 1e9)
    assert set(states.values()) == {"done"}
    found = [row for row in rows(output) if "state" not in row]
    assert len(on_the_cpu.engines) == 1  # for all steps
    timed = [row for row in found if "latency_ms" in row and "read_in_place" not in row]
    assert [(row["batch"], row["maps"]) for row in timed] == [(1, False), (1, True), (2, False)]
    assert [row["batch"] for row in found if "fps" in row] == [1, 2]
    judged = [target["target"] for row in found for target in row.get("targets", ())]
    assert judged == [
        "ms from host to host at batch 1, p50 <= 1.0",
        "ms from host to host at batch 1, p99 <= 1.3",
        *["frames/s at the best batch >= 6500"] * 2,
    ]
    assert all(row["engine"].startswith("torch") and row["open_s"] > 0 for row in found)
    (best,) = gpu.best_rates(recorded(output, COMMON, SAME)).values()
    assert best["fps"] == max(row["fps"] for row in found if "fps" in row)
    # Each figure follows the comparison for the same batch.
    for before, row in pairwise(found):
        if ("fps" in row or "latency_ms" in row) and "read_in_place" not in row:
            assert before["verdicts_that_differ"] == 0
            assert before["batch"] == row["batch"]
            assert before["bind_s"] > 0


def test_a_killed_step_is_resumed(
    subject: Subject, on_the_cpu: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "rows.jsonl"
    steps = [step for step in steps_of_an_engine(subject) if "frames/s" in step[0]]
    timed: list[int] = []

    def throughput(detector: Detector, frames: Any, batch: int, seconds: float) -> float:
        timed.append(batch)
        if timed == [1, 2]:
            raise KeyboardInterrupt
        return 100.0

    monkeypatch.setattr(gpu_engines, "throughput", throughput)
    with pytest.raises(KeyboardInterrupt):
        run_steps(steps, COMMON, SAME, output, 1e9)
    states = run_steps(steps, COMMON, SAME, output, 1e9)
    assert set(states.values()) == {"done"}
    assert timed == [1, 2, 2]
    assert [row["batch"] for row in rows(output) if "fps" in row] == [1, 2]


def test_one_detector_is_open_at_a_time(subject: Subject, on_the_cpu: Opened) -> None:
    other = GpuOptions(fuse=False)
    with subject.detector("torch", GpuOptions()) as (first, _):
        pass
    with subject.detector("torch", GpuOptions()) as (again, _):
        assert again is first
    with pytest.raises(ValueError, match="of the step"), subject.detector("torch", other):
        raise ValueError("of the step")
    with subject.detector("torch", other):
        pass
    assert [engine.closed for engine in on_the_cpu.engines] == [True, True, False]
    subject.close()
    assert on_the_cpu.engines[-1].closed


def test_an_engine_that_is_not_installed(
    subject: Subject, on_the_cpu: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing() -> None:
        raise MissingDependencyError("tensorrt", "running on a GPU", "tensorrt")

    monkeypatch.setattr(gpu_engines, "load_api", missing)
    with pytest.raises(NotApplicable, match="tensorrt"):
        list(measure_stream(subject, "tensorrt", GpuOptions(), 1, 0.05))
    assert on_the_cpu.engines == []


def test_an_engine_that_is_not_made_for_the_gpu(
    subject: Subject, on_the_cpu: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No kernels are built for it in vain."""
    capabilities = type("", (), {"__members__": {"SM86": 0, "SM120": 0}})
    module = type("", (), {"ComputeCapability": capabilities, "__version__": "1.7"})
    monkeypatch.setattr(gpu_engines, "load_api", lambda: Api(module, rtx=True))
    built: list[Bundle] = []
    monkeypatch.setattr(gpu_engines, "prepare_kernels", built.append)
    with pytest.raises(NotApplicable, match=r"builds no plans for compute capability 9\.0"):
        list(measure_latency(subject, "tensorrt", GpuOptions(), 1, 10))
    assert built == on_the_cpu.engines == []
    check_tensorrt(86)


@pytest.mark.parametrize("only_batch", [1, 2])
def test_nothing_is_timed_that_scores_otherwise(
    subject: Subject, on_the_cpu: Opened, only_batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each batch size is compared by itself."""

    def louder(
        self: Detector, frames: Any, batch: int = 1, depth: int = 1, maps: bool = False
    ) -> Iterator[Any]:
        scale = 1.1 if "torch" in self.description and batch == only_batch else 1.0
        for frame in frames:
            result = self.score(frame)
            yield type("Scored", (), {"scores": scale * np.atleast_1d(result.scores)})

    monkeypatch.setattr(Detector, "stream", louder)
    monkeypatch.setattr(gpu_engines, "throughput", lambda *_: 100.0)
    with pytest.raises(RuntimeError, match="nothing is timed"):
        list(measure_stream(subject, "torch", GpuOptions(), only_batch, 0.05))
    assert on_the_cpu.engines[-1].closed
    *_, row = measure_stream(subject, "torch", GpuOptions(), 3 - only_batch, 0.05)
    assert row["fps"] == 100.0


def test_frames_copied_or_read(
    subject: Subject, on_the_cpu: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = staging.READ_IN_PLACE
    seen: list[tuple[Detector, int]] = []
    score = Detector.score

    def watched(self: Detector, *arguments: Any, **options: Any) -> Any:
        seen.append((self, staging.READ_IN_PLACE))
        return score(self, *arguments, **options)

    monkeypatch.setattr(Detector, "score", watched)
    *compared, read, copied = measure_staging(subject, "torch", GpuOptions(), calls=3)
    assert [row["verdicts_that_differ"] for row in compared] == [0, 0]
    assert [row["read_in_place"] for row in (read, copied)] == [True, False]
    assert len(copied["times_longer"]) == 3
    default, other = seen[0][0], seen[-1][0]
    assert default is not other
    assert set(seen) == {(default, limit), (other, 0)}
    assert [detector for detector, _ in seen[-6:]] == [default, other] * 3
    assert not on_the_cpu.engines[-1].closed
    less = subject.batch[0].nbytes - 1
    monkeypatch.setattr(staging, "READ_IN_PLACE", less)
    with pytest.raises(NotApplicable, match="always copied"):
        list(measure_staging(subject, "torch", GpuOptions(), calls=3))
    with pytest.raises(ValueError, match="of a call"), copying_frames():
        raise ValueError("of a call")
    restored = staging.READ_IN_PLACE
    assert restored == less


def test_rows_about_what_is_replaced(
    subject: Subject, on_the_cpu: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    def of_the_cpu(network: Any, manifest: Any, device: str, compiled: bool) -> Any:
        assert not compiled
        return published(network, manifest, "cpu")

    published = gpu_engines.rivals
    monkeypatch.setattr(gpu_engines, "rivals", of_the_cpu)
    targets = {"published": gpu_engines.TARGETS["published"]}
    monkeypatch.setattr(Subject, "targets", lambda _: targets)
    agreed, row = measure_rivals(subject, compiled=False, calls=3)
    assert agreed["verdicts_that_differ"] == 0
    assert row["rival"] == "published"
    (judged,) = row["targets"]
    assert judged["target"] == "times faster than the published pipeline >= 15"
    assert judged["value"] == row["times_longer"][1]
