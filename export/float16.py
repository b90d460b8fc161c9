"""Conversion to half precision; what exceeds float16's range on good parts stays in float32."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, fx

# float16 ends at 65504. A defect may cause activations several times as large as good parts do.
LIMIT = 2.0**13


def to_half(network: fx.GraphModule, images: Iterable[Tensor]) -> fx.GraphModule:
    """Convert a network to float16, in place, except where values are too large for it.

    A step runs in float32 if an input, its output or one of its weights exceeds ``LIMIT``; its
    result is converted back to float16 as soon as it fits. If one output of the network must be
    float32, all of them are.

    Args:
        network: traced, without batch normalisation
        images: good parts on which magnitudes are measured, ``[B, 3, H, W]`` float32 normalised

    Returns:
        ``network``
    """
    measured = _Ranges(network)
    for image in images:
        measured.run(image)
    graph = network.graph
    wide = {name for name, largest in measured.largest.items() if largest > LIMIT}
    precise = [node for node in graph.nodes if _runs_precise(network, node, wide, measured.largest)]
    kept = {node.target for node in precise if node.op == "call_module"}
    for name, module in network.named_modules():
        if not list(module.children()):
            module.to(torch.float32 if name in kept else torch.float16)
    for node in precise:
        _cast_inputs(node, measured.largest)
        if node.name not in wide:
            users = list(node.users)
            with graph.inserting_after(node):
                halved = graph.call_method("half", (node,))
            for user in users:
                user.replace_input_with(node, halved)
    leaving = _collector(graph, measured.largest)
    if any(given.name in wide for given in leaving.all_input_nodes):
        _cast_inputs(leaving, measured.largest)
    graph.lint()
    network.recompile()
    return network


class _Ranges(fx.Interpreter):
    """Runs a network and records the largest magnitude of each step's output."""

    def __init__(self, network: fx.GraphModule) -> None:
        super().__init__(network)
        self.largest: dict[str, float] = {}

    def run_node(self, n: fx.Node) -> object:
        result = super().run_node(n)
        if isinstance(result, Tensor):
            found = float(result.abs().max())
            self.largest[n.name] = max(found, self.largest.get(n.name, 0.0))
        return result


def _runs_precise(
    network: fx.GraphModule, node: fx.Node, wide: set[str], tensors: dict[str, float]
) -> bool:
    if node.name not in tensors or node.op == "placeholder":
        return False
    if node.name in wide or any(given.name in wide for given in node.all_input_nodes):
        return True
    if node.op != "call_module":
        return False
    weights = network.get_submodule(str(node.target)).parameters()
    return any(float(weight.abs().max()) > LIMIT for weight in weights)


def _cast_inputs(node: fx.Node, tensors: dict[str, float]) -> None:
    with node.graph.inserting_before(node):
        for given in node.all_input_nodes:
            if given.name in tensors or given.target == "half":
                node.replace_input_with(given, node.graph.call_method("float", (given,)))


def _collector(graph: fx.Graph, tensors: dict[str, float]) -> fx.Node:
    """The step that collects the maps, or the output itself."""
    (output,) = (node for node in graph.nodes if node.op == "output")
    (first, *_) = output.all_input_nodes
    return output if first.name in tensors else first
