"""Manifests that were edited, and as earlier versions wrote them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any


def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    file = folder / "manifest.json"
    data = json.loads(file.read_text())
    change(data)
    file.write_text(json.dumps(data))


def sign(data: dict[str, Any]) -> None:
    """The checksum of a manifest as it is now: what is refused then is refused for its contents."""
    data.pop("sha256", None)
    canonical = json.dumps(data, sort_keys=True, separators=(",", ":"))
    data["sha256"] = hashlib.sha256(canonical.encode()).hexdigest()


def ok_below(data: dict[str, Any]) -> dict[str, Any]:
    return data["executions"][0]["limits"][0]["ok_below"]


def as_format2(data: dict[str, Any]) -> None:
    """What the release before would have written."""
    for key in ("recipe", "frames", "revision", "calibration", "history", "sha256"):
        data.pop(key)
    for name in ("calibration-0.npz", "history-0.jsonl"):
        data["files"].pop(name)
    for execution in data["executions"]:
        (limits,) = execution.pop("limits")
        execution.pop("inspected_sha256")
        names = ("value", "false_reject_rate", "expected_false_reject_rate", "good_images")
        execution["threshold"] = {name: limits["ok_below"][name] for name in names}
    data["format"] = 2
    sign(data)


def as_format1(data: dict[str, Any]) -> None:
    """What the first release would have written of a float32 bundle."""
    as_format2(data)
    (execution,) = data.pop("executions")
    check = execution["check"]
    for key in ("networks", "left_out", "sha256"):
        data.pop(key)
    data["files"] = {"network.onnx": data["files"]["network_fp32.onnx"]}
    data |= {"format": 1, "precision": "fp32", "network": "network.onnx"}
    data["threshold"] = execution["threshold"]
    data["check"] = {
        "images": check["map_images"],
        "score_difference": check["score_difference"],
        "map_difference": check["map_difference"],
        "tolerance": 1e-3,
        "executed_precision": "fp32",
    }
