"""Operators and floating-point operations of a network."""

from __future__ import annotations

from collections import Counter
from math import prod
from pathlib import Path
from typing import Any

from rdx_fast.engines.openvino.compilation import CORE


def operators(network: Path, height: int, width: int) -> tuple[dict[str, int], int]:
    """Count the work of a network for one image.

    Args:
        network: an ONNX file
        height: of the input in pixels
        width: of the input in pixels

    Returns:
        the number of operators of each kind, and the floating-point operations; a multiply-add
        counts as two, and only convolutions and matrix products are counted
    """
    model = CORE.read_model(network)
    model.reshape([1, 3, height, width])
    kinds: Counter[str] = Counter()
    flops = 0
    for op in model.get_ordered_ops():
        kind = op.get_type_name()
        kinds[kind] += 1
        flops += _flops(kind, op)
    return dict(sorted(kinds.items())), flops


def _flops(kind: str, op: Any) -> int:
    if kind == "Convolution":
        _, *reduced = op.input_value(1).shape
        return 2 * prod(op.output(0).shape) * prod(reduced)
    if kind == "GroupConvolution":
        _, _, *reduced = op.input_value(1).shape
        return 2 * prod(op.output(0).shape) * prod(reduced)
    if kind == "ConvolutionBackpropData":  # each input value goes into a patch of the output
        _, *spread = op.input_value(1).shape
        return 2 * prod(op.input_value(0).shape) * prod(spread)
    if kind == "MatMul":
        rows = op.input_value(0).shape
        reduced_axis = -2 if op.get_attributes()["transpose_a"] else -1
        return 2 * prod(op.output(0).shape) * rows[reduced_axis]
    return 0
