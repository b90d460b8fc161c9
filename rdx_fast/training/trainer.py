"""The training loop of RD4AD (paper, section 3.1; recipe of the authors' code)."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from rdx_fast.errors import CheckpointError, TrainingError
from rdx_fast.models import RD4AD, Features, load_teacher
from rdx_fast.training.checkpoint import FILE, Checkpoint, load_checkpoint, save_checkpoint
from rdx_fast.training.data import (
    ImageDataset,
    TeacherFeatures,
    fingerprint,
    input_spec,
    readable_images,
    split_holdout,
)
from rdx_fast.training.loss import distillation_loss
from rdx_fast.training.recipe import Recipe


@dataclass(frozen=True, slots=True)
class Progress:
    """One finished step: counts, the step's loss, and the last epoch's mean (None before)."""

    step: int
    total_steps: int
    epoch: int
    loss: float
    epoch_loss: float | None


def train(
    recipe: Recipe,
    images: list[Path],
    run: Path,
    *,
    weights: Path | None = None,
    device: str = "cpu",
    resume: bool = False,
    skip_bad: bool = False,
    max_minutes: float | None = None,
    checkpoint_every: int = 5,
    feature_memory_gb: float = 4.0,
    workers: int = 0,
    on_step: Callable[[Progress], None] = lambda progress: None,
) -> Checkpoint:
    """Train on images of good parts and return the last checkpoint, which lies in ``run``.

    Checkpoints are written every ``checkpoint_every`` epochs, at the end, and when ``max_minutes``
    are over. With ``resume`` a run goes on from its checkpoint, and ends with the weights that an
    unbroken run on the same machine ends with.

    Raises ``TrainingError`` (too few images, non-finite loss, no such device), ``DatasetError``
    (bad images), ``WeightsError`` (teacher), ``CheckpointError`` (resume).
    """
    started = time.monotonic()
    place = _device(device)
    old = _previous(run, resume)
    training, held_out = split_holdout(readable_images(images, skip_bad), recipe)
    images_id = fingerprint(training)
    learner = _Learner(recipe, place)
    if old is None:
        weights_name = load_teacher(learner.network.teacher, recipe.backbone, weights)
    else:
        _check_same_run(old, recipe, images_id, run)
        learner.restore(old)
        weights_name = old.teacher_weights

    dataset = ImageDataset(training, input_spec(recipe))
    features = TeacherFeatures(
        learner.network.teacher, dataset, recipe.batch, feature_memory_gb * 2**30, workers, place
    )
    steps_per_epoch = math.ceil(len(training) / recipe.batch)
    total_steps = recipe.epochs * steps_per_epoch

    def save() -> Checkpoint:
        checkpoint = Checkpoint(
            method=learner.network.method,
            recipe=recipe,
            step=learner.step,
            steps_per_epoch=steps_per_epoch,
            network=learner.network.state_dict(),
            optimizer=learner.optimizer.state_dict(),
            scaler=learner.scaler.state_dict(),
            losses=learner.losses,
            partial_losses=learner.partial_losses,
            images=images_id,
            image_count=len(training),
            held_out=[str(path.resolve()) for path in held_out],
            teacher_weights=weights_name,
        )
        save_checkpoint(checkpoint, run)
        return checkpoint

    while learner.step < total_steps:
        epoch, done = divmod(learner.step, steps_per_epoch)
        for teacher in features.batches(_shuffled(len(training), recipe, epoch)[done:]):
            loss = learner.learn(teacher)
            if not math.isfinite(loss):
                raise TrainingError(
                    f"the loss became {loss} at epoch {epoch + 1}, step {learner.step}: lower "
                    f"--learning-rate (it is {recipe.learning_rate}), or train without mixed "
                    f"precision (--no-amp); the last checkpoint, if any, stays in {run}"
                )
            learner.note(loss, steps_per_epoch)
            epoch_loss = learner.losses[-1] if learner.losses else None
            on_step(Progress(learner.step, total_steps, epoch, loss, epoch_loss))
            if max_minutes is not None and time.monotonic() - started > 60 * max_minutes:
                return save()
        if (epoch + 1) % checkpoint_every == 0 and learner.step < total_steps:
            save()
    return save()


class _Learner:
    """What learns, and what a checkpoint brings back."""

    def __init__(self, recipe: Recipe, place: torch.device) -> None:
        torch.manual_seed(recipe.seed)
        self.network = RD4AD(recipe.backbone)
        self.network.to(place, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
        self.optimizer = torch.optim.Adam(
            [*self.network.student.parameters(), *self.network.bottleneck.parameters()],
            lr=recipe.learning_rate,
            betas=recipe.betas,
        )
        self.place = place
        self.amp = recipe.amp and place.type == "cuda"
        self.scaler = torch.amp.GradScaler(place.type, enabled=self.amp)
        self.step = 0
        self.losses: list[float] = []
        self.partial_losses: list[float] = []

    def restore(self, old: Checkpoint) -> None:
        self.network.load_state_dict(old.network)
        self.optimizer.load_state_dict(old.optimizer)
        self.scaler.load_state_dict(old.scaler)
        self.step = old.step
        self.losses = list(old.losses)
        self.partial_losses = list(old.partial_losses)

    def learn(self, teacher: list[Tensor]) -> float:
        """One step on the teacher's maps of a batch; returns its loss, which may not be finite."""
        with torch.autocast(self.place.type, torch.float16, enabled=self.amp):
            student = self.network.student(self.network.bottleneck(teacher))
        loss = distillation_loss(Features(teacher, student))
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.step += 1
        return loss.item()

    def note(self, loss: float, steps_per_epoch: int) -> None:
        self.partial_losses.append(loss)
        if len(self.partial_losses) == steps_per_epoch:
            self.losses.append(sum(self.partial_losses) / steps_per_epoch)
            self.partial_losses = []


def _shuffled(count: int, recipe: Recipe, epoch: int) -> list[list[int]]:
    """Batches of one epoch; they depend on seed and epoch alone, so a resumed run repeats them."""
    generator = torch.Generator().manual_seed(recipe.seed + 1_000_003 * epoch)
    order = torch.randperm(count, generator=generator).tolist()
    return [order[i : i + recipe.batch] for i in range(0, count, recipe.batch)]


def _device(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise TrainingError(
            f"device {name} is wanted and torch {torch.__version__} finds no CUDA GPU: use "
            f"--device cpu, or install a CUDA build of torch and a driver"
        )
    return torch.device(name)


def _previous(run: Path, resume: bool) -> Checkpoint | None:
    exists = (run / FILE).exists()
    if exists and not resume:
        raise CheckpointError(
            f"{run} already holds a run: pass --resume to go on with it, or choose another folder"
        )
    return load_checkpoint(run) if resume and exists else None


def _check_same_run(old: Checkpoint, recipe: Recipe, images_id: str, run: Path) -> None:
    """A run may be lengthened on resume, nothing else about it may change."""
    was, now = asdict(old.recipe), asdict(replace(recipe, epochs=old.recipe.epochs))
    changed = [f"{key}: {was[key]} before, {now[key]} now" for key in was if was[key] != now[key]]
    if old.images != images_id:
        changed.append("the training images are not the same files")
    if changed:
        raise CheckpointError(
            f"{run} was trained with another recipe and cannot go on with this one: "
            + "; ".join(changed)
        )
