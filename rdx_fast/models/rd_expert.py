"""RD with Expert: the teacher is trained too, and its features are injected into the student.

X. Liu, J. Wang, B. Leng and S. Zhang, "Unlocking the Potential of Reverse Distillation for Anomaly
Detection", AAAI 2025. The frozen expert is used in training only; it is not part of the network.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, relu

from rdx_fast.models.backbones import Backbone
from rdx_fast.models.rd4ad import ReverseDistillation, Student
from rdx_fast.models.resnet import conv1x1, conv3x3, init_xavier

INJECTIONS = ("guided", "plain", "none")


class Injection(nn.Module):
    """Information injection into one student stage (paper, section "Guided Information Injection").

    The teacher's detail is mixed into the student's map in proportion to their similarity at each
    position: where they differ there may be an anomaly, and the student's own map is kept.

    Called with ``student``, ``[B, C, h, w]``, the student's output for it ``fitted``, ``[B, T, h,
    w]``, and the teacher's maps of that scale, ``[B, T, h, w]``, and of the next finer one, ``[B,
    F, 2h, 2w]``, it returns ``[B, C, h, w]``.

    Args:
        channels: C, of the student's map
        teacher: T, of the teacher's map of that scale
        finer: F, of the teacher's map of the next finer scale
        guided: whether the similarity gates the injection
    """

    def __init__(self, channels: int, teacher: int, finer: int, guided: bool) -> None:
        super().__init__()
        self.finer = nn.Sequential(nn.AvgPool2d(2), *_conv_norm(conv1x1(finer, teacher)))
        self.merge = _conv_norm(conv3x3(teacher, channels))
        self.gate = _conv_norm(conv3x3(channels, channels)) if guided else None
        self.skip = _conv_norm(conv3x3(2 * channels, channels))

    def forward(self, student: Tensor, fitted: Tensor, teacher: Tensor, finer: Tensor) -> Tensor:
        detail = relu(self.merge(teacher + relu(self.finer(finer))))
        if self.gate is not None:
            # In float32: the squares of features overflow float16. The gate itself has no gradient.
            similarity = cosine_similarity(fitted.detach().float(), teacher.float(), dim=1)
            similarity = similarity.unsqueeze(1)
            similarity = similarity.to(detail.dtype)
            detail = relu(self.gate(similarity * detail + (1 - similarity) * student))
        return relu(self.skip(torch.cat([student, detail], dim=1)))


class InjectedStudent(Student):
    """A student with information injection before its two finer stages."""

    def __init__(self, spec: Backbone, guided: bool) -> None:
        super().__init__(spec)
        e = spec.block.expansion
        self.injections = nn.ModuleList(
            Injection(spec.widths[s] * e, spec.channels[s], spec.channels[s - 1], guided)
            for s in (1, 2)
        )

    def forward(self, embedding: Tensor, teacher: list[Tensor]) -> list[Tensor]:
        into_fine, into_middle = self.injections
        coarse = self.layer1(embedding)
        coarse_map = self.fitted(coarse, 2)
        middle = self.layer2(into_middle(coarse, coarse_map, teacher[2], teacher[1]))
        middle_map = self.fitted(middle, 1)
        fine = self.layer3(into_fine(middle, middle_map, teacher[1], teacher[0]))
        return [self.fitted(fine, 0), middle_map, coarse_map]


class RDExpert(ReverseDistillation):
    """RD with Expert: teacher, bottleneck and student are all trained.

    Args:
        backbone_name: a key of ``BACKBONES``
        injection: "guided" (as in the paper, gated by similarity), "plain" (no gate) or "none"

    Raises:
        ValueError: unknown backbone or injection
    """

    def __init__(self, backbone_name: str, injection: str = "guided") -> None:
        if injection not in INJECTIONS:
            raise ValueError(f"injection is {injection!r}, wanted one of {', '.join(INJECTIONS)}")
        if injection == "none":
            super().__init__(backbone_name, Student)
        else:
            guided = injection == "guided"
            super().__init__(backbone_name, lambda spec: InjectedStudent(spec, guided))
        init_xavier(self.bottleneck)
        init_xavier(self.student)
        self.injection = injection


def _conv_norm(conv: nn.Conv2d) -> nn.Sequential:
    return nn.Sequential(conv, nn.BatchNorm2d(conv.out_channels))
