from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from rdx_fast.datasets import find_dataset
from rdx_fast.errors import CheckpointError, DatasetError, TrainingError
from rdx_fast.images import list_images
from rdx_fast.training import Checkpoint, Progress, Recipe, load_checkpoint, train
from rdx_fast.training.checkpoint import save_checkpoint
from rdx_fast.training.data import TeacherFeatures
from rdx_fast.training.inputs import split_holdout
from rdx_fast.training.loss import distillation_loss
from rdx_fast.training.precision import training_precision
from rdx_fast.training.trainer import _place_of
from support.checkout import needs_no_gpu
from support.weights import assert_same_weights

TRAINER = "rdx_fast.training.trainer"
SHORT = Recipe(backbone="efficientnet_lite0", image_size=(32, 32), epochs=4, batch=10)


@pytest.fixture(scope="module")
def images(parts: Path) -> list[Path]:
    return find_dataset(parts).train()


@pytest.fixture(scope="module")
def unbroken(images: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return train(SHORT, images, tmp_path_factory.mktemp("unbroken") / "run")


def test_defaults_are_the_published_recipe() -> None:
    recipe = Recipe()
    assert (recipe.backbone, recipe.image_size) == ("wide_resnet50_2", (256, 256))
    assert (recipe.method, recipe.batch, recipe.learning_rate) == ("rd4ad", 16, 0.005)
    assert recipe.betas == (0.5, 0.999)
    assert recipe.total_steps(steps_per_epoch=14) == 200 * 14
    expert = Recipe(method="rd-expert")
    assert (expert.injection, expert.teacher_learning_rate) == ("guided", 0.0001)
    assert expert.total_steps(steps_per_epoch=14) == 5000
    assert replace(expert, epochs=3).total_steps(14) == 42
    assert replace(recipe, iterations=10).total_steps(14) == 10


def test_loss_falls_and_progress_is_told(images: list[Path], tmp_path: Path) -> None:
    told: list[Progress] = []
    checkpoint = train(SHORT, images, tmp_path / "run", on_step=told.append)
    assert checkpoint.finished
    assert checkpoint.epoch == 4
    losses = checkpoint.losses["student"]
    assert losses[-1] < losses[0]
    assert [p.step for p in told] == list(range(1, 13))  # 24 images in batches of 10, 10 and 4
    assert {p.total_steps for p in told} == {12}
    assert told[0].epoch_loss is None
    assert told[-1].epoch_loss == losses[-1]
    assert all(0 <= p.waiting <= 1 for p in told)


KILLED = """
import os, signal, sys
from pathlib import Path
from rdx_fast.images import list_images
from rdx_fast.training import Recipe, train

run = Path(sys.argv[2])

def on_step(progress):
    if progress.step == 8:
        os.kill(os.getpid(), signal.SIGKILL)

recipe = Recipe(backbone="efficientnet_lite0", image_size=(32, 32), epochs=4, batch=10)
train(recipe, list_images(Path(sys.argv[1])), run, checkpoint_every=1, on_step=on_step)
"""


def test_killed_and_resumed_is_as_unbroken(
    parts: Path, images: list[Path], unbroken: Checkpoint, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    good = str(parts / "train" / "good")
    done = subprocess.run([sys.executable, "-P", "-c", KILLED, good, str(run)], check=False)
    assert done.returncode == -signal.SIGKILL
    left = load_checkpoint(run)
    assert left.step == 6
    assert not left.finished
    (run / "checkpoint.pt.partial").write_bytes(b"half a checkpoint")
    resumed = train(SHORT, images, run, resume=True)
    assert resumed.finished
    assert resumed.losses == unbroken.losses
    assert_same_weights(resumed, unbroken)
    assert_same_weights(load_checkpoint(run), unbroken)


def test_time_limit_stops_mid_epoch_and_resumes(
    images: list[Path], unbroken: Checkpoint, tmp_path: Path
) -> None:
    stopped = train(SHORT, images, tmp_path / "run", max_minutes=0)
    assert stopped.step == 1
    assert_same_weights(train(SHORT, images, tmp_path / "run", resume=True), unbroken)


@pytest.mark.parametrize("method", ["rd4ad", pytest.param("rd-expert", marks=pytest.mark.slow)])
def test_resumed_in_bfloat16_is_as_unbroken(
    images: list[Path], tmp_path: Path, method: str, monkeypatch
) -> None:
    monkeypatch.setattr(f"{TRAINER}.training_precision", lambda recipe, device: "bf16")
    recipe = replace(SHORT, method=method, epochs=2)
    unbroken = train(recipe, images, tmp_path / "unbroken")
    for _ in range(2):
        stopped = train(recipe, images, tmp_path / "run", max_minutes=0, resume=True)
    assert stopped.step == 2
    assert stopped.precision == "bf16"
    resumed = train(recipe, images, tmp_path / "run", resume=True)
    assert resumed.losses == unbroken.losses
    assert_same_weights(resumed, unbroken)
    monkeypatch.undo()
    exact = train(replace(recipe, amp=False), images, tmp_path / "exact")
    for term, losses in exact.losses.items():
        assert losses != unbroken.losses[term]
        assert losses == pytest.approx(unbroken.losses[term], rel=0.02)


def test_a_run_keeps_its_precision(images: list[Path], tmp_path: Path, monkeypatch) -> None:
    short = replace(SHORT, iterations=2, epochs=None)
    run = tmp_path / "run"
    monkeypatch.setattr(f"{TRAINER}.training_precision", lambda *_: "bf16")
    stopped = train(short, images, run, max_minutes=0)
    monkeypatch.setattr(f"{TRAINER}.training_precision", lambda *_: "fp32")  # another machine
    assert train(short, images, run, resume=True).precision == stopped.precision == "bf16"
    save_checkpoint(replace(stopped, precision="fp16"), run)
    with pytest.raises(CheckpointError, match="trained on a GPU only, and the device is cpu"):
        train(short, images, run, resume=True)


def test_precision_of_a_machine(monkeypatch) -> None:
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    for fast, wanted in ((True, "bf16"), (False, "fp32")):
        monkeypatch.setattr("rdx_fast.training.precision.has_fast_bf16", lambda fast=fast: fast)
        assert training_precision(SHORT, cpu) == wanted
        assert training_precision(replace(SHORT, amp=False), cpu) == "fp32"
    for has, wanted in ((True, "bf16"), (False, "fp16")):
        monkeypatch.setattr(
            torch.cuda, "is_bf16_supported", lambda including_emulation, has=has: has
        )
        assert training_precision(SHORT, gpu) == wanted
    assert training_precision(replace(SHORT, amp=False), gpu) == "fp32"


def test_features_that_do_not_fit(images: list[Path], tmp_path: Path) -> None:
    kept = train(SHORT, images, tmp_path / "kept")
    computed = train(SHORT, images, tmp_path / "computed", feature_memory_gb=0, workers=1)
    # The teacher sees other batches, so sums round differently; the way there is the same.
    np.testing.assert_allclose(computed.losses["student"], kept.losses["student"], rtol=1e-3)


def test_where_features_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    features: Any = object.__new__(TeacherFeatures)
    features.device, features.bytes_needed = torch.device("cuda", 0), 2**30
    for free, place, told in (
        (4 * 2**30, "cuda", ""),
        (4 * 2**30 - 1, "cpu", ", kept in host memory: they take 1.0 GiB, more than a quarter"),
    ):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device, free=free: (free, 2**40))
        features.place = features._place()
        assert features.place.type == place
        assert _place_of(features).startswith(told)
        assert bool(_place_of(features)) == bool(told)


def test_resume_refuses_another_run(images: list[Path], tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(SHORT, images, run, max_minutes=0)
    with pytest.raises(CheckpointError, match=r"resume=True, --resume"):
        train(SHORT, images, run)
    with pytest.raises(CheckpointError, match=r"learning_rate: 0\.005 before, 0\.01 now"):
        train(replace(SHORT, learning_rate=0.01), images, run, resume=True)
    with pytest.raises(CheckpointError, match="not the same files"):
        train(SHORT, images[1:], run, resume=True)
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "manifest.json").touch()
    for resume in (False, True):
        with pytest.raises(CheckpointError, match=r"no run but other files \(manifest\.json\): ch"):
            train(SHORT, images, tmp_path / "bundle", resume=resume)
    longer = train(replace(SHORT, epochs=5), images, run, resume=True)
    assert longer.epoch == 5


@pytest.mark.parametrize("content", [b"", b"garbage", b"PK\x03\x04 half a zip"])
def test_damaged_checkpoint(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "checkpoint.pt").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"checkpoint\.pt is damaged"):
        load_checkpoint(tmp_path)
    with pytest.raises(CheckpointError, match="no checkpoint at"):
        load_checkpoint(tmp_path / "none")


def test_checkpoints_from_before_an_option_load(unbroken: Checkpoint, tmp_path: Path) -> None:
    save_checkpoint(unbroken, tmp_path)
    content = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    for option in ("pixel_format", "crop", "levels"):
        del content["recipe"][option]
    torch.save(content, tmp_path / "checkpoint.pt")
    assert load_checkpoint(tmp_path).recipe == unbroken.recipe


def test_bad_images_are_listed_or_skipped(images: list[Path], tmp_path: Path) -> None:
    folder = tmp_path / "good"
    folder.mkdir()
    for path in images:
        shutil.copy(path, folder)
    (folder / "truncated.png").write_bytes(images[0].read_bytes()[:2000])
    (folder / "text.png").write_text("no image")
    Image.fromarray(np.zeros((8, 8), np.uint16)).save(folder / "deep.png")
    with pytest.raises(DatasetError) as caught:
        train(SHORT, list_images(folder), tmp_path / "run")
    for name in ("truncated.png", "text.png", "deep.png: a uint16 frame's range", "--skip-bad"):
        assert name in str(caught.value)
    with pytest.raises(DatasetError, match=r"none of the 24 images can be used(.|\n)*0 to 255"):
        train(replace(SHORT, levels=(0, 9)), images, tmp_path / "run")
    checkpoint = train(SHORT, list_images(folder), tmp_path / "run", skip_bad=True, max_minutes=0)
    assert checkpoint.image_count == 24


def test_fewer_images_than_a_batch(images: list[Path], tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="9 images to train on, fewer than a batch of 10"):
        train(SHORT, images[:9], tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_loss_that_is_not_finite(images: list[Path], tmp_path: Path, monkeypatch) -> None:
    def broken(*maps: list[torch.Tensor]) -> torch.Tensor:
        return distillation_loss(*maps) * float("nan")

    monkeypatch.setattr("rdx_fast.training.distillation.distillation_loss", broken)
    with pytest.raises(TrainingError, match=r"the loss became nan at step 1: lower the learning"):
        train(SHORT, images, tmp_path / "run")


@needs_no_gpu
def test_no_gpu(images: list[Path], tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="finds no CUDA GPU: train on the CPU"):
        train(SHORT, images, tmp_path / "run", device="cuda")


def test_holdout() -> None:
    training, held = split_holdout(24, replace(SHORT, holdout=0.25))
    assert len(held) == 6
    assert sorted([*training, *held]) == list(range(24))
    assert (training, held) == split_holdout(24, replace(SHORT, holdout=0.25))
    assert held != split_holdout(24, replace(SHORT, holdout=0.25, seed=1))[1]


@pytest.mark.parametrize(
    "change",
    [
        {"image_size": (100, 256)},
        {"epochs": 0},
        {"batch": 0},
        {"learning_rate": float("nan")},
        {"betas": (0.5, 1.0)},
        {"texture_cuts": True},
        {"texture_colors": True},
        {"foreground": "grabcut"},  # of another method, as the two before
        {"foreground": "by hand"},
        {"holdout": 0.9},
        {"seed": -1},
        {"backbone": "vgg"},
        {"method": "rd5"},
        {"injection": "forced"},
        {"teacher_learning_rate": 0.0},
        {"iterations": 5},  # beside the epochs
        {"pixel_format": "yuv"},
        {"levels": (4095, 0)},
    ],
)
def test_recipe_out_of_range(change) -> None:
    with pytest.raises(ValueError, match=next(iter(change)).split("_")[0]):
        replace(SHORT, **change)


def test_checkpoint_survives_a_full_write_only(unbroken: Checkpoint, tmp_path: Path) -> None:
    # Replaced in one step: the folder never holds a second name that a reader could take.
    save_checkpoint(unbroken, tmp_path)
    assert os.listdir(tmp_path) == ["checkpoint.pt"]
    assert_same_weights(load_checkpoint(tmp_path), unbroken)


def test_warm_start(images: list[Path], unbroken: Checkpoint, tmp_path: Path) -> None:
    """It goes on from the weights, with a new optimizer, and can be interrupted as any run."""
    recipe = replace(SHORT, epochs=None, iterations=3, learning_rate=1e-6)
    started = train(recipe, images, tmp_path / "run", start=unbroken)
    assert started.started_from == unbroken.network_sha256() != started.network_sha256()
    assert started.losses["student"][0] == pytest.approx(unbroken.losses["student"][-1], rel=0.3)
    assert started.losses["student"][0] < 0.8 * unbroken.losses["student"][0]
    stopped = train(recipe, images, tmp_path / "stopped", start=unbroken, max_minutes=0)
    assert (stopped.step, stopped.started_from) == (1, started.started_from)
    resumed = train(recipe, images, tmp_path / "stopped", start=unbroken, resume=True)
    assert_same_weights(resumed, started)
    assert load_checkpoint(tmp_path / "stopped").started_from == started.started_from
    with pytest.raises(CheckpointError, match="did not start from the weights that are given now"):
        train(recipe, images, tmp_path / "run", start=started, resume=True)
    with pytest.raises(CheckpointError, match="has backbone efficientnet_lite0, the recipe resnet"):
        train(replace(recipe, backbone="resnet18"), images, tmp_path / "other", start=unbroken)


def test_warm_start_keeps_held_out_images(images: list[Path], tmp_path: Path) -> None:
    first = train(
        replace(SHORT, epochs=None, iterations=1, holdout=0.25), images, tmp_path / "first"
    )
    recipe = replace(first.recipe, holdout=0.0)
    left = [path for path in images if str(path.resolve()) not in first.held_out]
    second = train(recipe, left, tmp_path / "second", start=first)
    assert second.held_out == first.held_out
    assert len(second.held_out) == 6


def test_network_sha256(unbroken: Checkpoint) -> None:
    assert unbroken.network_sha256() == unbroken.network_sha256()
    name, tensor = next(iter(unbroken.network.items()))
    changed = replace(unbroken, network=unbroken.network | {name: tensor.flip(0)})
    assert changed.network_sha256() != unbroken.network_sha256()
    last_first = dict(reversed(unbroken.network.items()))
    assert replace(unbroken, network=last_first).network_sha256() == unbroken.network_sha256()


@pytest.mark.slow
def test_warm_start_of_rd_expert(
    expert_checkpoint: Checkpoint, images: list[Path], tmp_path: Path
) -> None:
    """Teacher and expert are those of the run."""
    recipe = replace(
        expert_checkpoint.recipe,
        epochs=None,
        iterations=1,
        learning_rate=1e-9,
        teacher_learning_rate=1e-9,
        frozen_statistics=True,
    )
    started = train(recipe, images, tmp_path / "run", start=expert_checkpoint)
    assert all(torch.equal(v, expert_checkpoint.expert[k]) for k, v in started.expert.items())
    assert started.expert.keys() == expert_checkpoint.expert.keys()
    for name, tensor in started.network.items():
        if name.startswith("teacher."):
            torch.testing.assert_close(tensor, expert_checkpoint.network[name])
    imported = replace(expert_checkpoint, expert={}, imported=["a.pth"])
    with pytest.raises(CheckpointError, match=r"imported from a\.pth, and lacks the expert"):
        train(recipe, images, tmp_path / "other", start=imported)
