"""The EfficientNet-Lite teachers: no squeeze-and-excitation, ReLU6, designed for CPUs."""

from __future__ import annotations

from math import ceil
from typing import NamedTuple

from torch import Tensor, nn

from rdx_fast.models.convolutions import DepthwiseConv2d


class _Stage(NamedTuple):
    expand: int
    channels: int
    blocks: int
    stride: int
    kernel: int


# Of Lite0, whose multipliers are 1.
_STAGES = (
    _Stage(1, 16, 1, 1, 3),
    _Stage(6, 24, 2, 2, 3),
    _Stage(6, 40, 2, 2, 5),
    _Stage(6, 80, 3, 2, 3),
    _Stage(6, 112, 3, 1, 5),
    _Stage(6, 192, 4, 2, 5),
    _Stage(6, 320, 1, 1, 3),
)
_STEM = 32  # channels, of all networks
_TAPPED = (1, 2, 4)  # stages that end at strides 4, 8 and 16


def _stages(width: float, depth: float) -> list[_Stage]:
    """Channels and blocks multiplied, but not the blocks of the first and last stage."""
    inner = range(1, len(_STAGES) - 1)
    return [
        stage._replace(
            channels=_rounded(width * stage.channels),
            blocks=ceil(depth * stage.blocks) if i in inner else stage.blocks,
        )
        for i, stage in enumerate(_STAGES)
    ]


def _rounded(channels: float) -> int:
    """The nearest multiple of 8; the next one if that is less than 90% of ``channels``."""
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest if nearest >= 0.9 * channels else nearest + 8


def lite_channels(width: float) -> tuple[int, int, int]:
    """Channels of the teacher's maps, finest first.

    Args:
        width: multiplier of Lite0's channels
    """
    fine, middle, coarse = (_stages(width, 1.0)[i].channels for i in _TAPPED)
    return fine, middle, coarse


def lite_beyond_taps(depth: float) -> tuple[str, ...]:
    """Beginnings of the keys of the whole network's weights that are after the last tap.

    Args:
        depth: multiplier of Lite0's blocks
    """
    counts = [stage.blocks for stage in _stages(1.0, depth)]
    blocks = range(sum(counts[: _TAPPED[-1] + 1]), sum(counts))
    return (*(f"blocks.{i}." for i in blocks), "conv_head.", "bn1.", "fc.")


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


class EfficientNetLiteTeacher(nn.Module):
    """An EfficientNet-Lite cut after the last block of stride 16.

    Called with ``x``, ``[B, 3, H, W]`` float normalised, H and W multiples of 16, it returns maps
    at strides 4, 8 and 16, finest first, with the channels that ``lite_channels`` gives.

    Args:
        width: multiplier of Lite0's channels
        depth: multiplier of Lite0's blocks
    """

    def __init__(self, width: float, depth: float) -> None:
        super().__init__()
        self.pad = _same_padding(3, 2)
        self.conv_stem = nn.Conv2d(3, _STEM, 3, stride=2, bias=False)
        self.bn0 = _norm(_STEM)
        self.act = nn.ReLU6(inplace=True)
        self.blocks = nn.ModuleList()
        self.taps = []  # indices of the blocks that output the features
        channels = _STEM
        for i, stage in enumerate(_stages(width, depth)[: _TAPPED[-1] + 1]):
            for stride in (stage.stride, *[1] * (stage.blocks - 1)):
                self.blocks.append(
                    InvertedResidual(channels, stage.channels, stage.expand, stride, stage.kernel)
                )
                channels = stage.channels
            if i in _TAPPED:
                self.taps.append(len(self.blocks) - 1)

    def forward(self, x: Tensor) -> list[Tensor]:
        x = self.act(self.bn0(self.conv_stem(self.pad(x))))
        maps = []
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index in self.taps:
                maps.append(x)
        return maps
