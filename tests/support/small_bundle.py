"""A bundle of a network of single convolutions, made without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from PIL import Image

from rdx_fast.bundle.bundle import Bundle, describe_file, open_bundle, write_manifest
from rdx_fast.bundle.bundle_history import exported_history
from rdx_fast.bundle.manifest import FORMAT, ExecutionSpec, ExportCheck, Manifest, MapSpec
from rdx_fast.limits.calibration import manual_threshold
from rdx_fast.limits.limits import WHOLE, Limits
from rdx_fast.recipe.recipe import InspectionRecipe
from support.small_network import SCALES, SIZE, SPEC

# By fusion: between the scores of noise in patches of some sizes.
THRESHOLDS = {"add": 1.4, "mul": 0.45}


def write_bundle(
    folder: Path,
    fusion: str = "add",
    stored: str = "fp32",
    opset: int = 20,
    seed: int = 0,
    recipe: InspectionRecipe | None = None,
    limits: tuple[Limits, ...] | None = None,
    masks: Mapping[str, NDArray[np.uint8]] | None = None,
) -> Bundle:
    """``folder``, a bundle of one network: teacher and student differ by some noise."""
    recipe = recipe or InspectionRecipe()
    limits = limits or (limits_of(WHOLE, THRESHOLDS[fusion]),)
    folder.mkdir()
    network = folder / f"network_{stored}.onnx"
    onnx.save(
        _network(np.dtype(np.float16 if stored == "fp16" else np.float32), opset, seed), network
    )
    check = ExportCheck("a test", 1, 1, 0.0, 1.0, 0.0, 1.0, None, None)
    for name, mask in (masks or {}).items():
        Image.fromarray(mask).save(folder / name)
    manifest = Manifest(
        format=FORMAT,
        name="small",
        created="2026-01-01T00:00:00+00:00",
        method="rd4ad",
        backbone="resnet18",
        input=SPEC,
        scales=SCALES,
        map=MapSpec(*SIZE, fusion, sigma=2.0, truncate=4.0, border="reflect"),
        recipe=recipe,
        frames={},
        revision=0,
        calibration=None,
        history=None,
        networks={stored: network.name},
        executions=tuple(
            ExecutionSpec(stored, executed, limits, recipe.inspected_sha256(), check)
            for executed in {stored, "fp32"}
        ),
        left_out=(),
        files={file.name: describe_file(file) for file in sorted(folder.iterdir())},
        training={},
        versions={},
    )
    history = folder / "history-0.jsonl"
    history.write_text(exported_history(folder / "none", "a test", manifest))
    files = manifest.files | {history.name: describe_file(history)}
    write_manifest(replace(manifest, history=history.name, files=files), folder)
    return open_bundle(folder)


def limits_of(region: str, ok_below: float, ng_above: float | None = None) -> Limits:
    """One limit for both if the second is None."""
    ok, ng = (manual_threshold(v, "a test") for v in (ok_below, ng_above or ok_below))
    return Limits(region, ok, ng)


def _network(dtype: np.dtype, opset: int, seed: int) -> onnx.ModelProto:
    rng = np.random.default_rng(seed)
    element = helper.np_dtype_to_tensor_dtype(dtype)
    nodes, constants, outputs = [], [], []
    for s, scale in enumerate(SCALES):
        step = SIZE[0] // scale.height
        teacher = rng.normal(size=(scale.channels, 3, step, step)) / step
        student = teacher + rng.normal(size=teacher.shape) / step / 2
        for name, weights in ((f"teacher_{s}", teacher), (f"student_{s}", student)):
            bias = rng.normal(size=scale.channels)
            for part, values in (("weight", weights), ("bias", bias)):
                constants.append(numpy_helper.from_array(values.astype(dtype), f"{name}.{part}"))
            given = ["image", f"{name}.weight", f"{name}.bias"]
            nodes.append(helper.make_node("Conv", given, [name], name, strides=[step, step]))
            shape: list[int | str] = ["batch", scale.channels, scale.height, scale.width]
            outputs.append(helper.make_tensor_value_info(name, element, shape))
    outputs.sort(key=lambda value: value.name.startswith("student"))
    image = helper.make_tensor_value_info("image", element, ["batch", 3, *SIZE])
    graph = helper.make_graph(nodes, "small", [image], outputs, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
