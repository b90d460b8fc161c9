"""Convolution, residual addition and ReLU of an exported graph as one step, which cuDNN runs as one
kernel."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, fx
from torch.nn import functional

from rdx_fast.engines.torch_graph import Pads, convolution, padded

TYPES = (torch.float16, torch.float32)  # of the convolutions that are fused


def fuse(network: fx.GraphModule, image: Tensor) -> int:
    """Make one step of each convolution that a ReLU follows, directly or after the addition of
    another value.

    Convolutions in groups or without bias, values that are used elsewhere too, additions of another
    shape, and types other than ``TYPES`` stay as they are. On a CPU the results are the same, bit
    for bit.

    Args:
        network: what ``read_network`` returned; changed in place
        image: an input of the network, of which only shape and type are used

    Returns:
        how many steps were made
    """
    values = _Values(network)
    values.run(torch.empty_like(image, device="meta"))
    relus = network.graph.find_nodes(op="call_function", target=functional.relu)
    made = 0
    for relu in relus:
        found = _fused(relu.args[0], values.of)
        if found is None:
            continue
        with network.graph.inserting_before(relu):
            step = network.graph.call_function(*found)
        values.of[step] = values.of[relu]
        relu.replace_all_uses_with(step)
        made += 1
    network.graph.eliminate_dead_code()
    network.graph.lint()
    network.recompile()
    return made


def conv_relu(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    *,
    pads: Pads,
    stride: tuple[int, int],
    dilation: tuple[int, int],
    groups: int,
) -> Tensor:
    """``relu(convolution(x))``; cuDNN's operator follows torch's settings ``allow_tf32`` and
    ``benchmark``, as a plain convolution does."""
    if not _in_cudnn(x):
        options: dict[str, Any] = {"stride": stride, "dilation": dilation, "groups": groups}
        return functional.relu(convolution(x, weight, bias, pads=pads, **options))
    x, padding = padded(x, pads)
    run = torch.ops.aten.cudnn_convolution_relu.default
    return run(x, weight, bias, stride, padding, dilation, groups)


def conv_add_relu(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    other: Tensor,
    *,
    pads: Pads,
    stride: tuple[int, int],
    dilation: tuple[int, int],
    groups: int,
) -> Tensor:
    """``relu(convolution(x) + other)``; see ``conv_relu``."""
    if not _in_cudnn(x):
        options: dict[str, Any] = {"stride": stride, "dilation": dilation, "groups": groups}
        return functional.relu(convolution(x, weight, bias, pads=pads, **options) + other)
    x, padding = padded(x, pads)
    run = torch.ops.aten.cudnn_convolution_add_relu.default
    return run(x, weight, other, 1.0, bias, stride, padding, dilation, groups)


def depends_on_memory(run: Callable[[], Sequence[Sequence[Tensor]]], image: Tensor) -> bool:
    """Whether features depend on what earlier images left in memory.

    ``cudnn_convolution_relu`` gives cuDNN the memory of its output as a summand, times 0. A cuDNN
    that reads it nevertheless makes NaN of what an overflow left there. Tried with an infinite
    image between two equal ones.

    Args:
        run: runs the network and returns lists of features
        image: the network's input, which is overwritten
    """

    def features() -> list[Tensor]:
        image.zero_()
        return [m.clone() for maps in run() for m in maps]

    before = features()
    image.fill_(float("inf"))
    run()
    return not all(map(torch.equal, before, features()))


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


def _fused(value: Any, of: dict[fx.Node, Any]) -> tuple[Any, Any, Any] | None:
    """Step, arguments and options instead of the ReLU of a value; None if there is none."""
    if _is_fusable(value, of):
        return conv_relu, value.args, value.kwargs
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


def _is_fusable(value: Any, of: dict[fx.Node, Any]) -> bool:
    """Whether a value is that of a convolution which only one other step uses."""
    return bool(
        isinstance(value, fx.Node)
        and value.target is convolution
        and len(value.users) == 1
        and value.kwargs["groups"] == 1
        and len(value.args) == 3  # with bias
        and of[value].dtype in TYPES
    )
