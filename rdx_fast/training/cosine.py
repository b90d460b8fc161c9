"""The cosine distance of the losses, with a gradient that reads each map once."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

EPS = 1e-8  # of torch's cosine_similarity


class _CosineDistance(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, target: Tensor, learnt: Tensor) -> Tensor:
        t, s = target.float(), learnt.float()
        norm_t, norm_s = (torch.linalg.vector_norm(v, dim=-1).clamp_(min=EPS) for v in (t, s))
        cosine = (t * s).sum(-1) / (norm_t * norm_s)
        ctx.save_for_backward(t, s, norm_t, norm_s, cosine)
        ctx.dtype = learnt.dtype
        return 1 - cosine

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, Tensor]:
        t, s, norm_t, norm_s, cosine = ctx.saved_tensors
        (g,) = gradients
        # Where the norm is held at EPS, it has no gradient of its own.
        own = torch.where(norm_s > EPS, g * cosine / norm_s**2, 0)
        gradient = torch.addcmul(
            own[..., None] * s, (g / (norm_t * norm_s))[..., None], t, value=-1
        )
        return None, gradient.to(ctx.dtype)


def cosine_distance(target: Tensor, learnt: Tensor) -> Tensor:
    """1 - cosine similarity over the last axis, computed in float32.

    The same function as 1 - ``torch.nn.functional.cosine_similarity``, and cheaper: only ``learnt``
    has a gradient, which is written in one pass.

    Args:
        target: ``[..., C]`` float; no gradient reaches it
        learnt: of the same shape

    Returns:
        ``[...]`` float32
    """
    return _CosineDistance.apply(target, learnt)  # type: ignore[no-untyped-call]
