"""Training on a real GPU, in each precision. Skipped without one."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from rdx_fast.images import list_images
from rdx_fast.training import Recipe, train

pytestmark = pytest.mark.gpu

SHORT = Recipe(backbone="efficientnet_lite0", image_size=(64, 64), iterations=2, batch=8)


@pytest.mark.parametrize("method", ["rd4ad", "rd-expert"])
@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_mixed_precision_on_a_gpu(
    parts: Path, tmp_path: Path, method: str, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first batch as in float32 to rounding; both terms of RD with Expert share a scale."""
    images = list_images(parts / "train" / "good")
    recipe = replace(SHORT, method=method)
    exact = train(replace(recipe, amp=False), images, tmp_path / "exact", device="cuda")
    monkeypatch.setattr("rdx_fast.training.trainer.training_precision", lambda *_: precision)
    mixed = train(recipe, images, tmp_path / "mixed", device="cuda")
    assert mixed.precision == precision
    assert (mixed.scaler != {}) == (precision == "fp16")
    for term, losses in exact.partial_losses.items():
        assert all(map(math.isfinite, mixed.partial_losses[term]))
        assert mixed.partial_losses[term][0] == pytest.approx(losses[0], rel=0.02) != losses[0]
