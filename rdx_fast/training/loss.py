"""The distillation loss."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from rdx_fast.models import Features


def distillation_loss(features: Features) -> Tensor:
    """Published loss: per scale, 1 - cosine similarity of the flattened maps, averaged over the
    batch, then summed over scales. (The paper's equation 2 averages over positions; the authors'
    code, which gave their figures, flattens.)

    Returns a scalar float32.
    """
    terms = [
        (1 - cosine_similarity(t.flatten(1).float(), s.flatten(1).float())).mean()
        for t, s in zip(features.teacher, features.student, strict=True)
    ]
    return torch.stack(terms).sum()
