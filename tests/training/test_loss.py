"""The losses, against the authors' code and against plain torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from rdx_fast.training.cosine import cosine_distance
from rdx_fast.training.loss import (
    distillation_loss,
    masks_at_scales,
    student_loss,
    teacher_loss,
)

# Losses and gradient norms that the authors' code of RD with Expert computes on drawn features.
RECORDED = json.loads((Path(__file__).parents[1] / "data" / "urd_losses.json").read_text())
NAMES = ("expert_normal", "expert_anomalous", "teacher_normal", "teacher_anomalous")
NAMES += ("student_normal", "student_anomalous")


def drawn_maps(case: dict[str, Any]) -> dict[str, list[Tensor]]:
    """The features of a recorded case, drawn from its seed."""
    finest = case["size"] // 4
    raw = {
        name: [
            np.random.default_rng(1000 * case["seed"] + 10 * number + s)
            .standard_normal((case["batch"], channels, finest >> s, finest >> s))
            .astype(np.float32)
            for s, channels in enumerate(case["channels"])
        ]
        for number, name in enumerate(NAMES)
    }
    half = np.float32(0.5)
    normal, anomalous = raw["expert_normal"], raw["expert_anomalous"]
    maps = {"expert_normal": normal, "expert_anomalous": anomalous}
    for part in ("teacher", "student"):
        own = raw[f"{part}_normal"], raw[f"{part}_anomalous"]
        maps[f"{part}_normal"] = [e + half * r for e, r in zip(normal, own[0], strict=True)]
        maps[f"{part}_anomalous"] = [
            half * e + half * a + half * r
            for e, a, r in zip(normal, anomalous, own[1], strict=True)
        ]
    return {name: [torch.from_numpy(m) for m in scales] for name, scales in maps.items()}


def drawn_mask(case: dict[str, Any]) -> Tensor:
    """Three rectangles an image, ``[B, H, W]`` float32 in {0, 1}."""
    size = case["size"]
    rng = np.random.default_rng(1000 * case["seed"] + 77)
    mask = torch.zeros(case["batch"], size, size)
    for image in mask:
        for _ in range(3):
            height, width = rng.integers(size // 16, size // 2, 2)
            top, left = rng.integers(0, size - height), rng.integers(0, size - width)
            image[top : top + height, left : left + width] = 1
    return mask


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("number", list(RECORDED))
def test_losses_of_the_authors(number: str, layout: torch.memory_format) -> None:
    case = RECORDED[number]
    maps = {
        name: [m.to(memory_format=layout).requires_grad_("expert" not in name) for m in scales]
        for name, scales in drawn_maps(case).items()
    }
    loss = teacher_loss(
        maps["expert_normal"],
        maps["expert_anomalous"],
        maps["teacher_normal"],
        maps["teacher_anomalous"],
        drawn_mask(case),
    )
    loss.backward()
    assert loss.item() == pytest.approx(case["teacher_loss"], rel=1e-6)
    norms = [m.grad.norm().item() for m in maps["teacher_normal"] + maps["teacher_anomalous"]]
    assert norms == pytest.approx(case["teacher_gradient_norms"], rel=1e-6)

    for m in maps["teacher_normal"]:
        m.grad = None
    loss = student_loss(
        maps["expert_normal"],
        maps["teacher_normal"],
        maps["student_normal"],
        maps["student_anomalous"],
    )
    loss.backward()
    assert loss.item() == pytest.approx(case["student_loss"], rel=1e-6)
    norms = [m.grad.norm().item() for m in maps["student_normal"] + maps["student_anomalous"]]
    assert norms == pytest.approx(case["student_gradient_norms"], rel=1e-6)
    assert all(m.grad is None for m in maps["teacher_normal"])  # constants of the student's loss


def test_each_mask_is_made_of_the_one_before() -> None:
    mask = torch.zeros(1, 8, 8)
    mask[0, :, :3] = 1
    # Aligned corners: 4 columns read the 8 at 0, 7/3, 14/3 and 7; the second is 2/3 inside.
    fine, coarse = masks_at_scales(mask, [torch.empty(1, 1, 4, 4), torch.empty(1, 1, 2, 2)])
    assert fine[0].tolist() == [[1, 1, 0, 0]] * 4
    assert coarse[0].tolist() == [[1, 0]] * 2
    # At exactly 0.5 a position is inside.
    (half,) = masks_at_scales(torch.tensor([[[1.0, 0.0]]]), [torch.empty(1, 1, 1, 3)])
    assert half.tolist() == [[[1, 1, 0]]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_cosine_distance_and_its_gradient(dtype: torch.dtype) -> None:
    rng = torch.Generator().manual_seed(0)
    target = torch.randn(5, 7, 19, generator=rng).to(dtype)
    learnt = torch.randn(5, 7, 19, generator=rng).to(dtype)
    learnt[0, 0] = 0
    target[1, 1] = 0
    ours, theirs = (learnt.clone().requires_grad_() for _ in range(2))
    weights = torch.randn(5, 7, generator=rng)
    distance = cosine_distance(target, ours)
    wanted = 1 - cosine_similarity(target.float(), theirs.float(), dim=-1)
    assert distance.dtype == torch.float32
    torch.testing.assert_close(distance, wanted, rtol=0, atol=1e-6)
    (distance * weights).sum().backward()
    (wanted * weights).sum().backward()
    assert ours.grad is not None
    assert ours.grad.dtype == dtype
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-5, atol=1e-6)


def test_loss_flattens_each_scale() -> None:
    rng = torch.Generator().manual_seed(0)
    maps = [torch.randn(2, 3, n, n, generator=rng) for n in (4, 2)]
    others = [torch.randn(2, 3, n, n, generator=rng) for n in (4, 2)]
    expected = 0.0
    for t, s in zip(maps, others, strict=True):
        t64, s64 = t.reshape(2, -1).double().numpy(), s.reshape(2, -1).double().numpy()
        norms = np.linalg.norm(t64, axis=1) * np.linalg.norm(s64, axis=1)
        expected += float((1 - (t64 * s64).sum(1) / norms).mean())
    assert distillation_loss(maps, others).item() == pytest.approx(expected, abs=1e-6)
    assert distillation_loss(maps, maps).item() == pytest.approx(0.0, abs=1e-6)
