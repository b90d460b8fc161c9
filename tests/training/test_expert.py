"""RD with Expert: the network and its training."""

from __future__ import annotations

import copy
import math
import os
import signal
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.functional import cosine_similarity, interpolate
from torch.utils.flop_counter import FlopCounterMode

from rdx_fast.errors import CheckpointError, DatasetError, WeightsError
from rdx_fast.images import list_images
from rdx_fast.models import BACKBONES, INJECTIONS, RDExpert, load_teacher, make_network
from rdx_fast.training import Checkpoint, Progress, Recipe, load_checkpoint, train
from rdx_fast.training.expert import Batch, ExpertDistillation
from rdx_fast.training.learner import Learner
from rdx_fast.training.networks import make_networks
from rdx_fast.training.precision import autocast
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


def test_all_of_the_teacher_learns() -> None:
    assert all(p.requires_grad for p in RDExpert("resnet18").teacher.parameters())


def test_xavier_but_for_transposed_convolutions() -> None:
    torch.manual_seed(0)
    network = RDExpert("wide_resnet50_2")
    for part in (network.bottleneck, network.student):
        for module in part.modules():
            if isinstance(module, nn.Conv2d):
                outputs, inputs, height, width = module.weight.shape
                wanted = math.sqrt(2 / ((inputs + outputs) * height * width))
                assert module.weight.std().item() == pytest.approx(wanted, rel=0.05)
            elif isinstance(module, nn.ConvTranspose2d):
                fan_in = module.weight.shape[1] * 4  # torch's default: uniform within 1/sqrt(it)
                assert module.weight.abs().max().item() <= 1 / math.sqrt(fan_in)
    # RD4AD's published start is another one.
    conv = make_network("rd4ad", "wide_resnet50_2").bottleneck.conv1
    assert conv.weight.std().item() == pytest.approx(math.sqrt(2 / (512 * 9)), rel=0.05)


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
        # Batch statistics move too: the good and the anomalous images are a batch each.
        assert not torch.equal(learnt[f"teacher.{key}"], value)
        if key.endswith("num_batches_tracked"):
            assert learnt[f"teacher.{key}"] == value + 2 * checkpoint.step


def test_a_step_written_out(monkeypatch) -> None:
    recipe = replace(SHORT, image_size=(64, 64), amp=False)
    network, frozen, _ = make_networks(recipe, None, None, torch.device("cpu"))
    plain = copy.deepcopy(network)
    expert = copy.deepcopy(frozen)
    rng = torch.Generator().manual_seed(0)
    normal = torch.randn(4, 3, 64, 64, generator=rng)
    mask = torch.zeros(4, 64, 64)
    mask[:, 8:30, 20:50] = 1
    anomalous = torch.where(mask[:, None] > 0, torch.randn(normal.shape, generator=rng), normal)

    features = SimpleNamespace(
        device=torch.device("cpu"),
        autocast=autocast(torch.device("cpu"), "fp32"),
        of=lambda indices, images: frozen(images),
        of_images=frozen,
    )
    objective = ExpertDistillation(network, features, None)  # type: ignore[arg-type]
    learner = Learner(objective, recipe, torch.device("cpu"), "fp32")
    losses = learner.learn(Batch(normal, anomalous, mask, [0, 1, 2, 3]))

    # The same in plain torch, with its own convolutions, cosine and Adam.
    monkeypatch.setattr("rdx_fast.models.convolutions._uses_own_gradient", lambda module: False)
    teacher = plain.teacher.train()
    good, twin = teacher(normal), teacher(anomalous)
    with torch.no_grad():
        wanted_good, wanted_twin = expert(normal), expert(anomalous)
    small, teacher_terms = mask[:, None], []
    for t, a, e, ea in zip(good, twin, wanted_good, wanted_twin, strict=True):
        small = interpolate(small, t.shape[2:], mode="bilinear", align_corners=True)
        small = torch.where(small < 0.5, 0.0, 1.0)
        teacher_terms.append((1 - cosine_similarity(t, e)).mean())
        teacher_terms.append((1 - cosine_similarity(a, e) - small[:, 0]).abs().mean())
        teacher_terms.append((1 - cosine_similarity(a.flatten(1), ea.flatten(1))).mean())
    teacher_loss = torch.stack(teacher_terms).sum()
    adam = torch.optim.Adam(teacher.parameters(), 0.001, (0.5, 0.999), fused=False)
    teacher_loss.backward()
    adam.step()
    assert losses["teacher"] == pytest.approx(teacher_loss.item(), rel=1e-5)
    assert_same_gradients(network.teacher, teacher)
    assert_same_step(network.teacher.parameters(), teacher.parameters(), 0.001)
    for p, q in zip(network.teacher.buffers(), teacher.buffers(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-4, atol=1e-5)

    # From here with the very teacher: gradients of a fresh student depend on it chaotically.
    teacher.load_state_dict(network.teacher.state_dict())
    with torch.no_grad():
        teacher.eval()
        good, twin = teacher(normal), teacher(anomalous)
    student_terms = [
        (1 - cosine_similarity(s.flatten(1), t.flatten(1))).mean()
        for maps in (plain.decode(good), plain.decode(twin))
        for target in (good, wanted_good)
        for s, t in zip(maps, target, strict=True)
    ]
    student_loss = torch.stack(student_terms).sum()
    student_loss.backward()
    adam = torch.optim.Adam(plain.decoding_parameters(), 0.005, (0.5, 0.999), fused=False)
    assert losses["student"] == pytest.approx(student_loss.item(), rel=1e-5)
    assert_same_gradients(network.student, plain.student)
    assert_same_gradients(network.bottleneck, plain.bottleneck)
    adam.step()
    assert_same_step(network.decoding_parameters(), plain.decoding_parameters(), 0.005)
    for optimizer in learner.optimizers.values():
        assert optimizer.param_groups[0]["betas"] == (0.5, 0.999)


def assert_same_gradients(network: nn.Module, wanted: nn.Module) -> None:
    ours, theirs = (
        torch.cat([p.grad.flatten() for p in n.parameters() if p.grad is not None])
        for n in (network, wanted)
    )
    assert len(theirs) == sum(p.numel() for p in wanted.parameters())
    assert (ours - theirs).norm().item() < 0.01 * theirs.norm().item()


def assert_same_step(
    parameters: Iterable[nn.Parameter], wanted: Iterable[nn.Parameter], rate: float
) -> None:
    """Of Adam's first step, which has the size of the learning rate and the sign of the gradient;
    where the gradient is next to 0, rounding decides its sign."""
    pairs = [(p, q) for p, q in zip(parameters, wanted, strict=True) if q.grad is not None]
    gradients, ours, theirs = (
        torch.cat([v.detach().flatten() for v in values])
        for values in ([q.grad for _, q in pairs], *zip(*pairs, strict=True))
    )
    certain = gradients.abs() > 0.1 * gradients.std()
    assert certain.sum() > 0.3 * len(certain)
    torch.testing.assert_close(ours[certain], theirs[certain], rtol=0, atol=rate / 100)


def _is_statistic(key: str) -> bool:
    return "running" in key or "tracked" in key


def test_weights_without_batch_statistics(images: list[Path], tmp_path: Path) -> None:
    folded = make_network("rd4ad", SHORT.backbone).teacher  # mean 0 and variance 1 throughout
    torch.save(folded.state_dict(), tmp_path / "folded.pth")
    with pytest.raises(WeightsError, match=r"folded\.pth has no batch statistics"):
        train(SHORT, images, tmp_path / "run", weights=tmp_path / "folded.pth")
    # Where they do not move, folded weights are as good.
    frozen = replace(SHORT, frozen_statistics=True)
    still = train(frozen, images, tmp_path / "f", weights=tmp_path / "folded.pth", max_minutes=0)
    for key, value in still.expert.items():
        assert torch.equal(still.network[f"teacher.{key}"], value) == _is_statistic(key)
    recipe = replace(SHORT, method="rd4ad")
    train(recipe, images, tmp_path / "run", weights=tmp_path / "folded.pth", max_minutes=0)


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


@pytest.mark.slow
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
    # Without any texture, training would make other anomalies.
    with pytest.raises(DatasetError, match="none of the 1 textures can be used: give"):
        train(SHORT, images, tmp_path / "run", textures=[torn], skip_bad=True)
    assert not os.path.exists(tmp_path / "run")
    said: list[str] = []
    given = [torn, images[0]]
    options: dict[str, Any] = {"textures": given, "skip_bad": True, "on_stage": said.append}
    train(SHORT, images, tmp_path / "run", max_minutes=0, **options)
    assert "left out: 1 of 2 textures, which cannot be used" in said


def test_options_of_the_other_method(images: list[Path], tmp_path: Path) -> None:
    recipe = Recipe(backbone="efficientnet_lite0", image_size=(32, 32), batch=10)
    with pytest.raises(ValueError, match="of rd-expert only, the method is rd4ad"):
        train(recipe, images, tmp_path / "run", textures=images)
