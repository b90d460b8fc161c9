"""Rows of measurements: the facts that all have in common, and writing them."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rdx_fast.cpu import cpu_features
from rdx_fast.detector import Detector
from rdx_fast.doctor import describe_cpu


def facts(bench: str, packages: Iterable[str]) -> dict[str, Any]:
    """Facts about a measurement: time, commit, CPU, its instruction sets, and versions.

    ``max_cpu_isa`` is the instruction set to which oneDNN, in OpenVINO and torch, is restricted, if
    it is.

    Args:
        bench: name of the benchmark
        packages: whose versions to include
    """
    restricted = os.environ.get("ONEDNN_MAX_CPU_ISA")
    command = ["git", "describe", "--always", "--dirty"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "bench": bench,
        "commit": done.stdout.strip() or "unknown",
        "cpu": describe_cpu(),
        "cpu_features": list(cpu_features()),
        **({} if restricted is None else {"max_cpu_isa": restricted}),
        "versions": {name: version(name) for name in ("rdx_fast", *packages)},
    }


def network_facts(detector: Detector) -> dict[str, Any]:
    """The network that a Detector runs, and its precision."""
    manifest, execution = detector.manifest, detector.engine.execution
    file = manifest.networks[execution.stored]
    return {
        "bundle_sha256": manifest.files[file].sha256,
        "method": manifest.method,
        "backbone": manifest.backbone,
        "stored": execution.stored,
        "precision": execution.executed,
    }


def spread(ratios: NDArray[np.float64], digits: int) -> list[float]:
    """The 10th, 50th and 90th percentile."""
    return [round(float(p), digits) for p in np.percentile(ratios, (10, 50, 90))]


def spread_text(percentiles: Sequence[float]) -> str:
    """The result of ``spread`` as text for a table."""
    low, middle, high = percentiles
    return f"{middle} ({low} to {high})"


def append(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Append rows to a file of JSON lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as stream:
        stream.writelines(json.dumps(row) + "\n" for row in rows)
