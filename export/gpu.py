"""Quantised networks for GPUs: the float16 network with explicit quantise/dequantise nodes.

TensorRT fuses the nodes around a convolution into one kernel. It takes symmetric scales only: one
for a tensor of activations, and one for each output channel of weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper
from torch import Tensor

Array = NDArray[np.floating]
# Operators with the range of their inputs; in the int8 network the quantisers are before them.
_PASSING = ("Concat", "MaxPool")


class _Kind(NamedTuple):
    """What convolutions are quantised to.

    Attributes:
        element: ONNX type of quantised values
        largest: the largest quantised value
        round: rounds values within the range to quantised ones
        suits: whether TensorRT has kernels for a convolution with these weights
    """

    element: int
    largest: float
    round: Callable[[Tensor], Tensor]
    suits: Callable[[NodeProto, Array], bool]


def _suits_int8(node: NodeProto, weights: Array) -> bool:
    """TensorRT for RTX computes transposed convolutions in floating point, and would convert their
    weights at every run. For three channels, those of the image, TensorRT may have no kernel."""
    return node.op_type == "Conv" and weights.shape[1] != 3


def _suits_float8(node: NodeProto, weights: Array) -> bool:
    """TensorRT documents float8 for convolutions of one group with at most 32 positions in the
    kernel, and none for transposed ones. NVIDIA's Model Optimizer leaves out those of 16 channels
    or fewer, which are slower than in float16."""
    (groups,) = (a.i for a in node.attribute if a.name == "group")
    channels, positions = min(weights.shape[:2]), math.prod(weights.shape[2:])
    return bool(node.op_type == "Conv" and groups == 1 and positions <= 32 and channels > 16)


_KINDS = {
    "int8_symmetric": _Kind(
        TensorProto.INT8, 127.0, lambda x: x.round().to(torch.int8), _suits_int8
    ),
    "fp8": _Kind(
        TensorProto.FLOAT8E4M3FN, 448.0, lambda x: x.to(torch.float8_e4m3fn), _suits_float8
    ),
}
FOR_GPUS = tuple(_KINDS)


def quantize_for_gpus(half: ModelProto, int8: ModelProto, stored: str) -> ModelProto:
    """A copy of the float16 network with its convolutions quantised.

    Quantised are inputs and weights of the convolutions that the int8 network for CPUs quantises
    too and that TensorRT has kernels for, and what an addition takes together with one of them.
    Everything between keeps its type: what exceeds float16's range stays in float32.

    Args:
        half: the network in float16
        int8: the same network quantised by ``quantize``, whose ranges of activations are used
        stored: one of ``FOR_GPUS``
    """
    kind = _KINDS[stored]
    twin = ModelProto()
    twin.CopyFrom(half)
    graph = twin.graph
    constants = {c.name: numpy_helper.to_array(c) for c in graph.initializer}
    ranges = _input_ranges(int8.graph)
    assert ranges.keys() <= {node.output[0] for node in graph.node}, "the networks are not the same"
    chosen = [
        node
        for node in graph.node
        if node.output[0] in ranges and kind.suits(node, constants[node.input[1]])
    ]
    largest: dict[str, float] = {}  # magnitude of each activation
    for node in chosen:
        name = node.input[0]
        largest[name] = max(ranges[node.output[0]], largest.get(name, 0.0))

    quantised: dict[str, _Quantised] = {}
    for node in chosen:
        activations, name = node.input[:2]
        weights = constants[name]
        quantised[name] = _quantize_weights(name, weights, kind)
        quantised[activations] = _quantize_activations(
            activations, largest[activations], weights.dtype, kind
        )
    _insert(graph, quantised, {node.output[0] for node in chosen})
    onnx.checker.check_model(twin)
    return twin


class _Quantised(NamedTuple):
    """What quantises a tensor.

    Attributes:
        constants: of the nodes
        nodes: the last one's output replaces the tensor
    """

    constants: list[TensorProto]
    nodes: list[NodeProto]


def _quantize_activations(name: str, largest: float, dtype: np.dtype, kind: _Kind) -> _Quantised:
    scale = _scale(np.array(largest), dtype, kind)
    constants = _scale_constants(name, scale, kind)
    quantised, back = f"{name}_quantised", f"{name}_dequantised"
    given = [c.name for c in constants]
    return _Quantised(
        constants,
        [
            helper.make_node("QuantizeLinear", [name, *given], [quantised]),
            helper.make_node("DequantizeLinear", [quantised, *given], [back]),
        ],
    )


def _quantize_weights(name: str, weights: Array, kind: _Kind) -> _Quantised:
    """The weights are stored quantised."""
    scale = _scale(abs(weights).max((1, 2, 3), keepdims=True), weights.dtype, kind)
    exact = torch.from_numpy(weights.astype(np.float32) / scale.astype(np.float32))
    stored = _tensor(f"{name}_quantised", kind.round(exact), kind)
    constants = _scale_constants(name, scale.reshape(-1), kind)
    given = [stored.name, *(c.name for c in constants)]
    return _Quantised(
        [stored, *constants],
        [helper.make_node("DequantizeLinear", given, [f"{name}_dequantised"], axis=0)],
    )


def _scale(largest: Array, dtype: np.dtype, kind: _Kind) -> Array:
    """Rounded up, so that ``largest`` is within the range; positive, even for nothing but zeros."""
    exact = largest.astype(np.float64) / kind.largest
    scale = exact.astype(dtype)
    scale = np.where(scale < exact, np.nextafter(scale, dtype.type(np.inf)), scale)
    return np.maximum(scale, np.finfo(dtype).smallest_subnormal)


def _scale_constants(name: str, scale: Array, kind: _Kind) -> list[TensorProto]:
    """Scale and zero point, which says what the values are quantised to."""
    zero = kind.round(torch.zeros(scale.shape))
    return [
        numpy_helper.from_array(scale, f"{name}_scale"),
        _tensor(f"{name}_zero", zero, kind),
    ]


def _tensor(name: str, values: Tensor, kind: _Kind) -> TensorProto:
    # NumPy has no float8.
    raw = values.view(torch.uint8).numpy().tobytes()
    return helper.make_tensor(name, kind.element, values.shape, raw, raw=True)


def _insert(graph: GraphProto, quantised: dict[str, _Quantised], takers: set[str]) -> None:
    """Insert the nodes behind what they quantise, and connect those of ``takers``, which are named
    by their outputs, and additions to them."""
    constants = [c for c in graph.initializer if c.name not in quantised]
    ready = [v.name for v in (*graph.initializer, *graph.input)]
    nodes = [node for name in ready if name in quantised for node in quantised[name].nodes]
    for node in graph.node:
        if node.output[0] in takers or node.op_type == "Add":
            node.input[:] = [
                quantised[name].nodes[-1].output[0] if name in quantised else name
                for name in node.input
            ]
        nodes.append(node)
        if node.output[0] in quantised:
            nodes += quantised[node.output[0]].nodes
    constants += [c for found in quantised.values() for c in found.constants]
    changed = GraphProto(node=nodes, initializer=constants)
    for field in ("node", "initializer"):
        graph.ClearField(field)
    graph.MergeFrom(changed)


def _input_ranges(graph: GraphProto) -> dict[str, float]:
    """The largest magnitude of the input of each quantised convolution, by its output's name."""
    constants = {c.name: numpy_helper.to_array(c) for c in graph.initializer}
    makers = {name: node for node in graph.node for name in node.output}

    def ends(name: str) -> Iterator[float]:
        node = makers[name]
        if node.op_type in _PASSING:
            for given in node.input:
                yield from ends(given)
            return
        assert node.op_type == "DequantizeLinear", f"{name} is not quantised"
        step, zero = (constants[given] for given in node.input[1:])
        steps = np.iinfo(zero.dtype)
        # The lowest step is not used, so that a range that is symmetric already stays as it is.
        for end in (steps.min + 1, steps.max):
            yield float((step * abs(end - zero.astype(np.float32))).max())

    return {
        node.output[0]: max(ends(node.input[0]))
        for node in graph.node
        if node.op_type == "Conv" and node.input[1] in makers
    }
