"""Compiling a network with OpenVINO, and checking which precision it then executes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from typing import Any

import openvino as ov
from openvino import opset8 as opset
from openvino.preprocess import PrePostProcessor

from rdx_fast.cpu import has_fast_bf16
from rdx_fast.errors import EngineError
from rdx_fast.precision import FAST_BF16

# One for the whole process, never released: the CPU device of each core installs a signal stack for
# its thread and restores the previous one when it is destroyed. Destroyed out of order, or by
# another thread, it leaves the thread with a freed stack, and the next signal that Python handles
# in that thread kills the process.
CORE = ov.Core()
# The precision requested from OpenVINO for layers whose precision the network does not fix. Always
# requested, since OpenVINO's default is bfloat16 on every CPU that has it.
INFERENCE_TYPE = {
    "fp32": ov.Type.f32,
    "fp16": ov.Type.f16,
    "bf16": ov.Type.bf16,
    "int8": ov.Type.f32,
}

# Suffixes of the names of the primitives that then execute the convolutions.
_EXECUTED = {"fp32": "f32", "fp16": "f16", "bf16": "bf16", "int8": "i8"}


def capabilities() -> frozenset[str]:
    """What this CPU executes natively according to OpenVINO, such as FP32, BF16, INT8; with
    ``FAST_BF16`` where bfloat16 is faster than float32."""
    found = frozenset(CORE.get_property("CPU", "OPTIMIZATION_CAPABILITIES"))
    return found | {FAST_BF16} if "BF16" in found and has_fast_bf16() else found


def port_shapes(network: ov.Model) -> dict[str, tuple[int, ...]]:
    """Shapes of inputs and outputs for one image, by name; -1 for a dynamic size."""
    return {
        port.any_name: tuple(_size(d) for d in port.get_partial_shape())[1:]
        for port in (*network.inputs, *network.outputs)
    }


def _size(dimension: ov.Dimension) -> int:
    """-1 for a dynamic dimension."""
    return int(dimension.get_length()) if dimension.is_static else -1


def compile_network(
    model: ov.Model, config: dict[Any, Any], pooled: Collection[str] = ()
) -> ov.CompiledModel:
    """Compile a network for one image, with float32 input and outputs.

    Args:
        model: the network as read from its file; it is changed in place
        config: OpenVINO's properties
        pooled: names of outputs to put behind a 1 x 1 average pool, see ``transposed_outputs``

    Returns:
        the compiled network; its maps are channels-last, the layout in which it computes them
    """
    model.reshape([1, *(int(d.get_length()) for d in list(model.input().partial_shape)[1:])])
    for result in model.get_results():
        source = result.input_value(0)
        if names := source.names & set(pooled):
            one, none = [1, 1], [0, 0]
            pool = opset.avg_pool(source, one, none, none, one, exclude_pad=True).output(0)
            source.set_names(source.names - names)
            pool.set_names(names)
            result.input(0).replace_source_output(pool)
    model.validate_nodes_and_infer_types()
    steps = PrePostProcessor(model)
    steps.input().tensor().set_element_type(ov.Type.f32)
    for index in range(len(model.outputs)):
        steps.output(index).model().set_layout(ov.Layout("NCHW"))
        steps.output(index).tensor().set_layout(ov.Layout("NHWC")).set_element_type(ov.Type.f32)
    return CORE.compile_model(steps.build(), "CPU", config)


def transposed_outputs(compiled: ov.CompiledModel) -> set[str]:
    """Names of outputs that OpenVINO needlessly transposes twice, to another layout and back.

    This happens to a convolution with a residual sum directly before an output. A 1 x 1 average
    pool between the two, which changes no value, prevents it.
    """
    found = set()
    for result in compiled.get_runtime_model().get_results():
        node = result.input_value(0).get_node()
        while (kind := _layer_type(node)) in ("Reorder", "Convert"):
            node = node.input_value(0).get_node()
        if kind == "Transpose":
            found.add(result.get_friendly_name().partition("/")[0])
    return found


def _layer_type(node: ov.Node) -> str:
    """The type of a layer of the network as it is executed."""
    return str(node.get_rt_info()["layerType"].astype(str))


def executed_convolutions(compiled: ov.CompiledModel) -> Counter[str]:
    """Count the convolutions by input type: f32, f16, bf16 or i8 (bytes).

    The suffix of a primitive's name is its input type. Transposed convolutions are not counted:
    OpenVINO leaves some of them in float32.
    """
    return Counter(
        node.get_rt_info()["primitiveType"].astype(str).rpartition("_")[2].lower()
        for node in compiled.get_runtime_model().get_ops()
        if _layer_type(node) == "Convolution"
    )


def check_executed(convolutions: Counter[str], executed: str) -> None:
    """Check that most convolutions are executed in a precision; for fp32, all of them.

    int8 networks have float32 layers nearest the pixels.

    Raises:
        EngineError: too few convolutions are executed in the precision
    """
    wanted = _EXECUTED[executed]
    count = convolutions[wanted]
    total = convolutions.total()
    if count < total if executed == "fp32" else 2 * count <= total:
        found = ", ".join(f"{n} in {name}" for name, n in sorted(convolutions.items()))
        raise EngineError(
            f"asked for {executed}, OpenVINO {ov.__version__.split('-')[0]} would execute the "
            f"convolutions in another precision on this CPU ({found or 'the network has none'})"
        )
