"""The quantised network for CPUs."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from rdx_fast.bundle.bundle import Bundle
from rdx_fast.engines.openvino.network import OpenVINONetwork
from rdx_fast.errors import EngineError


def test_int8_is_what_it_says(whole_bundle: Bundle) -> None:
    """Unsigned activations, weights of seven bits where the sums of two products could overflow,
    few float layers: as stored and as executed."""
    file = whole_bundle.network("int8")
    graph = onnx.load(file).graph
    constants = {c.name: numpy_helper.to_array(c) for c in graph.initializer}
    makers = {name: node for node in graph.node for name in node.output}
    activations = [n for n in graph.node if n.op_type == "QuantizeLinear"]
    assert len(activations) > 20
    assert {constants[n.input[2]].dtype for n in activations} == {np.dtype(np.uint8)}
    convolutions = [n for n in graph.node if n.op_type in ("Conv", "ConvTranspose")]
    floats = [n.name for n in convolutions if n.input[1] not in makers]
    # The layers of few channels at half the input's size, of teacher and none of the student.
    assert len(floats) == 3
    for node in convolutions:
        if node.name not in floats:
            weights = constants[makers[node.input[1]].input[0]]
            assert weights.dtype == np.int8
            depthwise = weights.shape[1] == 1  # its products are summed one by one
            assert np.abs(weights.astype(int)).max() <= (127 if depthwise else 64)

    # Some CPUs have no int8 for a depthwise layer; none of those tried leaves another.
    ordinary = [n for n in convolutions if n.op_type == "Conv" and n.name not in floats]
    depthwise = [n for n in ordinary if any(a.name == "group" and a.i > 1 for a in n.attribute)]
    engine = OpenVINONetwork(file, "int8")
    assert len(ordinary) - len(depthwise) <= engine.convolutions["i8"] <= len(ordinary)
    with pytest.raises(EngineError, match=r"asked for fp32, OpenVINO .* i8\)"):
        OpenVINONetwork(file, "fp32")
