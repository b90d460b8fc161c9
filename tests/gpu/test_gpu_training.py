"""Training on a real GPU, in each precision. Skipped without one."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from rdx_fast.images import list_images
from rdx_fast.training import Recipe, train
from rdx_fast.training.step_graph import _Recorded

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
        found = mixed.partial_losses[term][0]
        assert found != losses[0]
        assert found == pytest.approx(losses[0], rel=0.02)


@pytest.mark.parametrize("method", ["rd4ad", "rd-expert"])
@pytest.mark.parametrize("amp", [True, False])
def test_steps_in_graphs(
    parts: Path, tmp_path: Path, method: str, amp: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As without graphs, also where a run is resumed, and with a last batch of another size."""
    made = []

    class Counted(_Recorded):
        def __init__(self, *options: Any) -> None:
            super().__init__(*options)
            made.append(self)

    monkeypatch.setattr("rdx_fast.training.step_graph._Recorded", Counted)
    images = list_images(parts / "train" / "good")
    recipe = replace(SHORT, method=method, iterations=14, batch=len(images) // 2 - 1, amp=amp)
    recorded = train(recipe, images, tmp_path / "recorded", device="cuda")
    train(replace(recipe, iterations=8), images, tmp_path / "resumed", device="cuda")
    resumed = train(recipe, images, tmp_path / "resumed", device="cuda", resume=True)
    assert len(made) == 2 + 1 + 1  # the last batch of an epoch is rare, so it is recorded late
    monkeypatch.setattr("rdx_fast.training.step_graph.EAGER_STEPS", 1000)
    eager = train(recipe, images, tmp_path / "eager", device="cuda")
    assert len(made) == 4
    for other in (recorded, resumed):
        for key, value in eager.network.items():
            assert torch.equal(other.network[key], value), key
        assert other.losses == eager.losses
