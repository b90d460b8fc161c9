"""Depthwise convolutions that are trained on a CPU in reasonable time.

oneDNN has no fast gradient for two kinds: the weights of 5 x 5 kernels, and the input of strided
ones in bfloat16. They took 60 to 90% of a backward pass of EfficientNet-Lite.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

_conv_backward = torch.ops.aten.convolution_backward


def depthwise_conv2d(x: Tensor, conv: nn.Conv2d) -> Tensor:
    """Apply a depthwise convolution of 3 x 3 or 5 x 5 without bias that is to be trained.

    The same function as ``conv(x)``, with faster gradients on a CPU.

    Args:
        x: ``[B, C, H, W]`` float
        conv: the convolution, with equal strides and paddings of both axes
    """
    if x.device.type != "cpu":
        return conv(x)
    dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype
    with torch.autocast("cpu", enabled=False):
        return _Depthwise.apply(  # type: ignore[no-untyped-call]
            x.to(dtype), conv.weight.to(dtype), conv.stride[0], conv.padding[0]
        )


class _Depthwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.padding = stride, padding
        return torch.conv2d(x, weight, None, stride, padding, 1, len(weight))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor, None, None]:
        x, weight = ctx.saved_tensors
        (gradient,) = gradients
        to_input = None
        if ctx.needs_input_grad[0]:
            to_input = _input_gradient(gradient, x, weight, ctx.stride, ctx.padding)
        return to_input, _weight_gradient(gradient, x, weight, ctx.stride, ctx.padding), None, None


def _input_gradient(gradient: Tensor, x: Tensor, weight: Tensor, stride: int, pad: int) -> Tensor:
    if stride > 1 and x.dtype in (torch.bfloat16, torch.float16):
        like = torch.empty_like(x, dtype=torch.float32)  # its shape alone is read
        wide = _gradients(gradient.float(), like, weight.float(), stride, pad, (True, False))[0]
        return wide.to(x.dtype)
    return _gradients(gradient, x, weight, stride, pad, (True, False))[0]


def _weight_gradient(gradient: Tensor, x: Tensor, weight: Tensor, stride: int, pad: int) -> Tensor:
    if weight.shape[-1] == 3:
        return _gradients(gradient, x, weight, stride, pad, (False, True))[1]
    # A 5 x 5 kernel is four overlapping 3 x 3 kernels, each of which sees a part of the input.
    padded = nn.functional.pad(x, (pad, pad, pad, pad))
    height, width = ((n - 1) * stride + 3 for n in gradient.shape[2:])
    found = torch.empty_like(weight)
    for top in (0, 2):
        for left in (0, 2):
            part = padded[:, :, top : top + height, left : left + width]
            kernel = weight[:, :, top : top + 3, left : left + 3]
            found[:, :, top : top + 3, left : left + 3] = _gradients(
                gradient,
                part.contiguous(memory_format=torch.channels_last),
                kernel.contiguous(),
                stride,
                0,
                (False, True),
            )[1]
    return found


def _gradients(
    gradient: Tensor, x: Tensor, weight: Tensor, stride: int, pad: int, of: tuple[bool, bool]
) -> tuple[Tensor, Tensor]:
    """Gradients of input and weights, as far as ``of`` asks for them, by torch's own kernels."""
    sizes = [stride, stride], [pad, pad], [1, 1]
    found = _conv_backward(
        gradient, x, weight, None, *sizes, False, [0, 0], len(weight), [*of, False]
    )
    return found[0], found[1]
