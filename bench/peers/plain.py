"""Our network in plain ONNX Runtime and plain OpenVINO, with the usual Python around it: PIL and
NumPy before, NumPy and SciPy after. ``MODEL`` is a bundle; its manifest is obeyed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter

Arrays = list[Any]


def _chain(manifest: dict[str, Any], run: Callable[[Any], dict[str, Any]]) -> Any:
    size = manifest["input"]["height"], manifest["input"]["width"]
    mean, std = (np.array(manifest["input"][k], np.float32) for k in ("mean", "std"))
    scales = range(len(manifest["scales"]))
    up = [
        (_bilinear(size[0], s["height"]), _bilinear(size[1], s["width"]).T)
        for s in manifest["scales"]
    ]

    def score(frame: Any) -> tuple[float, Any, dict[str, float]]:
        times = [perf_counter()]
        resized = Image.fromarray(frame).resize(size[::-1], Image.Resampling.BILINEAR)
        x = (np.asarray(resized, np.float32) / 255 - mean) / std
        x = np.ascontiguousarray(x.transpose(2, 0, 1))[None]
        times.append(perf_counter())
        outputs = run(x)
        times.append(perf_counter())
        total = np.zeros(size, np.float32)
        for s in scales:
            distance = _distance(outputs[f"teacher_{s}"][0], outputs[f"student_{s}"][0])
            total += up[s][0] @ distance @ up[s][1]
        anomaly_map = gaussian_filter(total, sigma=manifest["map"]["sigma"])
        value = anomaly_map.max()
        times.append(perf_counter())
        stages = 1e3 * np.diff(times)
        names = ("preprocess", "network", "postprocess")
        return value, anomaly_map, dict(zip(names, stages.tolist(), strict=True))

    return score


def _distance(teacher: Any, student: Any) -> Any:
    dot = np.einsum("chw,chw->hw", teacher, student)
    norms = np.einsum("chw,chw->hw", teacher, teacher) * np.einsum("chw,chw->hw", student, student)
    return 1 - dot / np.maximum(np.sqrt(norms), 1e-8)


def _bilinear(size: int, source: int) -> Any:
    """Upsampling with aligned corners as a matrix ``[size, source]``."""
    at = np.linspace(0, source - 1, size)
    low = np.minimum(at.astype(int), source - 2)
    matrix = np.zeros((size, source), np.float32)
    rows = np.arange(size)
    matrix[rows, low] = 1 - (at - low)
    matrix[rows, low + 1] += at - low
    return matrix


def _manifest(model: Path) -> dict[str, Any]:
    manifest = json.loads((model / "manifest.json").read_text())
    assert manifest["map"]["fusion"] == "add"
    return dict(manifest)


def _network(model: Path, manifest: dict[str, Any]) -> Path:
    return model / str(manifest["networks"]["fp32"])


def onnxruntime(model: Path, threads: int) -> tuple[Any, str]:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    manifest = _manifest(model)
    session = ort.InferenceSession(
        str(_network(model, manifest)), options, providers=["CPUExecutionProvider"]
    )
    name = session.get_inputs()[0].name
    outputs = [o.name for o in session.get_outputs()]
    chain = _chain(
        manifest, lambda x: dict(zip(outputs, session.run(outputs, {name: x}), strict=True))
    )
    return chain, "fp32"


def openvino(model: Path, threads: int) -> tuple[Any, str]:
    import openvino as ov
    from executed import executed

    manifest = _manifest(model)
    core = ov.Core()
    network = core.read_model(_network(model, manifest))
    network.reshape([1, 3, manifest["input"]["height"], manifest["input"]["width"]])
    compiled = core.compile_model(
        network, "CPU", {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads}
    )
    names = [o.any_name for o in compiled.outputs]
    chain = _chain(manifest, lambda x: dict(zip(names, compiled([x]).to_tuple(), strict=True)))
    # No precision is asked for, so that it is what a user gets: bfloat16 where the CPU has it.
    return chain, executed(compiled)
