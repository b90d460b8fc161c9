"""Convolution, residual addition and ReLU of an exported graph as one step, which cuDNN runs as one
kernel."""

from __future__ import annotations

import operator
from math import prod
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from rdx_fast.engines.torch_graph import Pads, convolution, padded

TYPES = (torch.float16, torch.float32)  # of the convolutions that are fused


def fuse(network: fx.GraphModule, image: Tensor) -> int:
    """Make one step of each convolution that a ReLU follows, directly or after the addition of
    another value.

    Convolutions in groups, without bias or of input channels that are no multiple of 8, values that
    are used elsewhere too, additions of another shape, and types other than ``TYPES`` stay as they
    are. On a CPU the results are the same, bit for bit.

    Args:
        network: what ``read_network`` returned; changed in place
        image: an input of the network, of which only shape and type are used

    Returns:
        how many steps were made
    """
    values = _Values(network)
    values.run(torch.empty_like(image, device="meta"))
    network.register_buffer("zeros", torch.zeros(0, dtype=image.dtype, device=image.device))
    graph = network.graph
    relus = graph.find_nodes(op="call_function", target=functional.relu)
    with graph.inserting_after(next(node for node in graph.nodes if node.op == "placeholder")):
        zeros = graph.get_attr("zeros")
    made = 0
    for relu in relus:
        found = _fused(relu.args[0], values.of, zeros)
        if found is None:
            continue
        with graph.inserting_before(relu):
            step = graph.call_function(*found)
        values.of[step] = values.of[relu]
        relu.replace_all_uses_with(step)
        made += 1
    graph.eliminate_dead_code()
    graph.lint()
    network.recompile()
    return made


def merge_biases(network: fx.GraphModule, image: Tensor) -> int:
    """Where two convolutions are added, let one of them add both biases: torch adds the bias of a
    convolution that nothing is fused with in a kernel of its own. Results change by rounding.

    Args:
        network: what ``read_network`` returned; changed in place
        image: an input of the network, of which only shape and type are used

    Returns:
        how many biases were moved
    """
    values = _Values(network)
    values.run(torch.empty_like(image, device="meta"))
    graph = network.graph
    moved = 0
    for addition in graph.find_nodes(op="call_function", target=operator.add):
        pair: Any = addition.args
        if pair[0] is pair[1] or not all(_adds_a_bias(value, values.of) for value in pair):
            continue
        # One that can be fused with the addition keeps its bias.
        kept, plain = sorted(pair, key=lambda value: _is_fusable(value, values.of), reverse=True)
        biases = [network.get_parameter(value.args[2].target) for value in (kept, plain)]
        total = (biases[0].float() + biases[1].float()).to(biases[0].dtype)
        name = f"biases_{moved}"
        network.register_parameter(name, nn.Parameter(total, requires_grad=False))
        with graph.inserting_before(kept):
            kept.args = (*kept.args[:2], graph.get_attr(name))
        plain.args = plain.args[:2]
        moved += 1
    graph.eliminate_dead_code()
    graph.lint()
    network.recompile()
    return moved


def reserve_zeros(network: fx.GraphModule, batch: int) -> Tensor:
    """Provide the zeros that ``conv_relu`` adds, for batches up to this size.

    Returns:
        the zeros, to be kept as long as a CUDA graph of the network is used
    """
    steps = network.graph.find_nodes(op="call_function", target=conv_relu)
    wanted = batch * max((prod(step.kwargs["size"]) for step in steps), default=0)
    zeros: Any = network.zeros
    if zeros.numel() < wanted:
        network.zeros = zeros.new_zeros(wanted)
    return network.zeros  # type: ignore[return-value]


def conv_relu(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    zeros: Tensor,
    *,
    size: tuple[int, int, int],
    pads: Pads,
    **options: Any,
) -> Tensor:
    """``relu(convolution(x))`` of ``size`` (channels, height, width).

    torch's ``cudnn_convolution_relu`` gives cuDNN the uninitialised memory of its output as a
    summand times 0: were cuDNN to read it, NaN that an overflow left there would spread. Therefore
    this is ``cudnn_convolution_add_relu``, with ``zeros`` times 0, which does the same otherwise.
    """
    if not _in_cudnn(x):
        return functional.relu(convolution(x, weight, bias, pads=pads, **options))
    channels, height, width = size
    shape = (x.shape[0], height, width, channels)
    nothing = zeros[: prod(shape)].view(shape).permute(0, 3, 1, 2)
    return _on_cudnn(x, weight, bias, nothing, 0.0, pads, **options)


def conv_add_relu(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    other: Tensor,
    *,
    pads: Pads,
    **options: Any,
) -> Tensor:
    """``relu(convolution(x) + other)``."""
    if not _in_cudnn(x):
        return functional.relu(convolution(x, weight, bias, pads=pads, **options) + other)
    return _on_cudnn(x, weight, bias, other, 1.0, pads, **options)


def _on_cudnn(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    other: Tensor,
    alpha: float,
    pads: Pads,
    *,
    stride: tuple[int, int],
    dilation: tuple[int, int],
    groups: int,
) -> Tensor:
    x, padding = padded(x, pads)
    run = torch.ops.aten.cudnn_convolution_add_relu.default
    return run(x, weight, other, alpha, bias, stride, padding, dilation, groups)


def _in_cudnn(x: Tensor) -> bool:
    return x.is_cuda


class _Values(fx.Interpreter):
    """Runs a network for shapes and types alone: ``of`` holds the value of each node."""

    def __init__(self, network: fx.GraphModule) -> None:
        super().__init__(network)
        self.of: dict[fx.Node, Any] = {}

    def fetch_attr(self, target: str) -> Tensor:
        return super().fetch_attr(target).to("meta")

    def run_node(self, n: fx.Node) -> Any:
        self.of[n] = super().run_node(n)
        return self.of[n]


def _fused(value: Any, of: dict[fx.Node, Any], zeros: fx.Node) -> tuple[Any, Any, Any] | None:
    """Step, arguments and options instead of the ReLU of a value; None if there is none."""
    if _is_fusable(value, of):
        size = tuple(of[value].shape[1:])
        return conv_relu, (*value.args, zeros), {"size": size, **value.kwargs}
    if value.target is not operator.add or len(value.users) > 1:
        return None
    first, second = value.args
    for conv, other in ((first, second), (second, first)):
        if (
            _is_fusable(conv, of)
            and isinstance(other, fx.Node)
            and other is not conv
            and of[other].shape == of[conv].shape
        ):
            return conv_add_relu, (*conv.args, other), conv.kwargs
    return None


def _adds_a_bias(value: Any, of: dict[fx.Node, Any]) -> bool:
    """Whether a value is that of a convolution with bias, in a type of ``TYPES``, which only one
    other step uses."""
    if not isinstance(value, fx.Node) or len(value.users) > 1 or len(value.args) != 3:
        return False
    bias: Any = value.args[2]
    known = value.target in (convolution, functional.conv_transpose2d)
    return bool(known and bias.op == "get_attr" and of[value].dtype in TYPES)


def _is_fusable(value: Any, of: dict[fx.Node, Any]) -> bool:
    """Whether a value is that of a convolution which only one other step uses, and which tensor
    cores take as it is: that of an image's three channels is slow in cuDNN's fused form."""
    if not isinstance(value, fx.Node) or value.target is not convolution or len(value.users) > 1:
        return False
    given: Any = value.args[0]
    return bool(
        value.kwargs["groups"] == 1
        and len(value.args) == 3  # with bias
        and of[given].shape[1] % 8 == 0
        and of[value].dtype in TYPES
    )
