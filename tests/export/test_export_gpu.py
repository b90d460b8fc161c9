"""The quantised networks for GPUs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import NodeProto, TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from rdx_fast.bundle.bundle import Bundle
from rdx_fast.export.gpu import quantize_for_gpus
from rdx_fast.export.reference import RoundedNetwork

HALF, FLOAT = np.dtype(np.float16), np.dtype(np.float32)
LARGEST = {"int8_symmetric": 127.0, "fp8": 448.0}


def attribute(node: NodeProto, name: str) -> Any:
    (found,) = (helper.get_attribute_value(a) for a in node.attribute if a.name == name)
    return found


@pytest.mark.parametrize("stored", ["int8_symmetric", pytest.param("fp8", marks=pytest.mark.slow)])
def test_all_but_what_is_quantised_is_float16(
    stored: str, whole_bundle: Bundle, exported_as: Callable[..., Bundle]
) -> None:
    bundle = exported_as("fp8") if stored == "fp8" else whole_bundle
    element = {"int8_symmetric": TensorProto.INT8, "fp8": TensorProto.FLOAT8E4M3FN}
    cpu = onnx.load(whole_bundle.network("int8")).graph
    makers = {name: node for node in cpu.node for name in node.output}
    wanted = {n.output[0] for n in cpu.node if n.op_type == "Conv" and n.input[1] in makers}
    assert len(wanted) > 20
    graph = onnx.load(bundle.network(stored)).graph
    ports = (*graph.input, *graph.output)
    assert {p.type.tensor_type.elem_type for p in ports} == {TensorProto.FLOAT16}
    constants = {c.name: c for c in graph.initializer}
    assert {c.data_type for c in constants.values()} == {TensorProto.FLOAT16, element[stored]}
    for node in graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            _, scale, zero = node.input
            assert constants[zero].data_type == element[stored]
            assert not any(constants[zero].raw_data)
            # Of weights one for each output channel, of activations one.
            of_weights = node.input[0] in constants
            assert len(constants[scale].dims) == int(of_weights)
    makers = {name: node for node in graph.node for name in node.output}
    quantised = {
        node.output[0]: node
        for node in graph.node
        if node.op_type in ("Conv", "ConvTranspose") and node.input[1] in makers
    }
    for node in quantised.values():
        assert makers[node.input[0]].op_type == "DequantizeLinear"
    if stored == "int8_symmetric":
        assert quantised.keys() == wanted
    else:
        assert 10 < len(quantised) < len(wanted)
        for node in quantised.values():
            weights = constants[makers[node.input[1]].input[0]]
            assert node.op_type == "Conv"
            assert attribute(node, "group") == 1
            assert np.prod(weights.dims[2:]) <= 32
            assert min(weights.dims[:2]) > 16


def half_network(weights: tuple[np.ndarray, np.ndarray], dtype: np.dtype) -> onnx.ModelProto:
    """Two convolutions and an addition of what the first takes; the second is in float32, as where
    values exceed float16, and the rest in ``dtype``."""
    nodes = [
        conv(["image", "first"], "a"),
        helper.make_node("Add", ["a", "image"], ["b"]),
        helper.make_node("Cast", ["b"], ["c"], to=TensorProto.FLOAT),
        conv(["c", "second"], "teacher_0"),
        helper.make_node("Cast", ["a"], ["student_0"], to=TensorProto.FLOAT),
    ]
    first, second = weights
    constants = {"first": first.astype(dtype), "second": second.astype(FLOAT)}
    return model(nodes, constants, helper.np_dtype_to_tensor_dtype(dtype))


def int8_network(
    weights: tuple[np.ndarray, np.ndarray], largest: tuple[float, float]
) -> onnx.ModelProto:
    """As the CPU's, with the ranges of the images and of what the second convolution takes."""
    nodes, constants = [], {}
    for name, array in zip(("first", "second"), weights, strict=True):
        constants |= {
            f"{name}_q": array.astype(np.int8),
            f"{name}_s": np.ones(len(array), FLOAT),
            f"{name}_z": np.zeros(len(array), np.int8),
        }
        given = [f"{name}_q", f"{name}_s", f"{name}_z"]
        nodes.append(helper.make_node("DequantizeLinear", given, [f"{name}_d"], axis=0))
    for name, end in zip(("image", "b"), largest, strict=True):
        constants |= {f"{name}_s": FLOAT.type(end / 127), f"{name}_z": np.uint8(128)}
        given = [f"{name}_s", f"{name}_z"]
        nodes.append(helper.make_node("QuantizeLinear", [name, *given], [f"{name}_q"]))
        nodes.append(helper.make_node("DequantizeLinear", [f"{name}_q", *given], [f"{name}_d"]))
        if name == "image":
            nodes.append(conv(["image_d", "first_d"], "a"))
            nodes.append(helper.make_node("Add", ["a", "image_d"], ["b"]))
    nodes.append(conv(["b_d", "second_d"], "teacher_0"))
    nodes.append(helper.make_node("Identity", ["a"], ["student_0"]))
    return model(nodes, constants, TensorProto.FLOAT)


def conv(given: list[str], output: str) -> NodeProto:
    return helper.make_node(
        *("Conv", given, [output]),
        **{"group": 1, "pads": [1] * 4, "strides": [1, 1], "dilations": [1, 1]},
    )


def model(nodes: list[NodeProto], constants: dict[str, np.ndarray], image: int) -> onnx.ModelProto:
    def port(name: str, element: int) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, element, ["batch", 32, 6, 6])

    graph = helper.make_graph(
        nodes,
        "network",
        [port("image", image)],
        [port(name, TensorProto.FLOAT) for name in ("teacher_0", "student_0")],
        [numpy_helper.from_array(np.asarray(c), name) for name, c in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


WEIGHTS = (
    np.random.default_rng(0).normal(0, 0.1, (32, 32, 3, 3)),
    np.random.default_rng(1).normal(0, 1e3, (32, 32, 3, 3)),
)
WEIGHTS[0][5] = 0  # its scale must be positive nevertheless
RANGES = (3.0, 12.0)


@pytest.mark.parametrize("stored", LARGEST)
def test_scales(stored: str) -> None:
    half = half_network(WEIGHTS, HALF)
    made = quantize_for_gpus(half, int8_network(WEIGHTS, RANGES), stored)
    constants = {c.name: c for c in made.graph.initializer}
    for tensor, largest, dtype in (
        ("image", RANGES[0], HALF),
        ("c", RANGES[1], FLOAT),
        ("first", abs(WEIGHTS[0].astype(HALF)).max((1, 2, 3)).astype(float), HALF),
        ("second", abs(WEIGHTS[1]).max((1, 2, 3)), FLOAT),
    ):
        scale = numpy_helper.to_array(constants[f"{tensor}_scale"])
        assert scale.dtype == dtype
        assert np.all(scale > 0)
        exact, resolved = largest / LARGEST[stored], np.finfo(dtype)
        # Large enough for all values, and no larger than its type makes it.
        assert np.all(scale >= exact * (1 - 1e-6))
        assert np.all(scale <= exact * (1 + 2 * resolved.eps) + resolved.smallest_subnormal)
    (addition,) = (n for n in made.graph.node if n.op_type == "Add")
    assert list(addition.input) == ["a", "image_dequantised"]


@pytest.mark.parametrize("stored", LARGEST)
def test_the_check_executes_what_onnx_specifies(stored: str, tmp_path: Path) -> None:
    """In float32 between, where both give the same sums."""
    half = half_network(WEIGHTS, FLOAT)
    made = quantize_for_gpus(half, int8_network(WEIGHTS, RANGES), stored)
    onnx.save(made, tmp_path / "network.onnx")
    image = np.random.default_rng(2).normal(0, 1.5, (2, 32, 6, 6)).astype(FLOAT)
    assert abs(image).max() > RANGES[0]  # which saturates
    (chunk,) = RoundedNetwork(tmp_path / "network.onnx", "fp8").run(image)
    wanted = ReferenceEvaluator(made).run(None, {"image": image})
    plain = ReferenceEvaluator(half).run(None, {"image": image})
    for found, quantised, exact in zip(
        (*chunk.teacher, *chunk.student), wanted, plain, strict=True
    ):
        largest = abs(quantised).max()
        np.testing.assert_allclose(found, quantised, rtol=0, atol=1e-5 * largest)
        assert abs(quantised - exact).max() > 1e-3 * largest
