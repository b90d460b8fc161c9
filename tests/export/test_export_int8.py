"""Quantised networks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from rdx_fast.bundle import Bundle
from rdx_fast.engines.openvino.network import OpenVINONetwork
from rdx_fast.errors import EngineError
from rdx_fast.export.check import TOLERANCE
from rdx_fast.export.reference import OnnxNetwork
from rdx_fast.images import list_images, read_image
from rdx_fast.postprocess import AnomalyMapper
from rdx_fast.preprocess import to_input
from support.exported import operators


def test_int8_is_what_it_says(exported_as: Callable[..., Bundle]) -> None:
    """Unsigned activations, weights of seven bits where the sums of two products could overflow,
    few float layers: as stored and as executed."""
    bundle = exported_as("int8")
    graph = onnx.load(bundle.network("int8")).graph
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
    engine = OpenVINONetwork(bundle.network("int8"), "int8")
    assert len(ordinary) - len(depthwise) <= engine.convolutions["i8"] <= len(ordinary)
    with pytest.raises(EngineError, match=r"asked for fp32, OpenVINO .* i8\)"):
        OpenVINONetwork(bundle.network("int8"), "fp32")


def test_the_symmetric_twin(exported_as: Callable[..., Bundle], parts: Path) -> None:
    bundle = exported_as("int8")
    twin = onnx.load(bundle.network("int8_symmetric"))
    constants = {c.name: numpy_helper.to_array(c) for c in twin.graph.initializer}
    quantisers = [n for n in twin.graph.node if n.op_type == "QuantizeLinear"]
    assert len(quantisers) > 20
    for node in twin.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            zero = constants[node.input[2]]
            assert zero.dtype == np.int8
            assert not zero.any()
    assert [n.op_type for n in twin.graph.node] == operators(bundle, "int8")

    mapper = AnomalyMapper(bundle.manifest.map, bundle.manifest.scales)
    images = [to_input([read_image(p)], bundle.manifest.input) for p in list_images(parts / "test")]
    scores = {}
    for path in map(bundle.network, ("int8", "int8_symmetric")):
        network = OnnxNetwork(path)
        chunks = [next(network.run(image)) for image in images]
        scores[path] = np.array([mapper(c.teacher, c.student).maxima[0] for c in chunks])
    # Two roundings of eight bits, each of which may differ from the trained network as much.
    allowed = TOLERANCE["int8"][0] * bundle.manifest.executions[0].threshold.value
    np.testing.assert_allclose(*scores.values(), rtol=0, atol=allowed)
    assert not np.array_equal(*scores.values())
