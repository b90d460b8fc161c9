"""RD4AD: reverse distillation from a one-class embedding.

H. Deng and X. Li, "Anomaly Detection via Reverse Distillation from One-Class Embedding",
CVPR 2022.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from rdx_fast.models.backbones import Backbone, backbone
from rdx_fast.models.resnet import conv1x1, conv3x3, init_kaiming, stage


class Features(NamedTuple):
    """Features of a batch.

    Attributes:
        teacher: three maps ``[B, C_s, h_s, w_s]`` float, finest scale first
        student: the same from the student
    """

    teacher: list[Tensor]
    student: list[Tensor]


class OneClassBottleneck(nn.Module):
    """Multi-scale feature fusion and one-class embedding (paper, section 3.2).

    Called with the teacher's three maps, it returns one embedding at stride 32.
    """

    def __init__(self, spec: Backbone) -> None:
        super().__init__()
        c, e = spec.channels, spec.block.expansion
        middle, coarse = spec.widths[1] * e, spec.widths[2] * e
        self.conv1 = conv3x3(c[0], middle, 2)
        self.bn1 = nn.BatchNorm2d(middle)
        self.conv2 = conv3x3(middle, coarse, 2)
        self.bn2 = nn.BatchNorm2d(coarse)
        self.conv3 = conv3x3(c[1], coarse, 2)
        self.bn3 = nn.BatchNorm2d(coarse)
        self.relu = nn.ReLU(inplace=True)
        self.bn_layer = stage(
            spec.block,
            2 * coarse + c[2],
            2 * spec.widths[2],
            spec.bottleneck_count,
            2,
            base_width=spec.base_width,
        )
        init_kaiming(self)

    def forward(self, maps: list[Tensor]) -> Tensor:
        fine, middle, coarse = maps
        fine = self.relu(self.bn1(self.conv1(fine)))
        fine = self.relu(self.bn2(self.conv2(fine)))
        middle = self.relu(self.bn3(self.conv3(middle)))
        return self.bn_layer(torch.cat([fine, middle, coarse], dim=1))


class Student(nn.Module):
    """The decoder: a reversed teacher, from embedding to finest scale (paper, section 3.1).

    A 1 x 1 convolution adapts the channels of stages that differ from the teacher's.
    """

    def __init__(self, spec: Backbone) -> None:
        super().__init__()
        e, counts, base = spec.block.expansion, spec.student_counts, spec.base_width
        fine, middle, coarse = spec.widths
        self.layer1 = stage(spec.block, 2 * coarse * e, coarse, counts[0], 2, True, base)
        self.layer2 = stage(spec.block, coarse * e, middle, counts[1], 2, True, base)
        self.layer3 = stage(spec.block, middle * e, fine, counts[2], 2, True, base)
        out_channels = tuple(width * e for width in spec.widths)
        self.heads: nn.ModuleList | None = None
        if out_channels != spec.channels:
            self.heads = nn.ModuleList(map(conv1x1, out_channels, spec.channels))
        init_kaiming(self)

    def forward(self, embedding: Tensor, teacher: list[Tensor]) -> list[Tensor]:
        """Decode the embedding; the teacher's maps are not used by this student."""
        coarse = self.layer1(embedding)
        middle = self.layer2(coarse)
        fine = self.layer3(middle)
        return [self.fitted(m, scale) for scale, m in enumerate((fine, middle, coarse))]

    def fitted(self, x: Tensor, scale: int) -> Tensor:
        """A stage's output with the teacher's channels."""
        return x if self.heads is None else self.heads[scale](x)


class ReverseDistillation(nn.Module):
    """Teacher, bottleneck and student of either method.

    Called with ``x``, ``[B, 3, H, W]`` float normalised with H and W multiples of 32, it returns
    ``Features``.

    Args:
        backbone_name: a key of ``BACKBONES``
        make_student: creates the student for a backbone

    Raises:
        ValueError: unknown backbone
    """

    def __init__(self, backbone_name: str, make_student: Callable[[Backbone], Student]) -> None:
        super().__init__()
        spec = backbone(backbone_name)
        self.backbone_name = backbone_name
        self.teacher = spec.make_teacher().eval()
        self.bottleneck = OneClassBottleneck(spec)
        self.student = make_student(spec)

    def train(self, mode: bool = True) -> ReverseDistillation:
        """Set the mode of bottleneck and student. The teacher stays in evaluation mode."""
        super().train(mode)
        self.teacher.eval()
        return self

    def decode(self, teacher: list[Tensor]) -> list[Tensor]:
        """The student's maps for the teacher's maps."""
        return self.student(self.bottleneck(teacher), teacher)

    def decoding_parameters(self) -> list[nn.Parameter]:
        """Parameters of student and bottleneck, which both methods train."""
        return [*self.student.parameters(), *self.bottleneck.parameters()]

    def forward(self, x: Tensor) -> Features:
        teacher = self.teacher(x)
        return Features(teacher, self.decode(teacher))


class RD4AD(ReverseDistillation):
    """RD4AD: a frozen teacher, and a student that decodes the embedding only."""

    def __init__(self, backbone_name: str) -> None:
        super().__init__(backbone_name, Student)
        self.teacher.requires_grad_(False)
