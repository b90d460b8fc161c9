"""A bundle's ONNX network as a torch module with the same operators as the exported graph."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, fx, nn
from torch.nn import functional

from rdx_fast.bundle.manifest import Manifest
from rdx_fast.errors import EngineError

Step = Callable[..., Tensor]
Pads = tuple[int, int, int, int]  # top, left, bottom, right


def read_network(path: Path) -> tuple[fx.GraphModule, torch.dtype]:
    """Read the network of an ONNX file that ``rdx_fast.export`` wrote.

    Args:
        path: the ONNX file

    Returns:
        the network and the dtype of its input. Called with ``image``, ``[B, 3, H, W]``, the network
        returns teacher and student maps, lists of ``[B, C_s, h_s, w_s]``; every step has the types
        stored in the file

    Raises:
        EngineError: the graph has an operator that is not supported
    """
    model = onnx.load(path)
    root, graph = nn.Module(), fx.Graph()
    values: dict[str, Any] = {"": None}
    for count, constant in enumerate(model.graph.initializer):
        tensor = torch.from_numpy(numpy_helper.to_array(constant).copy())
        if tensor.is_floating_point() and tensor.ndim:
            name = f"constant_{count}"
            root.register_parameter(name, nn.Parameter(tensor, requires_grad=False))
            values[constant.name] = graph.get_attr(name)
        else:
            values[constant.name] = tensor.tolist()
    (image,) = model.graph.input
    values[image.name] = graph.placeholder("image")
    for node in model.graph.node:
        if node.op_type not in STEPS:
            raise EngineError(
                f"{path}: the torch backend does not support the operator {node.op_type} (it "
                f"supports {', '.join(sorted(STEPS))}): use backend='openvino' or 'tensorrt'"
            )
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        step, options = STEPS[node.op_type](attributes)
        given = tuple(values[name] for name in node.input)
        values[node.output[0]] = graph.call_function(step, given, options)
    maps = [values[output.name] for output in model.graph.output]
    half = len(maps) // 2
    graph.output((maps[:half], maps[half:]))
    graph.lint()
    return fx.GraphModule(root, graph), torch_type(image.type.tensor_type.elem_type)


def check_shapes(path: Path, manifest: Manifest) -> None:
    """Raises ``BundleError`` unless input and outputs match the manifest."""
    graph = onnx.load(path, load_external_data=False).graph

    def shape(value: onnx.ValueInfoProto) -> tuple[int, ...]:
        return tuple(d.dim_value for d in value.type.tensor_type.shape.dim)[1:]

    ports = (*graph.input, *graph.output)
    manifest.check_network(path, {port.name: shape(port) for port in ports})


def _conv(attributes: dict[str, Any]) -> tuple[Step, dict[str, Any]]:
    return convolution, {
        "pads": tuple(attributes["pads"]),
        "stride": tuple(attributes["strides"]),
        "dilation": tuple(attributes["dilations"]),
        "groups": attributes["group"],
    }


def convolution(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    pads: Pads,
    **options: Any,
) -> Tensor:
    """``conv2d`` with padding of ONNX."""
    x, padding = padded(x, pads)
    return functional.conv2d(x, weight, bias, padding=padding, **options)


def padded(x: Tensor, pads: Pads) -> tuple[Tensor, tuple[int, int]]:
    """``x`` and the padding that is left to a convolution: uneven padding, which torch's have not,
    is done here."""
    top, left, bottom, right = pads
    if (top, left) == (bottom, right):
        return x, (top, left)
    return functional.pad(x, (left, right, top, bottom)), (0, 0)


def _conv_transpose(attributes: dict[str, Any]) -> tuple[Step, dict[str, Any]]:
    return functional.conv_transpose2d, {
        "stride": tuple(attributes["strides"]),
        "padding": _even(attributes),
        "output_padding": tuple(attributes["output_padding"]),
        "groups": attributes["group"],
        "dilation": tuple(attributes["dilations"]),
    }


def _max_pool(attributes: dict[str, Any]) -> tuple[Step, dict[str, Any]]:
    return functional.max_pool2d, _pool(attributes)


def _average_pool(attributes: dict[str, Any]) -> tuple[Step, dict[str, Any]]:
    counted = bool(attributes["count_include_pad"])
    return functional.avg_pool2d, _pool(attributes) | {"count_include_pad": counted}


def _pool(attributes: dict[str, Any]) -> dict[str, Any]:
    return {
        "kernel_size": tuple(attributes["kernel_shape"]),
        "stride": tuple(attributes["strides"]),
        "padding": _even(attributes),
        "ceil_mode": bool(attributes["ceil_mode"]),
    }


def _even(attributes: dict[str, Any]) -> tuple[int, int]:
    top, left, bottom, right = attributes["pads"]
    assert (top, left) == (bottom, right), "only convolutions are exported with uneven padding"
    return top, left


def _cast(attributes: dict[str, Any]) -> tuple[Step, dict[str, Any]]:
    return Tensor.to, {"dtype": torch_type(attributes["to"])}


def torch_type(element: int) -> torch.dtype:
    return getattr(torch, str(onnx.helper.tensor_dtype_to_np_dtype(element)))


def _norm(attributes: dict[str, Any]) -> tuple[Step, dict[str, Any]]:
    return _l2, {"keepdim": bool(attributes["keepdims"])}


def _l2(x: Tensor, axes: Sequence[int], keepdim: bool) -> Tensor:
    return torch.linalg.vector_norm(x, dim=tuple(axes), keepdim=keepdim)


def _sum(attributes: dict[str, Any]) -> tuple[Step, dict[str, Any]]:
    return torch.sum, {"keepdim": bool(attributes["keepdims"])}


def _unsqueeze(x: Tensor, axes: Sequence[int]) -> Tensor:
    (axis,) = axes
    return x.unsqueeze(axis)


def _concatenate(attributes: dict[str, Any]) -> tuple[Step, dict[str, Any]]:
    return _cat, {"dim": attributes["axis"]}


def _cat(*given: Tensor, dim: int) -> Tensor:
    return torch.cat(given, dim)


def _plain(step: Step) -> Callable[[dict[str, Any]], tuple[Step, dict[str, Any]]]:
    return lambda attributes: (step, {})


STEPS: dict[str, Callable[[dict[str, Any]], tuple[Step, dict[str, Any]]]] = {
    "Add": _plain(operator.add),
    "AveragePool": _average_pool,
    "Cast": _cast,
    "Clip": _plain(torch.clamp),
    "Concat": _concatenate,
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "Div": _plain(operator.truediv),
    "MaxPool": _max_pool,
    "Mul": _plain(operator.mul),
    "ReduceL2": _norm,
    "ReduceSum": _sum,
    "Relu": _plain(functional.relu),
    "Sub": _plain(operator.sub),
    "Unsqueeze": _plain(_unsqueeze),
}
