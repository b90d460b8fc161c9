"""Reference execution of networks in their own precision on any CPU, for the checks at export."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper
from torch import Tensor

from rdx_fast.engines.engine import Chunk
from rdx_fast.engines.torch_graph import STEPS, torch_type
from rdx_fast.errors import EngineError


class RoundedNetwork:
    """Emulates half precision, and quantisation with explicit nodes, on a CPU without them.

    Sums are in float32, as in tensor cores of GPUs and bfloat16 units of CPUs; the result of every
    step and every weight is rounded.

    Args:
        path: the ONNX file
        executed: "bf16" rounds everything to bfloat16; any other to the types of the graph

    Raises:
        EngineError: the graph has an operator that is not supported
    """

    def __init__(self, path: Path, executed: str) -> None:
        graph = onnx.shape_inference.infer_shapes(onnx.load(path), strict_mode=True).graph
        self._outputs = [value.name for value in graph.output]
        self._types = {
            value.name: torch_type(value.type.tensor_type.elem_type)
            for value in (*graph.input, *graph.value_info, *graph.output)
        }
        self._constants: dict[str, Any] = {"": None}
        for constant in graph.initializer:
            self._constants[constant.name] = _read(constant)
        if executed == "bf16":
            self._types = dict.fromkeys(self._types, torch.bfloat16)
            for name, value in self._constants.items():
                if isinstance(value, Tensor):
                    self._constants[name] = value.bfloat16().float()
        self._steps: list[_Step] = []
        for node in graph.node:
            step = _step(node, path)
            if self._constants.keys() >= set(step.given):  # weights that are quantised
                weights = self._result(step, self._constants)
                self._constants[step.name] = weights.contiguous(memory_format=torch.channels_last)
            else:
                self._steps.append(step)
        self._last_use = {name: step.name for step in self._steps for name in step.given}

    def run(self, inputs: NDArray[np.float32]) -> Iterator[Chunk]:
        """``inputs: [B, 3, H, W] float32``, all in one chunk."""
        image = torch.from_numpy(inputs).contiguous(memory_format=torch.channels_last)
        values = self._constants | {"image": self._rounded("image", image)}
        with torch.inference_mode():
            for step in self._steps:
                values[step.name] = self._result(step, values)
                for name in step.given:
                    if self._last_use[name] == step.name and name not in self._outputs:
                        values.pop(name, None)  # several may be large
        maps = [values[name].numpy() for name in self._outputs]
        half = len(maps) // 2
        yield Chunk(0, maps[:half], maps[half:])

    def _result(self, step: _Step, values: dict[str, Any]) -> Tensor:
        given = (values[name] for name in step.given)
        return self._rounded(step.name, step.run(*given, **step.options))

    def _rounded(self, name: str, value: Tensor) -> Tensor:
        return value.to(self._types[name]).float()


class _Step(NamedTuple):
    """A node of the graph.

    Attributes:
        name: of its result
        given: names of what it takes
        run: computes the result
        options: keyword arguments of ``run``
    """

    name: str
    given: list[str]
    run: Callable[..., Tensor]
    options: dict[str, Any]


def _step(node: NodeProto, path: Path) -> _Step:
    attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    run: Callable[..., Tensor]
    if node.op_type == "QuantizeLinear":
        run, options = _quantize, {}
    elif node.op_type == "DequantizeLinear":
        run, options = _dequantize, {"axis": attributes.get("axis", 1)}
    elif node.op_type in STEPS:
        run, options = STEPS[node.op_type](attributes)
    else:
        raise EngineError(
            f"{path}: the check at export does not support the operator {node.op_type} (it "
            f"supports {', '.join(sorted(STEPS))})"
        )
    return _Step(node.output[0], list(node.input), run, options)


def _read(constant: TensorProto) -> Tensor | list[int]:
    """A list for the axes of an operator; quantised values keep their type, others are float32."""
    if constant.data_type == TensorProto.FLOAT8E4M3FN:  # NumPy has none
        raw = torch.frombuffer(bytearray(constant.raw_data), dtype=torch.float8_e4m3fn)
        return raw.reshape(tuple(constant.dims))
    array = numpy_helper.to_array(constant)
    if array.dtype == np.int64:
        axes: list[int] = array.tolist()
        return axes
    value = torch.from_numpy(array.copy())
    if value.ndim == 4:
        value = value.contiguous(memory_format=torch.channels_last)
    return value if value.dtype == torch.int8 else value.float()


def _quantize(x: Tensor, scale: Tensor, zero: Tensor) -> Tensor:
    """One scale for the tensor. The zero point is 0; its type is that of the result."""
    scaled = x / scale
    if zero.dtype == torch.int8:
        return scaled.round().clamp(-128, 127)
    largest = torch.finfo(zero.dtype).max
    return scaled.clamp(-largest, largest)


def _dequantize(x: Tensor, scale: Tensor, zero: Tensor, axis: int) -> Tensor:
    if scale.ndim:
        scale = scale.reshape([-1 if a == axis else 1 for a in range(x.ndim)])
    return x.float() * scale
