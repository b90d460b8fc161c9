"""Convolutions that are trained on a CPU in less time.

oneDNN, with which torch computes on CPUs, has slow gradients for a few kinds of convolution. Where
weights learn on a CPU these classes compute the same function and gradients in other ways. Without
gradients, and on GPUs, they are torch's own convolutions.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad as padded

_conv_backward = torch.ops.aten.convolution_backward
_NARROW = (torch.bfloat16, torch.float16)


class DepthwiseConv2d(nn.Conv2d):
    """A depthwise convolution without bias, whose gradients are slow for strides and 5 x 5 kernels.

    Args:
        channels: number of channels
        kernel: size of the square kernel, 3 or 5
        stride: of both axes
        padding: of both axes, in pixels

    Raises:
        ValueError: the kernel has another size
    """

    def __init__(self, channels: int, kernel: int, stride: int, padding: int) -> None:
        if kernel not in (3, 5):
            raise ValueError(f"kernel is {kernel}: wanted 3 or 5")
        super().__init__(channels, channels, kernel, stride, padding, groups=channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        if not _uses_own_gradient(self):
            return super().forward(x)
        return _apply(_Depthwise, x, self.weight, self.stride[0], int(self.padding[0]))


class StridedConv3x3(nn.Conv2d):
    """A 3 x 3 convolution of stride 2 without bias, whose weights' gradient is slow.

    Args:
        in_channels: of the input
        out_channels: of the output
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, 3, 2, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        if not _uses_own_gradient(self):
            return super().forward(x)
        return _apply(_Strided, x, self.weight)


class Deconv2x2(nn.ConvTranspose2d):
    """A 2 x 2 transposed convolution without bias that doubles height and width.

    Args:
        in_channels: of the input
        out_channels: of the output
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, 2, 2, bias=False)

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        if not _uses_own_gradient(self):
            return super().forward(x, output_size)
        x, weight = _cast(x, self.weight)
        n, channels, height, width = x.shape
        outputs = weight.shape[1]
        # Its windows do not overlap: each position of the input gives four of the output.
        rows = x.permute(0, 2, 3, 1).reshape(-1, channels)
        four = rows @ weight.permute(0, 2, 3, 1).reshape(channels, 4 * outputs)
        four = four.view(n, height, width, 2, 2, outputs).permute(0, 1, 3, 2, 4, 5)
        return four.reshape(n, 2 * height, 2 * width, outputs).permute(0, 3, 1, 2)


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
            to_input = _depthwise_input(gradient, x, weight, ctx.stride, ctx.padding)
        return to_input, _depthwise_weight(gradient, x, weight, ctx.stride, ctx.padding), None, None


class _Strided(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return torch.conv2d(x, weight, None, 2, 1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor]:
        x, weight = ctx.saved_tensors
        (gradient,) = gradients
        to_input = None
        if ctx.needs_input_grad[0]:
            to_input = _gradients(gradient, x, weight, 2, 1, 1, (True, False))[0]
        outputs, channels = weight.shape[:2]
        rows = gradient.permute(0, 2, 3, 1).reshape(-1, outputs)
        to_weight = rows.t() @ _windows(x, gradient)
        return to_input, to_weight.view(outputs, 3, 3, channels).permute(0, 3, 1, 2)


def _depthwise_input(gradient: Tensor, x: Tensor, weight: Tensor, stride: int, pad: int) -> Tensor:
    wanted = (True, False)
    if stride == 1 or x.dtype not in _NARROW:
        return _gradients(gradient, x, weight, stride, pad, len(weight), wanted)[0]
    # oneDNN has no kernel for bfloat16 here.
    like = torch.empty_like(x, dtype=torch.float32)  # its shape alone is read
    wide = _gradients(gradient.float(), like, weight.float(), stride, pad, len(weight), wanted)[0]
    return wide.to(x.dtype)


def _depthwise_weight(gradient: Tensor, x: Tensor, weight: Tensor, stride: int, pad: int) -> Tensor:
    wanted = (False, True)
    if weight.shape[-1] == 3:
        return _gradients(gradient, x, weight, stride, pad, len(weight), wanted)[1]
    # A 5 x 5 kernel is four overlapping 3 x 3 kernels, each of which sees a part of the input.
    wide = padded(x, (pad, pad, pad, pad))
    height, width = ((n - 1) * stride + 3 for n in gradient.shape[2:])
    found = torch.empty_like(weight)
    for top in (0, 2):
        for left in (0, 2):
            part = wide[:, :, top : top + height, left : left + width]
            part = part.contiguous(memory_format=torch.channels_last)
            kernel = weight[:, :, top : top + 3, left : left + 3].contiguous()
            found[:, :, top : top + 3, left : left + 3] = _gradients(
                gradient, part, kernel, stride, 0, len(weight), wanted
            )[1]
    return found


def _windows(x: Tensor, gradient: Tensor) -> Tensor:
    """The input's 3 x 3 window of each position of the output, ``[B * h * w, 9 * C]``."""
    wide = padded(x, (1, 1, 1, 1)).permute(0, 2, 3, 1)
    n, _, height, width = gradient.shape
    image, row, column, channel = wide.stride()
    windows = wide.as_strided(
        (n, height, width, 3, 3, wide.shape[3]),
        (image, 2 * row, 2 * column, row, column, channel),
    )
    return windows.reshape(n * height * width, -1)


def _gradients(
    gradient: Tensor,
    x: Tensor,
    weight: Tensor,
    stride: int,
    pad: int,
    groups: int,
    wanted: tuple[bool, bool],
) -> tuple[Tensor, Tensor]:
    """Gradients of input and weights, those that are ``wanted``, by torch's own kernels."""
    sizes = [stride, stride], [pad, pad], [1, 1]
    which = [*wanted, False]
    found = _conv_backward(gradient, x, weight, None, *sizes, False, [0, 0], groups, which)
    return found[0], found[1]


def _uses_own_gradient(module: nn.Conv2d | nn.ConvTranspose2d) -> bool:
    learns = torch.is_grad_enabled() and module.weight.requires_grad
    return learns and module.weight.device.type == "cpu"


def _cast(*values: Tensor) -> list[Tensor]:
    """As autocast would, which does not see into functions with a gradient of their own."""
    if not torch.is_autocast_enabled("cpu"):
        return list(values)
    return [v.to(torch.get_autocast_dtype("cpu")) for v in values]


def _apply(function: type[torch.autograd.Function], x: Tensor, weight: Tensor, *sizes: int) -> Any:
    x, weight = _cast(x, weight)
    with torch.autocast("cpu", enabled=False):
        return function.apply(x, weight, *sizes)  # type: ignore[no-untyped-call]
