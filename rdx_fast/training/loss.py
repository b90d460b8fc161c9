"""The losses of both methods, each a float32 scalar."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from rdx_fast.training.cosine import cosine_distance

Maps = Sequence[Tensor]  # ``[B, C_s, h_s, w_s]`` float, finest scale first


def distillation_loss(target: Maps, student: Maps) -> Tensor:
    """RD4AD's published loss.

    At each scale 1 - cosine similarity of the flattened maps, averaged over the batch, then summed
    over scales. (The paper's equation 2 averages over positions; the authors' code, which produced
    their figures, flattens.)

    Args:
        target: maps ``[B, C_s, h_s, w_s]`` float; no gradient reaches them
        student: maps of the same shapes
    """
    terms = [
        cosine_distance(_last(t).flatten(1), _last(s).flatten(1)).mean()
        for t, s in zip(target, student, strict=True)
    ]
    return torch.stack(terms).sum()


def teacher_loss(
    expert_normal: Maps,
    expert_anomalous: Maps,
    teacher_normal: Maps,
    teacher_anomalous: Maps,
    mask: Tensor,
) -> Tensor:
    """RD with Expert, the teacher's loss: it learns to tell anomalies from good parts.

    The sum of three terms, each summed over scales:

    - the teacher agrees with the expert at every position of the good image;
    - on its anomalous twin, the distance to the expert's features *of the good image* is 1 inside
      the anomaly and 0 outside (mean absolute error over positions);
    - on the twin, the flattened maps of teacher and expert agree, as in ``distillation_loss``.

    All maps are ``[B, C_s, h_s, w_s]`` float, finest scale first; no gradient reaches the expert's.

    Args:
        expert_normal: the expert's maps of the good images
        expert_anomalous: the expert's maps of the images with synthetic anomalies
        teacher_normal: the teacher's maps of the good images
        teacher_anomalous: the teacher's maps of the images with synthetic anomalies
        mask: where the anomalies are, ``[B, H, W]`` float32 in {0, 1}
    """
    agree = [
        position_distance(e, t).mean() for e, t in zip(expert_normal, teacher_normal, strict=True)
    ]
    separate = [
        (position_distance(e, t) - target).abs().mean()
        for e, t, target in zip(
            expert_normal, teacher_anomalous, masks_at_scales(mask, expert_normal), strict=True
        )
    ]
    keep = distillation_loss(expert_anomalous, teacher_anomalous)
    return torch.stack(agree + separate).sum() + keep


def student_loss(
    expert_normal: Maps, teacher_normal: Maps, student_normal: Maps, student_anomalous: Maps
) -> Tensor:
    """RD with Expert, the loss of student and bottleneck: they restore the good features.

    For the good images and their anomalous twins alike, the student reproduces the features of the
    good images, the expert's and the teacher's: the sum of four times ``distillation_loss``.

    All maps are ``[B, C_s, h_s, w_s]`` float, finest scale first; no gradient reaches the targets.

    Args:
        expert_normal: the expert's maps of the good images
        teacher_normal: the teacher's maps of the good images
        student_normal: the student's maps of the good images
        student_anomalous: the student's maps of the images with synthetic anomalies
    """
    terms = [
        distillation_loss(target, student)
        for target in (teacher_normal, expert_normal)
        for student in (student_normal, student_anomalous)
    ]
    return torch.stack(terms).sum()


def position_distance(target: Tensor, learnt: Tensor) -> Tensor:
    """Cosine distance over channels at each position, ``[B, h, w]`` float32.

    Args:
        target: ``[B, C, h, w]`` float; no gradient reaches it
        learnt: of the same shape
    """
    return cosine_distance(_last(target), _last(learnt))


def masks_at_scales(mask: Tensor, maps: Maps) -> list[Tensor]:
    """The mask at the size of each map, ``[B, h_s, w_s]`` float32 in {0, 1}.

    As in the authors' code: the finest is the mask resized bilinearly with aligned corners and cut
    at 0.5; each further one is made in the same way from the one before.
    """
    found = []
    for m in maps:
        resized = interpolate(mask[:, None], m.shape[2:], mode="bilinear", align_corners=True)
        mask = (resized[:, 0] >= 0.5).float()
        found.append(mask)
    return found


def _last(x: Tensor) -> Tensor:
    """``[B, C, h, w]`` as ``[B, h, w, C]``: contiguous if the memory format is channels-last."""
    return x.permute(0, 2, 3, 1)
