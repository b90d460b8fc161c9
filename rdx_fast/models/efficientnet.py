"""The EfficientNet-Lite0 teacher: no squeeze-and-excitation, ReLU6, designed for CPUs."""

from __future__ import annotations

from torch import Tensor, nn

from rdx_fast.models.convolutions import DepthwiseConv2d

# (expansion, channels, blocks, stride, kernel) of the stages up to the tap at stride 16.
_STAGES = (
    (1, 16, 1, 1, 3),
    (6, 24, 2, 2, 3),
    (6, 40, 2, 2, 5),
    (6, 80, 3, 2, 3),
    (6, 112, 3, 1, 5),
)
_TAPS = (2, 4, 10)  # indices of the blocks that output the features: 24, 40 and 112 channels


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3)


def _same_padding(kernel: int, stride: int) -> nn.Module:
    """TensorFlow's "same" padding for even sizes: the odd pixel goes right and below."""
    total = kernel - stride if stride > 1 else kernel - 1
    before = total // 2
    return nn.ZeroPad2d((before, total - before, before, total - before))


class InvertedResidual(nn.Module):
    """Inverted residual block: 1 x 1 expansion, depthwise convolution, 1 x 1 projection."""

    def __init__(self, in_channels: int, out_channels: int, expand: int, stride: int, kernel: int):
        super().__init__()
        width = in_channels * expand
        self.expand_conv: nn.Module | None = None
        if expand != 1:
            self.expand_conv = nn.Conv2d(in_channels, width, 1, bias=False)
            self.bn0 = _norm(width)
        if stride == 1:
            self.pad: nn.Module = nn.Identity()
            padding = kernel // 2
        else:
            self.pad = _same_padding(kernel, stride)
            padding = 0
        self.depthwise_conv = DepthwiseConv2d(width, kernel, stride, padding)
        self.bn1 = _norm(width)
        self.project_conv = nn.Conv2d(width, out_channels, 1, bias=False)
        self.bn2 = _norm(out_channels)
        self.act = nn.ReLU6(inplace=True)
        self.has_shortcut = stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        y = x
        if self.expand_conv is not None:
            y = self.act(self.bn0(self.expand_conv(y)))
        y = self.act(self.bn1(self.depthwise_conv(self.pad(y))))
        y = self.bn2(self.project_conv(y))
        return x + y if self.has_shortcut else y


class EfficientNetLite0Teacher(nn.Module):
    """EfficientNet-Lite0 cut after the last block of stride 16.

    Called with ``x``, ``[B, 3, H, W]`` float normalised, it returns maps of 24, 40 and 112 channels
    at strides 4, 8 and 16, finest first.
    """

    def __init__(self) -> None:
        super().__init__()
        self.pad = _same_padding(3, 2)
        self.conv_stem = nn.Conv2d(3, 32, 3, stride=2, bias=False)
        self.bn0 = _norm(32)
        self.act = nn.ReLU6(inplace=True)
        self.blocks = nn.ModuleList()
        channels = 32
        for expand, out_channels, count, stride, kernel in _STAGES:
            for i in range(count):
                first = i == 0
                self.blocks.append(
                    InvertedResidual(channels, out_channels, expand, stride if first else 1, kernel)
                )
                channels = out_channels

    def forward(self, x: Tensor) -> list[Tensor]:
        x = self.act(self.bn0(self.conv_stem(self.pad(x))))
        taps = []
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index in _TAPS:
                taps.append(x)
        return taps
