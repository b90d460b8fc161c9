"""Batch normalisation folded into the convolutions before it."""

from __future__ import annotations

import torch
from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from rdx_fast.errors import ExportError


def fold_batch_norm(network: nn.Module) -> fx.GraphModule:
    """Return a copy of ``network`` (in evaluation mode) without batch normalisation.

    Raises ``ExportError`` if a batch norm follows anything but a convolution of its own.
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
                f"batch normalisation {node.target} follows no convolution of its own"
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
