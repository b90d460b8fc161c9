"""RD with Expert: the network and its training."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from rdx_fast.errors import CheckpointError, DatasetError
from rdx_fast.images import list_images
from rdx_fast.models import BACKBONES, INJECTIONS, RDExpert, load_teacher, make_network
from rdx_fast.training import Checkpoint, Progress, Recipe, load_checkpoint, train
from rdx_fast.training.loss import agreement_loss, separation_loss
from support.weights import assert_same_weights, assert_student_mirrors_teacher

SHORT = Recipe(
    method="rd-expert",
    backbone="efficientnet_lite0",
    image_size=(32, 32),
    iterations=8,
    batch=10,
    teacher_learning_rate=0.001,
)


@pytest.mark.parametrize("injection", INJECTIONS)
@pytest.mark.parametrize("name", list(BACKBONES))
def test_student_mirrors_teacher(name: str, injection: str) -> None:
    with torch.device("meta"):  # shapes alone
        network = RDExpert(name, injection)
        assert_student_mirrors_teacher(network, name)
    assert any(".gate." in key for key in network.state_dict()) == (injection == "guided")


def test_cost() -> None:
    flops = {}
    for injection in INJECTIONS:
        with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
            RDExpert("wide_resnet50_2", injection).eval()(torch.zeros(1, 3, 256, 256))
        flops[injection] = counter.get_total_flops() / 1e9
    wanted = {"none": 60.9, "plain": 90.4, "guided": 100.1}  # none: as RD4AD
    assert flops == pytest.approx(wanted, abs=0.05)


def test_unknown_injection_and_method() -> None:
    with pytest.raises(ValueError, match="injection is 'forced', wanted one of guided, plain, no"):
        RDExpert("resnet18", "forced")
    with pytest.raises(ValueError, match="unknown method 'rd5': choose one of rd4ad, rd-expert"):
        make_network("rd5", "resnet18")


def test_teacher_learns_but_for_its_batch_statistics() -> None:
    network = RDExpert("resnet18").train()
    before = {k: v.clone() for k, v in network.teacher.named_buffers()}
    network(torch.randn(2, 3, 64, 64))
    assert all(p.requires_grad for p in network.teacher.parameters())
    assert all(torch.equal(v, before[k]) for k, v in network.teacher.named_buffers())


def test_where_they_disagree_nothing_is_injected() -> None:
    torch.manual_seed(0)
    injection = RDExpert("resnet18").student.injections[0].eval()
    student = torch.rand(1, 128, 4, 4)
    finer = torch.rand(1, 64, 8, 8)
    # Opposite features: similarity -1 makes the gate weigh the student twice and detail negatively,
    # orthogonal ones leave the student alone.
    orthogonal = torch.zeros_like(student)
    orthogonal[:, ::2] = student[:, 1::2]
    orthogonal[:, 1::2] = -student[:, ::2]
    with torch.no_grad():
        alone = injection(student, student, orthogonal, finer)
        expected = torch.relu(
            injection.skip(torch.cat([student, torch.relu(injection.gate(student))], dim=1))
        )
        torch.testing.assert_close(alone, expected)
        agreed = injection(student, student, student, finer)
        assert not torch.allclose(agreed, expected, atol=1e-3)


def test_losses_by_hand() -> None:
    rng = torch.Generator().manual_seed(0)
    expert = [torch.randn(2, 3, n, n, generator=rng) for n in (4, 2)]
    teacher = [torch.randn(2, 3, n, n, generator=rng) for n in (4, 2)]
    mask = torch.zeros(2, 8, 8)
    mask[0, :4, :2] = 1  # whole positions at the finer scale, halves of them at the coarser
    agreement, separation = 0.0, 0.0
    for e, t, size in zip(expert, teacher, (4, 2), strict=True):
        e64, t64 = e.double().numpy(), t.double().numpy()
        cosine = (e64 * t64).sum(1) / np.linalg.norm(e64, axis=1) / np.linalg.norm(t64, axis=1)
        agreement += (1 - cosine).mean()
        block = 8 // size
        inside = mask.numpy().reshape(2, size, block, size, block).mean(axis=(2, 4))
        separation += ((1 - cosine) * (1 - inside)).sum() / (1 - inside).sum()
        separation += (np.maximum(cosine, 0) * inside).sum() / max(inside.sum(), 1)
    assert agreement_loss(expert, teacher).item() == pytest.approx(agreement, abs=1e-6)
    assert separation_loss(expert, teacher, mask).item() == pytest.approx(separation, abs=1e-6)
    # Agreement everywhere costs the mask alone: one for each scale.
    assert separation_loss(expert, expert, mask).item() == pytest.approx(1.5, abs=1e-5)
    assert separation_loss(expert, expert, 0 * mask).item() == pytest.approx(0, abs=1e-5)


@pytest.fixture(scope="module")
def images(parts: Path) -> list[Path]:
    return list_images(parts / "train" / "good")


@pytest.fixture(scope="module")
def unbroken(images: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return train(SHORT, images, tmp_path_factory.mktemp("expert") / "run")


def test_training(images: list[Path], unbroken: Checkpoint, tmp_path: Path) -> None:
    told: list[Progress] = []
    checkpoint = train(SHORT, images, tmp_path / "run", workers=0, on_step=told.append)
    # Worker processes change nothing but the time it takes.
    assert_same_weights(checkpoint, unbroken)
    assert checkpoint.finished
    assert (checkpoint.step, checkpoint.epoch) == (8, 2)  # 24 images in batches of 10, 10 and 4
    assert checkpoint.losses.keys() == {"teacher", "student"}
    assert checkpoint.losses["student"][1] < checkpoint.losses["student"][0]
    assert told[-1].losses.keys() == {"teacher", "student"}
    assert 0 < told[-1].waiting < 1
    imagenet = make_network("rd4ad", SHORT.backbone).teacher
    load_teacher(imagenet, SHORT.backbone)
    learnt = checkpoint.network
    for key, value in imagenet.state_dict().items():
        assert torch.equal(checkpoint.expert[key], value)
        is_statistic = "running" in key or "tracked" in key
        assert torch.equal(learnt[f"teacher.{key}"], value) == is_statistic


def test_no_gradient_of_the_student_reaches_the_teacher(
    images: list[Path], tmp_path: Path, monkeypatch
) -> None:
    def silent(*maps: object) -> torch.Tensor:
        return torch.zeros((), requires_grad=True)

    for name in ("agreement_loss", "separation_loss"):
        monkeypatch.setattr(f"rdx_fast.training.expert.{name}", silent)
    checkpoint = train(SHORT, images, tmp_path / "run", max_minutes=0)
    for key, value in checkpoint.expert.items():
        assert torch.equal(checkpoint.network[f"teacher.{key}"], value)


KILLED = """
import os, signal, sys
from pathlib import Path
from rdx_fast.images import list_images
from rdx_fast.training import Recipe, train

def on_step(progress):
    if progress.step == 5:
        os.kill(os.getpid(), signal.SIGKILL)

recipe = Recipe(method="rd-expert", backbone="efficientnet_lite0", image_size=(32, 32),
                iterations=8, batch=10, teacher_learning_rate=0.001)
images = list_images(Path(sys.argv[1]))
train(recipe, images, Path(sys.argv[2]), checkpoint_every=1, on_step=on_step)
"""


def test_killed_and_resumed_is_as_unbroken(
    parts: Path, images: list[Path], unbroken: Checkpoint, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    good = str(parts / "train" / "good")
    done = subprocess.run([sys.executable, "-P", "-c", KILLED, good, str(run)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert load_checkpoint(run).step == 3
    resumed = train(SHORT, images, run, resume=True)
    assert resumed.losses == unbroken.losses
    assert resumed.partial_losses == unbroken.partial_losses
    assert_same_weights(resumed, unbroken)


def test_resume_refuses_other_textures(parts: Path, images: list[Path], tmp_path: Path) -> None:
    run, textures = tmp_path / "run", list_images(parts / "test")
    train(SHORT, images, run, textures=textures, max_minutes=0)
    with pytest.raises(CheckpointError, match="not the same files"):
        train(SHORT, images, run, resume=True)
    with pytest.raises(CheckpointError, match="injection: guided before, plain now"):
        train(replace(SHORT, injection="plain"), images, run, textures=textures, resume=True)
    assert train(SHORT, images, run, textures=textures, resume=True).finished


def test_bad_textures_are_found_before_training(images: list[Path], tmp_path: Path) -> None:
    torn = tmp_path / "torn.jpg"
    torn.write_bytes(b"\xff\xd8\xff")
    with pytest.raises(DatasetError, match=r"torn\.jpg"):
        train(SHORT, images, tmp_path / "run", textures=[torn])
    assert not os.path.exists(tmp_path / "run")


def test_options_of_the_other_method(images: list[Path], tmp_path: Path) -> None:
    recipe = Recipe(backbone="efficientnet_lite0", image_size=(32, 32), batch=10)
    with pytest.raises(ValueError, match="of rd-expert only, the method is rd4ad"):
        train(recipe, images, tmp_path / "run", textures=images)
