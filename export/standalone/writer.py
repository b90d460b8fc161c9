"""Writing the standalone ONNX file of a bundle."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, TensorProto, ValueInfoProto, helper

from rdx_fast.bundle.bundle import Bundle
from rdx_fast.bundle.bundle_history import bundle_history
from rdx_fast.bundle.manifest import ExecutionSpec, Manifest, digest
from rdx_fast.errors import ExportError
from rdx_fast.export.standalone.check import check_standalone
from rdx_fast.export.standalone.frame import FrameFormat, add_frame
from rdx_fast.export.standalone.graph import GraphBuilder
from rdx_fast.export.standalone.inspection import VERDICTS, add_map, add_verdict
from rdx_fast.judge import check_limits_hold
from rdx_fast.kernels.resize_normalize import Crop, Levels
from rdx_fast.limits.limits import Limits
from rdx_fast.recipe.regions import map_labels

# ONNX Runtime reads these from 1.17 on.
_OPSET, _IR_VERSION = 20, 9
# The executions whose limits are taken, as (stored, executed), the first that the bundle has. The
# others are in precisions that a file cannot ask for, or of networks for TensorRT alone.
PRECISIONS = {
    "fp32": (("fp32", "fp32"),),
    "fp16": (("fp16", "fp16"), ("fp16", "fp32")),
    "int8": (("int8", "int8"),),
}
_NETWORK = "network/"


def write_standalone(
    bundle: Bundle,
    output: Path,
    *,
    frame_size: tuple[int, int] | None = None,
    pixel_format: str | None = None,
    crop: Crop | None = None,
    levels: Levels | None = None,
    precision: str = "fp32",
    batch: int | None = 1,
    overwrite: bool = False,
) -> None:
    """Write a bundle's whole inspection as one ONNX file of ordinary operators.

    It inspects what the bundle's recipe says and judges by the bundle's limits for ``precision``.
    Its input is ``frame``, ``[B, H, W, 3]`` or ``[B, H, W]`` uint8 (uint16 with ``levels``). Its
    outputs, for R regions and a map of ``h`` x ``w`` pixels, are those of ``Detector.score``:

    - ``verdict`` ``[B]`` int32, an index of ``VERDICTS``, of the worst region: 0 OK, 1 REVIEW,
      2 NG; 3 ERROR where the map is not finite
    - ``region`` ``[B]`` int32, index of the region that decided, see ``Result.deciding``; -1 where
      the map is not finite
    - ``score`` ``[B]`` float32, of that region; NaN where the map is not finite
    - ``region_scores`` ``[B, R]`` float32, the largest map value of each region; NaN likewise
    - ``area`` ``[B, R]`` int64, map pixels of each region above its ``ok_below``
    - ``map`` ``[B, h, w]`` float32

    The file is checked with OpenVINO on this CPU before it gets its name.

    Args:
        bundle: an opened bundle
        output: the file, such as ``part.onnx``
        frame_size: height and width of the frames, in pixels. This and the next three are for what
            the recipe does not state
        pixel_format: of the frames, one of ``kernels.resize_normalize.PIXEL_FORMATS``; None for
            "rgb"
        crop: top, left, height, width in frame pixels; None for the whole frame
        levels: grey levels of black and white of uint16 frames; None for uint8
        precision: the stored network, "fp32", "fp16" or "int8"
        batch: frames of a call; None for any number, not for "int8"
        overwrite: replace ``output``

    Raises:
        RecipeError: the recipe was changed after the limits were calibrated
        ExportError: ``output`` exists and ``overwrite`` is false, the bundle does not hold the
            precision, it is "int8" and ``batch`` None, or the file does not score as the bundle
            does
        EngineError: OpenVINO rejects the file or the bundle's network
        BundleError: a mask of the recipe cannot be read, or the bundle's history is broken
        ValueError: an argument is out of range or not what the recipe states, or neither states the
            size of the frames
    """
    manifest = bundle.manifest
    recipe, size = manifest.recipe, (manifest.map.height, manifest.map.width)
    frame = FrameFormat.of(recipe.frame, frame_size, pixel_format, crop, levels)
    if batch is not None and batch < 1:
        raise ValueError(f"batch is {batch}, wanted at least 1, or None for any number")
    execution = _execution(manifest, precision)
    check_limits_hold(manifest, execution)
    if manifest.recipe.tiles is not None:
        raise ExportError(
            f"bundle {manifest.name}: the recipe scores frames in tiles, and a standalone file has "
            f"none: score with the Detector, or take a recipe without tiles"
        )
    if batch is None and precision == "int8":
        # OpenVINO then drops scales of dequantisation: the check below fails.
        raise ExportError(
            "int8 with any number of frames does not score as the bundle does in OpenVINO: give "
            "their number (batch=1, --batch 1), or take fp32"
        )
    check_output(output, overwrite)
    labels = map_labels(recipe, size, bundle.mask) if recipe.regions else None
    network = onnx.load(bundle.network(execution.stored))
    model = _assembled(network, manifest, frame, batch, execution.limits, labels)
    helper.set_model_props(model, _metadata(bundle, execution, frame))
    onnx.checker.check_model(model, full_check=True)

    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{output.name}.", dir=output.parent) as folder:
        written = Path(folder) / output.name
        written.write_bytes(model.SerializeToString(deterministic=True))
        check_standalone(written, bundle, execution, frame, labels, batch)
        os.replace(written, output)


def check_output(output: Path, overwrite: bool) -> None:
    """Raises ``ExportError`` if ``output`` exists and is not to be replaced."""
    if output.exists() and not overwrite:
        raise ExportError(
            f"{output} exists: choose another name, or overwrite it (overwrite=True, --overwrite)"
        )


def _execution(manifest: Manifest, precision: str) -> ExecutionSpec:
    if precision not in PRECISIONS:
        raise ValueError(f"precision is {precision!r}, wanted one of {', '.join(PRECISIONS)}")
    held = {(e.stored, e.executed): e for e in manifest.executions}
    for which in PRECISIONS[precision]:
        if which in held:
            return held[which]
    there = [p for p, known in PRECISIONS.items() if not held.keys().isdisjoint(known)]
    raise ExportError(
        f"bundle {manifest.name} does not hold {precision}: choose "
        f"{' or '.join(there) or 'another bundle'}, or export the bundle again with it "
        f"(export_bundle(precision=...), rdx-fast export --precision)"
    )


def _metadata(bundle: Bundle, execution: ExecutionSpec, frame: FrameFormat) -> dict[str, str]:
    """What the file states of itself. Raises ``BundleError`` if the history is broken."""
    manifest = bundle.manifest
    facts = {
        "bundle": manifest.name,
        "manifest_sha256": digest(asdict(manifest)),
        "revision": manifest.revision,
        "precision": execution.stored,
        "frame_size": [frame.height, frame.width],
        "pixel_format": frame.pixel_format,
        "crop": frame.crop,
        "levels": frame.levels,
        "regions": [
            {
                "name": limit.region,
                "ok_below": limit.ok_below.value,
                "ng_above": limit.ng_above.value,
            }
            for limit in execution.limits
        ],
        "verdicts": VERDICTS,
    }
    if changes := bundle_history(bundle):
        facts["history_sha256"] = changes[-1].sha256
    if manifest.recipe.mm_per_pixel is not None:
        facts["mm_per_pixel"] = manifest.recipe.mm_per_pixel
    return {k: v if isinstance(v, str) else json.dumps(v) for k, v in facts.items()}


def _assembled(
    network: ModelProto,
    manifest: Manifest,
    frame: FrameFormat,
    batch: int | None,
    limits: Sequence[Limits],
    labels: NDArray[np.uint8] | None,
) -> ModelProto:
    """Frame, network and inspection as one model."""
    inlined = _inlined(network)
    before, after = GraphBuilder(), GraphBuilder()
    image = add_frame(before, "frame", frame, manifest.input)
    (given,) = inlined.input
    before.add("Cast", given.name, image, to=given.type.tensor_type.elem_type)
    features = [
        after.add("Cast", f"{output.name}/float32", output.name, to=TensorProto.FLOAT)
        for output in inlined.output
    ]
    scales = len(manifest.scales)
    add_map(after, features[:scales], features[scales:], manifest.map, manifest.scales)
    add_verdict(after, limits, labels)

    size = [manifest.map.height, manifest.map.width]
    of_frame = [batch or "batch"]
    outputs = [
        _value("verdict", TensorProto.INT32, of_frame),
        _value("region", TensorProto.INT32, of_frame),
        _value("score", TensorProto.FLOAT, of_frame),
        _value("region_scores", TensorProto.FLOAT, [*of_frame, len(limits)]),
        _value("area", TensorProto.INT64, [*of_frame, len(limits)]),
        _value("map", TensorProto.FLOAT, [*of_frame, *size]),
    ]
    graph = helper.make_graph(
        [*before.nodes, *inlined.node, *after.nodes],
        "inspection",
        [_value("frame", frame.element, [*of_frame, *frame.shape])],
        outputs,
        [*before.constants, *inlined.initializer, *after.constants],
    )
    return helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", _OPSET)],
        ir_version=_IR_VERSION,
        producer_name="rdx_fast",
        producer_version=version("rdx_fast"),
    )


def _inlined(network: ModelProto) -> GraphProto:
    """The network's graph, its names prefixed, without what is for information only."""
    if [(o.domain, o.version) for o in network.opset_import] != [("", _OPSET)]:
        network = onnx.version_converter.convert_version(network, _OPSET)
    graph = onnx.compose.add_prefix(network, _NETWORK).graph
    for node in graph.node:
        node.ClearField("doc_string")
        node.ClearField("metadata_props")
    for constant in graph.initializer:
        constant.ClearField("doc_string")
        constant.ClearField("metadata_props")
    return graph


def _value(name: str, element: int, shape: Sequence[int | str]) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, element, shape)
