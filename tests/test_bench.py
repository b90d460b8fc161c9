from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from rdx_fast.bench.generated import generated_bundle
from rdx_fast.bundle import Bundle


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


def test_generated_bundle_opens(tmp_path: Path) -> None:
    manifest = generated_bundle("efficientnet_lite0", "fp32", tmp_path, size=64).manifest
    assert (manifest.backbone, manifest.precision) == ("efficientnet_lite0", "fp32")
    assert manifest.training["teacher_weights"] == "generated"
