"""The losses of both methods, each a float32 scalar."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, interpolate


def distillation_loss(target: Sequence[Tensor], student: Sequence[Tensor]) -> Tensor:
    """RD4AD's published loss.

    At each scale 1 - cosine similarity of the flattened maps, averaged over the batch, then summed
    over scales. (The paper's equation 2 averages over positions; the authors' code, which produced
    their figures, flattens.)

    Args:
        target: maps ``[B, C_s, h_s, w_s]`` float
        student: maps of the same shapes
    """
    terms = [
        (1 - cosine_similarity(t.flatten(1).float(), s.flatten(1).float())).mean()
        for t, s in zip(target, student, strict=True)
    ]
    return torch.stack(terms).sum()


def agreement_loss(expert: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
    """RD with Expert, normal images: cosine distance of expert and teacher.

    It is averaged over positions and summed over scales.

    Args:
        expert: maps ``[B, C_s, h_s, w_s]`` float
        teacher: maps of the same shapes
    """
    return torch.stack([_distance(e, t).mean() for e, t in zip(expert, teacher, strict=True)]).sum()


def separation_loss(expert: Sequence[Tensor], teacher: Sequence[Tensor], mask: Tensor) -> Tensor:
    """RD with Expert, synthetic anomalies: features must differ inside the mask, agree outside.

    Inside, the teacher's features must be orthogonal to the expert's; a larger distance does not
    lower the loss further.

    Args:
        expert: maps ``[B, C_s, h_s, w_s]`` float
        teacher: maps of the same shapes
        mask: ``[B, H, W]`` float in {0, 1}; at each scale a position is weighted by the share of it
            that the mask covers
    """
    terms = []
    for e, t in zip(expert, teacher, strict=True):
        inside = interpolate(mask[:, None], size=e.shape[2:], mode="area")[:, 0]
        distance = _distance(e, t)
        agree = (distance * (1 - inside)).sum() / (1 - inside).sum().clamp(min=1)
        differ = ((1 - distance).clamp(min=0) * inside).sum() / inside.sum().clamp(min=1)
        terms.append(agree + differ)
    return torch.stack(terms).sum()


def _distance(a: Tensor, b: Tensor) -> Tensor:
    """Cosine distance over channels, ``[B, h, w]`` float32."""
    return 1 - cosine_similarity(a.float(), b.float())
