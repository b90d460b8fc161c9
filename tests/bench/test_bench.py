from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import typer
from torch.utils.flop_counter import FlopCounterMode
from typer.testing import CliRunner

from rdx_fast import Detector, Result
from rdx_fast.bench import (
    gpu_engines,
    growth,
    instructions,
    overhead,
    pages,
    precisions,
    soak,
)
from rdx_fast.bench.compare_suites import changes
from rdx_fast.bench.counts import operators
from rdx_fast.bench.generated import generated_bundle
from rdx_fast.bench.limits import copy_gb_s, matrix_gflops
from rdx_fast.bench.measure import STAGES, drawn_frame, stages
from rdx_fast.bench.timing import slope, summary
from rdx_fast.bundle.bundle import Bundle
from rdx_fast.cli import app
from rdx_fast.engines import Chunk
from rdx_fast.engines.openvino.compilation import capabilities
from rdx_fast.engines.openvino.engine import OpenVINOEngine
from rdx_fast.engines.torch_engine import TorchEngine
from rdx_fast.engines.torch_graph import read_network
from rdx_fast.export.exporter import network_file
from rdx_fast.models import make_network
from support.checkout import ROOT
from support.exported import SIZE


@pytest.mark.slow
def test_bench_command(bundle: Bundle, tmp_path: Path) -> None:
    output, picture = tmp_path / "rows.jsonl", tmp_path / "plot.png"
    options = ["--seconds", "0.3", "--batch", "1", "--batch", "3", "--threads", "1"]
    options += ["--frame", "60", "80", "--output", str(output), "--plot", str(picture)]
    done = CliRunner().invoke(app, ["bench", str(bundle.path), str(bundle.path), *options])
    assert done.exit_code == 0, done.output
    assert "a float32 matrix product" in done.output
    assert picture.read_bytes().startswith(b"\x89PNG")
    rows = [json.loads(line) for line in output.read_text().splitlines()]
    assert [row["times_first_bundle"] == [1.0, 1.0, 1.0] for row in rows] == [True, False]
    for row in rows:
        network = bundle.manifest.networks[row["stored"]]
        assert row["bundle_sha256"] == bundle.manifest.files[network].sha256
        assert row["calls"] >= 20
        latency = row["latency_ms"]
        assert list(latency) == list(STAGES)
        assert 0 < latency["network"]["p50"] < latency["total"]["p50"] <= latency["total"]["worst"]
        assert latency["decode"]["p50"] > 0 < latency["verdict"]["p50"]
        assert latency["copy"]["worst"] == 0
        ways = [(e["threads"], e["mode"], e["batch"]) for e in row["throughput"]]
        modes = ("latency", "throughput")
        assert ways == [(1, mode, batch) for mode in modes for batch in (1, 3)]
        assert all(entry["frames_per_s"] > 0 for entry in row["throughput"])
        start = row["start"]
        assert 0 < start["import_s"] < 60 > start["open_s"] > 0
        assert start["first_call_ms"] > 0 < start["second_call_ms"]
        assert start["peak_mb"] > 20


@pytest.mark.slow
def test_bench_of_photographs(bundle: Bundle, parts: Path) -> None:
    options = ["--images", str(parts / "test"), "--seconds", "0.1", "--batch", "1", "--json"]
    done = CliRunner().invoke(app, ["bench", str(bundle.path), *options, "--threads", "1"])
    assert done.exit_code == 0, done.output
    (row,) = json.loads(done.stdout)
    assert row["frame"] == [80, 112, 3]


def test_summary() -> None:
    found = summary(np.arange(1000.0))
    assert found == {
        "p50": 499.5,
        "p90": 899.1,
        "p99": 989.01,
        "p99.9": 998.001,
        "worst": 999.0,
        "jitter": 1.0,
    }
    assert summary(np.arange(100.0)).keys() == {"p50", "p90", "p99", "worst", "jitter"}
    assert summary(np.array([3.0])) == {"p50": 3.0, "p90": 3.0, "worst": 3.0}


def test_slope() -> None:
    sizes = np.array([1.0, 2, 4, 8])
    assert slope(sizes, 5 * sizes**1.5) == pytest.approx(1.5)


def test_stages_of_a_gpu() -> None:
    found = stages({"staging": 1.0, "device": 2.0, "total": 3.5})
    assert found == {"copy": 1.0, "network": 2.0, "map": 0.0, "verdict": 0.5, "total": 3.5}


def test_limits() -> None:
    assert 1 < matrix_gflops(1, size=128, seconds=0.05) < 10_000
    assert 0.1 < copy_gb_s(2, seconds=0.05) < 10_000


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "backbone"),
    [("rd4ad", "resnet18"), pytest.param("rd-expert", "resnet18", marks=pytest.mark.slow)],
)
def test_flops_are_those_that_torch_counts(method: str, backbone: str, networks: Path) -> None:
    network = make_network(method, backbone).eval()
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        network(torch.zeros(1, 3, *SIZE))
    kinds, flops = operators(networks / f"{method}-{backbone}-fp32" / network_file("fp32"), *SIZE)
    assert flops == pytest.approx(counter.get_total_flops(), rel=0.002)
    assert kinds["Convolution"] > 20


def run_of(times: list[float], yardstick: list[float]) -> dict[str, Any]:
    benchmark = {
        "fullname": "bench/suite.py::test_it",
        "stats": {"data": times},
        "extra_info": {"yardstick": yardstick},
    }
    return {"benchmarks": [benchmark]}


def test_compare_takes_the_machine_out() -> None:
    rng = np.random.default_rng(0)
    times = rng.normal(1, 0.05, 100)
    old = run_of(times.tolist(), [1.0] * 100)
    (same,) = changes(old, run_of((3 * times).tolist(), [3.0] * 100))
    assert same.verdict == "same"
    assert same.raw == pytest.approx(3, abs=1e-3)
    (slower,) = changes(old, run_of((1.5 * times).tolist(), [1.0] * 100))
    assert slower.verdict == "slower"
    assert slower.ratio[0] < slower.ratio[1] == pytest.approx(1.5, abs=0.05)
    with pytest.raises(ValueError, match="no benchmark in common"):
        changes(old, {"benchmarks": []})


@pytest.mark.slow
def test_baseline_is_of_this_suite() -> None:
    baseline = json.loads((ROOT / "bench/results/baseline.json").read_text())
    listed = subprocess.run(
        [
            sys.executable,
            "-P",
            "-m",
            "pytest",
            "-n0",
            ROOT / "bench/suite.py",
            "--collect-only",
            "-q",
        ],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    ).stdout
    names = {line.partition("::")[2] for line in listed.splitlines() if "::" in line}
    assert {b["fullname"].partition("::")[2] for b in baseline["benchmarks"]} == names


def test_soak(bundle: Bundle) -> None:
    with Detector(bundle.path, threads=1) as detector:
        kept = soak.soak(detector, [drawn_frame(64, 96)], rate=100, minutes=0.005)
    assert kept.shape == (30, 4)
    np.testing.assert_allclose(kept[:, 0], np.arange(30) / 100)
    assert (kept[:, 1] >= kept[:, 2]).all()
    assert (kept[:, 2:] > 0).all()
    tenths = soak.parts(kept)
    assert len(tenths) == 10
    assert tenths[1]["from_s"] == pytest.approx(0.03, abs=0.05)


@pytest.mark.slow
def test_growth(bundle: Bundle, tmp_path: Path) -> None:
    found = growth.side_by_side(bundle.path, processes=2, each=1, seconds=0.1)
    assert (found["processes"], found["detectors"]) == (2, 2)
    assert found["frames_per_s"] > 0 < found["memory_mb"]
    row: dict[str, Any] = {"backbone": "toy", "cpu": "a CPU"}
    row["by_size"] = [
        {"size": n, "preprocess_ms": n, "network_ms": n**2, "map_ms": n**3, "total_ms": n**3}
        for n in (128, 256, 512)
    ]
    row["by_batch"] = [{"batch": n, "total_ms": 3.0 * n} for n in (1, 2, 4)]
    row["parallel"] = [found | {"processes": 1, "detectors": 1}, found]
    row["slopes"] = growth.slopes(row)
    assert list(row["slopes"].values()) == [0.5, 1.0, 1.5, 1.0]
    assert "grows faster" in str([table.title for table in growth.tables(row)])
    growth.plot([row], tmp_path / "growth.png")
    assert (tmp_path / "growth.png").stat().st_size > 1000


def test_overhead(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]

    class TimedDetector(Detector):
        def score(self, *arguments: Any, **options: Any) -> Result:
            result = super().score(*arguments, **options)
            clock[0] += 0.005
            return result

    class TimedEngine(OpenVINOEngine):
        def run(self, inputs: Any) -> Iterator[Chunk]:
            yield from super().run(inputs)
            clock[0] += 0.002

    monkeypatch.setattr(overhead, "Detector", TimedDetector)
    monkeypatch.setattr(overhead, "OpenVINOEngine", TimedEngine)
    monkeypatch.setattr(overhead, "perf_counter", lambda: clock[0])
    row = overhead.overhead(bundle.path, size=64, threads=1, rounds=5)
    alone = row["network_p50_ms"]
    assert alone == 2.0
    assert row["detector_p50_ms"] >= 5.0
    assert row["overhead_ms"] == [row["detector_p50_ms"] - alone] * 3
    assert row["overhead_share"] == [row["overhead_ms"][0] / alone] * 3


@pytest.mark.slow
def test_precisions(whole_bundle: Bundle, parts: Path, tmp_path: Path) -> None:
    output = tmp_path / "rows.jsonl"
    arguments = [str(whole_bundle.path), str(parts), "--rounds", "3", "--threads", "1"]
    command = typer.Typer()
    command.command()(precisions.main)
    done = CliRunner().invoke(command, [*arguments, "--output", str(output)])
    assert done.exit_code == 0, done.output
    assert "stored as int8" in " ".join(done.output.split())
    rows = [json.loads(line) for line in output.read_text().splitlines()]
    assert len(rows) == len(whole_bundle.manifest.executions)
    fp32 = rows[0]
    assert (fp32["stored"], fp32["executed"]) == ("fp32", "fp32")
    assert (fp32["score_shift_largest"], fp32["verdicts_that_differ"]) == (0, 0)
    assert fp32["times_fp32"] == [1, 1, 1]
    by = {(row["stored"], row["executed"]): row for row in rows}
    assert by["int8", "int8"]["file_mb"] < by["fp32", "fp32"]["file_mb"]
    assert by["int8", "int8"]["p50_ms"] > 0 < by["int8", "int8"]["score_shift_mean"]
    assert by["int8_symmetric", "int8"]["p50_ms"] is None
    assert (by["fp32", "bf16"]["p50_ms"] is not None) == ("BF16" in capabilities())
    page = "<!-- figures: precisions-AMX -->\n<!-- end of figures -->"
    theirs = [row | {"cpu_features": ["AVX2", "AMX"]} for row in rows]
    assert pages.rewritten(page, theirs).count("efficientnet_lite0") == len(rows)


@pytest.mark.slow
def test_instructions(
    whole_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(instructions, "SETS", {"AVX2": "AVX2"})
    output = tmp_path / "rows.jsonl"
    instructions.main([whole_bundle.path], threads=1, rounds=3, output=output)
    rows = [json.loads(line) for line in output.read_text().splitlines()]
    assert {"fp32", "int8"} <= {row["executed"] for row in rows}
    assert rows[0]["times_fp32"] == [1, 1, 1]
    assert all(row["p50_ms"] > 0 for row in rows)
    page = "<!-- figures: instructions -->\n<!-- end of figures -->"
    assert pages.rewritten(page, rows).count("efficientnet_lite0") == len(rows)


def test_precisions_are_held_against_float32(bundle: Bundle) -> None:
    only = replace(bundle.manifest.executions[0], executed="bf16")
    without = replace(bundle.manifest, executions=(only,))
    with pytest.raises(ValueError, match="--precision auto"):
        precisions.precisions(Bundle(bundle.path, without), [], threads=1, rounds=3)


class Louder:
    """A Detector that scores a tenth more than another."""

    def __init__(self, other: Detector) -> None:
        self.other = other
        self.threshold = other.threshold

    def stream(self, *arguments: Any, **options: Any) -> Iterator[Result]:
        for result in self.other.stream(*arguments, **options):
            yield replace(result, scores=1.1 * result.scores)


def test_rows_about_engines(bundle: Bundle) -> None:
    """The benchmark of GPU engines, on the CPU: what it computes, not how fast anything is."""
    frames = np.stack(gpu_engines.drawn_frames(bundle))
    manifest = bundle.manifest
    with Detector(TorchEngine(bundle, "cpu")) as detector, Detector(bundle.path) as cpu:
        wanted = gpu_engines.Wanted(cpu.score(frames).scores, cpu.threshold.value)
        row = gpu_engines.parity(detector, wanted, list(frames), batch=8)
        assert 0 < row["score_difference"] < 1e-4
        assert row["frames"] == len(frames)
        louder: Any = Louder(cpu)
        with pytest.raises(RuntimeError, match="nothing is timed"):
            gpu_engines.parity(louder, wanted, list(frames), batch=8)
        row = gpu_engines.latency(detector, frames[:2], calls=10)
        found = row["latency_ms"]
        assert 0 < found["p50"] <= found["p90"] <= found["worst"]
        assert gpu_engines.throughput(detector, frames, batch=2, seconds=0.2) > 0
        others = gpu_engines.rivals(make_network("rd4ad", manifest.backbone), manifest, "cpu")
        (row,) = gpu_engines.against(detector.score, others, frames[0], calls=3)
        assert row["rival"] == "published"
        assert row["p50_ms"] > 0 < row["ours_p50_ms"]
    # A 1 x 1 convolution of 112 to 24 channels at 4 x 6 alone is 0.13 M of them.
    assert gpu_engines.image_flops(bundle) > 1e6
    assert gpu_engines.matrix_rate("cpu", 64) > 0


def test_generated_bundle_opens(tmp_path: Path) -> None:
    manifest = generated_bundle("efficientnet_lite0", "fp32", tmp_path, size=64).manifest
    assert (manifest.backbone, list(manifest.networks)) == ("efficientnet_lite0", ["fp32"])
    assert manifest.training["teacher_weights"] == "generated"


@pytest.mark.slow
def test_the_network_that_gpus_are_measured_with_is_float16_throughout(tmp_path: Path) -> None:
    """As trained ones are. Values too large for it would leave layers and features in float32."""
    bundle = generated_bundle("wide_resnet50_2", "fp16", tmp_path)
    network, dtype = read_network(bundle.network("fp16"))
    assert dtype == torch.float16
    assert {value.dtype for value in network.parameters()} == {torch.float16}
    assert not network.graph.find_nodes(op="call_function", target=torch.Tensor.to)
