"""INT8 by post-training quantisation (NNCF), with explicit quantise/dequantise nodes."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterable
from contextlib import redirect_stdout

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from rdx_fast.errors import MissingDependencyError

_WIDE = 64  # channels; layers near the pixels with at least as many are quantised as well


def quantize(
    model: onnx.ModelProto, inputs: Iterable[NDArray[np.float32]], correct_bias: bool = True
) -> onnx.ModelProto:
    """Quantise weights (per channel) and activations to 8 bits.

    Layers with few channels that run at half the input's size or larger stay in float32.

    Args:
        model: the float32 network
        inputs: good parts ``[1, 3, H, W]`` float32 normalised, on which the ranges of the
            activations are measured
        correct_bias: correct the shift of each layer's mean, which takes most of the time

    Raises:
        MissingDependencyError: the package nncf or onnxruntime is not installed
    """
    try:
        import nncf
        import onnxruntime  # noqa: F401  with which NNCF runs the network
    except ModuleNotFoundError as error:
        if error.name not in ("nncf", "onnxruntime"):
            raise
        raise MissingDependencyError(error.name, "precisions int8 and fp8", "train") from error

    calibration = list(inputs)
    height = calibration[0].shape[2]
    values = (*model.graph.value_info, *model.graph.output)
    shapes = {v.name: v.type.tensor_type.shape.dim for v in values}
    # Rounding errors of the layers nearest the pixels reach every scale, and are largest in layers
    # of few channels, where 8 bits hardly save time either. Wider layers are limited by the memory
    # bandwidth that their outputs need.
    near_pixels = [
        node.name
        for node in model.graph.node
        if node.op_type == "Conv"
        and 2 * shapes[node.output[0]][2].dim_value >= height
        and shapes[node.output[0]][1].dim_value < _WIDE
    ]
    logging.getLogger("nncf").setLevel(logging.ERROR)
    with redirect_stdout(io.StringIO()):  # progress bars, where commands print results
        quantised = nncf.quantize(
            model,
            nncf.Dataset(calibration, lambda image: {"image": image}),
            preset=nncf.QuantizationPreset.MIXED,
            subset_size=len(calibration),
            ignored_scope=nncf.IgnoredScope(names=near_pixels),
            advanced_parameters=nncf.AdvancedQuantizationParameters(
                disable_bias_correction=not correct_bias,
                # CPUs without VNNI add products of bytes in 16 bits. With weights of seven bits the
                # sums fit, so that none overflows on any CPU.
                overflow_fix=nncf.OverflowFix.ENABLE,
            ),
        )
    _make_unsigned(quantised)
    return quantised


def _make_unsigned(model: onnx.ModelProto) -> None:
    """Store all activations as unsigned bytes, in place. Steps and ranges stay as they are.

    OpenVINO computes in 8 bits if activations are unsigned, whatever their zero point. Signed ones
    with a zero point other than 0 it converts back and computes in float32.
    """
    del model.graph.value_info[:]  # it describes the previous types
    constants = {c.name: c for c in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type.lower().endswith("quantizelinear") and node.input[0] not in constants:
            zero = numpy_helper.to_array(constants[node.input[2]])
            if zero.dtype != np.int8:
                continue
            name = f"{node.input[2]}_unsigned"
            if name not in constants:
                shifted = (zero.astype(np.int16) + 128).astype(np.uint8)
                constants[name] = numpy_helper.from_array(shifted, name)
                model.graph.initializer.append(constants[name])
            node.input[2] = name
    _drop_unused(model)
    onnx.checker.check_model(model)


def _drop_unused(model: onnx.ModelProto) -> None:
    """Remove the constants that no node uses."""
    used = {name for node in model.graph.node for name in node.input}
    kept = [c for c in model.graph.initializer if c.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
