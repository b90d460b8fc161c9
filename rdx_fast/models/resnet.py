"""Residual blocks of teacher, bottleneck and student, and the ResNet teachers.

Module names follow torchvision and the published RD4AD code, so that their state dicts load
unchanged.
"""

from __future__ import annotations

from torch import Tensor, nn

from rdx_fast.models.convolutions import Deconv2x2, StridedConv3x3


def conv1x1(in_channels: int, out_channels: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False)


def conv3x3(in_channels: int, out_channels: int, stride: int = 1) -> nn.Conv2d:
    if stride == 2:
        return StridedConv3x3(in_channels, out_channels)
    return nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False)


def _spatial(in_channels: int, out_channels: int, stride: int, up: bool) -> nn.Module:
    """A block's spatial convolution: 3 x 3, or the 2 x 2 deconvolution that doubles the size."""
    if up and stride == 2:
        return Deconv2x2(in_channels, out_channels)
    return conv3x3(in_channels, out_channels, stride)


class _Block(nn.Module):
    """The shortcut of both kinds of block, under its name in published state dicts."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, up: bool) -> None:
        super().__init__()
        self.downsample: nn.Module | None = None
        self.upsample: nn.Module | None = None
        if stride == 2 or in_channels != out_channels:
            resize: nn.Module
            if up and stride == 2:
                resize = Deconv2x2(in_channels, out_channels)
            else:
                resize = conv1x1(in_channels, out_channels, stride)
            shortcut = nn.Sequential(resize, nn.BatchNorm2d(out_channels))
            if up:
                self.upsample = shortcut
            else:
                self.downsample = shortcut
        self.relu = nn.ReLU(inplace=True)

    def shortcut(self, x: Tensor) -> Tensor:
        if self.downsample is not None:
            return self.downsample(x)
        if self.upsample is not None:
            return self.upsample(x)
        return x


class BasicBlock(_Block):
    """Residual block of two spatial convolutions (ResNet-18 and -34)."""

    expansion = 1

    def __init__(
        self, in_channels: int, planes: int, stride: int = 1, up: bool = False, base_width: int = 64
    ) -> None:
        super().__init__(in_channels, planes, stride, up)
        self.conv1 = _spatial(in_channels, planes, stride, up)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = conv3x3(planes, planes)
        self.bn2 = nn.BatchNorm2d(planes)

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return self.relu(y + self.shortcut(x))


class BottleneckBlock(_Block):
    """Residual block of a 1 x 1, a spatial and a 1 x 1 convolution (ResNet-50, WideResNet-50-2)."""

    expansion = 4

    def __init__(
        self, in_channels: int, planes: int, stride: int = 1, up: bool = False, base_width: int = 64
    ) -> None:
        super().__init__(in_channels, planes * self.expansion, stride, up)
        width = planes * base_width // 64
        self.conv1 = conv1x1(in_channels, width)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = _spatial(width, width, stride, up)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = conv1x1(width, planes * self.expansion)
        self.bn3 = nn.BatchNorm2d(planes * self.expansion)

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return self.relu(y + self.shortcut(x))


Block = type[BasicBlock] | type[BottleneckBlock]


def stage(
    block: Block,
    in_channels: int,
    planes: int,
    count: int,
    stride: int,
    up: bool = False,
    base_width: int = 64,
) -> nn.Sequential:
    """A sequence of ``count`` blocks, of which the first changes size and channels."""
    blocks = [block(in_channels, planes, stride, up, base_width)]
    channels = planes * block.expansion
    blocks += [block(channels, planes, 1, up, base_width) for _ in range(count - 1)]
    return nn.Sequential(*blocks)


def init_kaiming(module: nn.Module) -> None:
    """Initialise as published for RD4AD: Kaiming-normal (fan out) convolutions.

    Transposed convolutions keep torch's default, as in the authors' code.
    """
    for m in module.modules():
        if isinstance(m, nn.Conv2d):
            nn.init.kaiming_normal_(m.weight, mode="fan_out", nonlinearity="relu")


def init_xavier(module: nn.Module) -> None:
    """Initialise as published for RD with Expert: Xavier-normal convolutions.

    Transposed convolutions keep torch's default, as in the authors' code.
    """
    for m in module.modules():
        if isinstance(m, nn.Conv2d):
            nn.init.xavier_normal_(m.weight)


class ResNetTeacher(nn.Module):
    """A ResNet cut after ``layer3``; ``layer4`` is never built.

    Called with ``x``, ``[B, 3, H, W]`` float normalised, it returns three maps at strides 4, 8 and
    16, finest first.

    Args:
        block: kind of residual block
        counts: number of blocks in ``layer1`` to ``layer3``
        base_width: 64, or 128 for a wide ResNet
    """

    def __init__(self, block: Block, counts: tuple[int, int, int], base_width: int = 64) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        e = block.expansion
        self.layer1 = stage(block, 64, 64, counts[0], 1, base_width=base_width)
        self.layer2 = stage(block, 64 * e, 128, counts[1], 2, base_width=base_width)
        self.layer3 = stage(block, 128 * e, 256, counts[2], 2, base_width=base_width)

    def forward(self, x: Tensor) -> list[Tensor]:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        fine = self.layer1(x)
        middle = self.layer2(fine)
        coarse = self.layer3(middle)
        return [fine, middle, coarse]
