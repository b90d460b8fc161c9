"""The loss in evaluation mode against that with batch statistics."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from rdx_fast.images import list_images, read_image
from rdx_fast.preprocess import to_input
from rdx_fast.training import Recipe, train, trainer
from rdx_fast.training.data import input_spec
from rdx_fast.training.gap import LIMIT, evaluation_gap

SHORT = Recipe(backbone="efficientnet_lite0", image_size=(32, 32), iterations=3, batch=4)


@pytest.mark.parametrize(
    "method", ["checkpoint", pytest.param("expert_checkpoint", marks=pytest.mark.slow)]
)
def test_gap(method: str, parts: Path, request: pytest.FixtureRequest) -> None:
    checkpoint = request.getfixturevalue(method)
    network = checkpoint.build()
    spec = input_spec(checkpoint.recipe)
    frames = [read_image(path) for path in list_images(parts / "train" / "good")]
    images = torch.from_numpy(to_input(frames, spec))
    mode = network.training
    before = copy.deepcopy(network.state_dict())
    assert 0 < evaluation_gap(network, images) <= LIMIT
    assert network.training == mode
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name])
    for module in network.bottleneck.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_var.mul_(100)
    assert evaluation_gap(network, images) > LIMIT


def test_training_tells_a_gap(parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = list_images(parts / "train" / "good")
    said: list[str] = []
    monkeypatch.setattr(trainer, "FROM_STEP", 3)
    for gap in (LIMIT, 2.52):
        monkeypatch.setattr(trainer, "evaluation_gap", lambda network, images, gap=gap: gap)
        train(SHORT, images, tmp_path / str(gap), on_stage=said.append)
    assert said[-2] == "training"
    assert said[-1].startswith("warning: on good parts the loss is 2.5 times as high in evaluat")
    monkeypatch.setattr(trainer, "FROM_STEP", 4)  # nothing is told of few batches
    train(replace(SHORT, seed=1), images, tmp_path / "few", on_stage=said.append)
    assert said[-1] == "training"
