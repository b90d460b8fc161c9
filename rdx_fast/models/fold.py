"""Folding of batch normalisation into the preceding convolutions."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from rdx_fast.errors import ExportError


def fold_batch_norm(network: nn.Module) -> fx.GraphModule:
    """Trace a network with its batch normalisation folded into the convolutions.

    The modules are not copied: the convolutions of ``network`` change, and it is set to evaluation
    mode.

    Raises:
        ExportError: a batch norm does not directly follow a convolution whose output nothing else
            uses
    """
    traced, pairs = _trace(network)
    modules = dict(traced.named_modules())
    for conv, norm in pairs:
        modules[conv].weight, modules[conv].bias = _folded(modules[conv], modules[norm])
    traced.delete_all_unused_submodules()
    return traced


class FoldedCopy:
    """A copy of a network with its batch normalisation folded, to run while the network is trained.

    Args:
        network: the network; it is not changed

    Raises:
        ExportError: it has weights outside of pairs of convolution and batch norm, which the copy
            would not follow
    """

    def __init__(self, network: nn.Module) -> None:
        self._network = dict(network.named_modules())
        self._copy, self._pairs = _trace(copy.deepcopy(network).requires_grad_(False))
        paired = {name for pair in self._pairs for name in pair}
        weights = network.state_dict()
        if loose := [name for name in weights if name.rpartition(".")[0] not in paired]:
            raise ExportError(
                f"weights outside of pairs of convolution and batch norm: {', '.join(loose)}"
            )
        modules = dict(self._copy.named_modules())
        self._folded = {conv: modules[conv] for conv, _ in self._pairs}
        self._copy.delete_all_unused_submodules()
        self.refresh()

    @torch.no_grad()
    def refresh(self) -> None:
        """Take over the network's present weights and statistics."""
        for conv, norm in self._pairs:
            own = self._folded[conv]
            weight, bias = _folded(self._network[conv], self._network[norm])
            own.weight.copy_(weight)
            if own.bias is None:
                own.bias = nn.Parameter(bias, requires_grad=False)
            else:
                own.bias.copy_(bias)

    @torch.no_grad()
    def __call__(self, x: Tensor) -> list[Tensor]:
        """The network's output in evaluation mode, as of the last ``refresh``.

        Args:
            x: images ``[B, 3, H, W]`` float32 normalised

        Returns:
            maps ``[B, C_s, h_s, w_s]`` float, finest scale first
        """
        return self._copy(x)


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        # Subclasses of convolutions too stay whole.
        is_conv = isinstance(m, nn.Conv2d | nn.ConvTranspose2d)
        return is_conv or super().is_leaf_module(m, module_qualified_name)


def _trace(network: nn.Module) -> tuple[fx.GraphModule, list[tuple[str, str]]]:
    """Trace a network in evaluation mode without its batch norms.

    Returns:
        the traced network, and the names of each convolution and of its batch norm
    """
    traced = fx.GraphModule(network.eval(), _Tracer().trace(network))
    modules = dict(traced.named_modules())
    pairs = []
    for node in list(traced.graph.nodes):
        norm = modules.get(str(node.target)) if node.op == "call_module" else None
        if not isinstance(norm, nn.BatchNorm2d):
            continue
        before = node.args[0]
        conv = modules.get(str(before.target))
        if not isinstance(conv, nn.Conv2d | nn.ConvTranspose2d) or len(before.users) != 1:
            raise ExportError(
                f"batch normalisation {node.target} cannot be folded: it must directly follow a "
                f"convolution whose output nothing else uses"
            )
        pairs.append((str(before.target), str(node.target)))
        node.replace_all_uses_with(before)
        traced.graph.erase_node(node)
    traced.recompile()
    return traced, pairs


@torch.no_grad()
def _folded(conv: nn.Module, norm: nn.Module) -> tuple[nn.Parameter, nn.Parameter]:
    """Weight and bias of a convolution that does the work of the batch norm after it too."""
    assert isinstance(conv, nn.Conv2d | nn.ConvTranspose2d)
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    return fuse_conv_bn_weights(
        conv.weight,
        conv.bias,
        norm.running_mean,
        norm.running_var,
        norm.eps,
        norm.weight,
        norm.bias,
        transpose=isinstance(conv, nn.ConvTranspose2d),
    )
