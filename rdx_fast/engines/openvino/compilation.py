"""How OpenVINO compiles a network, and what it then executes."""

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

# One for the process, never let go: each core's CPU device gives its thread a stack for signals and
# on its end puts back the one before. Ended out of turn, or by another thread, it leaves the thread
# a stack that is gone, and the next signal that Python handles there ends the process.
CORE = ov.Core()
# What is asked of OpenVINO for the layers that the network itself leaves open. Always asked, since
# its own choice is bfloat16 wherever the CPU has it.
INFERENCE_TYPE = {
    "fp32": ov.Type.f32,
    "fp16": ov.Type.f16,
    "bf16": ov.Type.bf16,
    "int8": ov.Type.f32,
}

# How the names of the primitives that then execute its convolutions end.
_EXECUTED = {"fp32": "f32", "fp16": "f16", "bf16": "bf16", "int8": "i8"}


def capabilities() -> frozenset[str]:
    """What OpenVINO says that this CPU executes natively, such as FP32, BF16, INT8; and
    ``FAST_BF16``."""
    found = frozenset(CORE.get_property("CPU", "OPTIMIZATION_CAPABILITIES"))
    return found | {FAST_BF16} if "BF16" in found and has_fast_bf16() else found


def port_shapes(network: ov.Model) -> dict[str, tuple[int, ...]]:
    """Of inputs and outputs for one image, by name; -1 where the network leaves a size open."""
    return {
        port.any_name: tuple(_size(d) for d in port.get_partial_shape())[1:]
        for port in (*network.inputs, *network.outputs)
    }


def _size(dimension: ov.Dimension) -> int:
    """-1 where it is open."""
    return int(dimension.get_length()) if dimension.is_static else -1


def compile_network(
    model: ov.Model, config: dict[Any, Any], pooled: Collection[str] = ()
) -> ov.CompiledModel:
    """The network of one image, taking and giving float32, with channels last in its maps, as it
    computes them. ``pooled``: outputs behind a 1 x 1 average pool, see ``transposed_outputs``."""
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
    """Outputs whose axes OpenVINO transposes and puts back for nothing.

    It does so to a convolution with a residual sum right before an output. A 1 x 1 average pool
    between the two, which changes no value, keeps it from that.
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
    """Of a network as it is executed."""
    return str(node.get_rt_info()["layerType"].astype(str))


def executed_convolutions(compiled: ov.CompiledModel) -> Counter[str]:
    """How many take f32, f16, bf16, or bytes (i8): what the name of their primitive ends with is
    the type of their input.

    Transposed convolutions are left out: OpenVINO leaves some of them in float32.
    """
    return Counter(
        node.get_rt_info()["primitiveType"].astype(str).rpartition("_")[2].lower()
        for node in compiled.get_runtime_model().get_ops()
        if _layer_type(node) == "Convolution"
    )


def check_executed(convolutions: Counter[str], executed: str) -> None:
    """Raises ``EngineError`` unless most are executed in that precision; for fp32, all.

    int8 networks have float32 layers nearest the pixels.
    """
    wanted = _EXECUTED[executed]
    count = convolutions[wanted]
    total = convolutions.total()
    if count < total if executed == "fp32" else 2 * count <= total:
        found = ", ".join(f"{n} in {name}" for name, n in sorted(convolutions.items()))
        raise EngineError(
            f"asked for {executed}, OpenVINO {ov.__version__.split('-')[0]} would execute "
            f"convolutions otherwise on this CPU ({found or 'the network has none'})"
        )
