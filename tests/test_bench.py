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

from rdx_fast import Detector, Result
from rdx_fast.bench import gpu, gpu_engines
from rdx_fast.bench.generated import generated_bundle
from rdx_fast.bundle import Bundle
from rdx_fast.engines.torch_engine import TorchEngine
from rdx_fast.models import make_network


def test_latency_rows(bundle: Bundle, tmp_path: Path) -> None:
    output = tmp_path / "rows.jsonl"
    command = [sys.executable, "-P", "-m", "rdx_fast.bench.latency"]
    done = subprocess.run(
        [*command, bundle.path, bundle.path, "--calls", "10", "--output", output],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "around network" in done.stdout.replace("\n", " ")
    rows = [json.loads(line) for line in output.read_text().splitlines()]
    assert len(rows) == 2
    for row in rows:
        assert row["bundle_sha256"] == bundle.manifest.files["network.onnx"].sha256
        assert row["calls"] == 10
        assert 0 < row["p50_ms"]["network"] < row["p50_ms"]["total"] <= row["p99_ms"]
        assert 0 < row["share_around_network"] < 1
    assert rows[0]["ratio_to_first"] == [1.0, 1.0, 1.0]


class Louder:
    """A Detector that scores a tenth more than another."""

    def __init__(self, other: Detector) -> None:
        self.other = other

    def stream(self, *arguments: Any, **options: Any) -> Iterator[Result]:
        for result in self.other.stream(*arguments, **options):
            yield replace(result, scores=1.1 * result.scores)


def test_rows_about_engines(bundle: Bundle) -> None:
    """The benchmark of GPU engines, on the CPU: what it computes, not how fast anything is."""
    frames = np.stack(gpu.drawn_frames(bundle))
    manifest = bundle.manifest
    with Detector(TorchEngine(bundle, "cpu")) as detector, Detector(bundle.path) as cpu:
        row = gpu_engines.parity(detector, cpu, list(frames))
        assert 0 < row["score_difference"] < 1e-4
        assert row["frames"] == len(frames)
        with pytest.raises(RuntimeError, match="nothing is timed"):
            gpu_engines.parity(Louder(cpu), cpu, list(frames))  # type: ignore[arg-type]
        row = gpu_engines.latency(detector, frames[:2], calls=10)
        assert 0 < row["p50_ms"] <= row["p90_ms"] <= row["p99_ms"] <= row["p99.9_ms"]
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
    assert (manifest.backbone, manifest.precision) == ("efficientnet_lite0", "fp32")
    assert manifest.training["teacher_weights"] == "generated"
