"""Folding of batch normalisation into the preceding convolutions."""

from __future__ import annotations

import torch
from torch import fx, nn
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
    traced = fx.symbolic_trace(network.eval())
    modules = dict(traced.named_modules())
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
        assert norm.running_mean is not None
        assert norm.running_var is not None
        with torch.no_grad():
            conv.weight, conv.bias = fuse_conv_bn_weights(
                conv.weight,
                conv.bias,
                norm.running_mean,
                norm.running_var,
                norm.eps,
                norm.weight,
                norm.bias,
                transpose=isinstance(conv, nn.ConvTranspose2d),
            )
        node.replace_all_uses_with(before)
        traced.graph.erase_node(node)
    traced.delete_all_unused_submodules()
    traced.recompile()
    return traced
