"""The training loop of both methods, with checkpoints from which a run can be resumed exactly."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from rdx_fast.cpu import usable_cores
from rdx_fast.errors import TrainingError
from rdx_fast.models import ReverseDistillation
from rdx_fast.training.checkpoint import Checkpoint, save_checkpoint
from rdx_fast.training.data import (
    ImageDataset,
    TeacherFeatures,
    input_spec,
    numbered_batches,
)
from rdx_fast.training.distillation import Distillation
from rdx_fast.training.expert import AnomalyDataset, ExpertDistillation
from rdx_fast.training.foreground import Masks
from rdx_fast.training.frames import Frames
from rdx_fast.training.gap import FROM_STEP, LIMIT, evaluation_gap
from rdx_fast.training.inputs import training_inputs
from rdx_fast.training.learner import Learner, WaitClock
from rdx_fast.training.networks import make_networks
from rdx_fast.training.precision import autocast, training_precision
from rdx_fast.training.recipe import Recipe
from rdx_fast.training.resume import (
    check_same_images,
    check_same_recipe,
    check_same_start,
    check_start,
    previous_run,
    resumed_precision,
)
from rdx_fast.training.synthetic import anomaly_maker


@dataclass(frozen=True, slots=True)
class Progress:
    """One finished step.

    Attributes:
        step: number of steps finished
        total_steps: steps of the whole run
        epoch: of this step, counted from 0
        losses: the step's loss by term
        epoch_loss: sum of the losses, averaged over the last finished epoch; None before
        waiting: share of the time so far that was spent waiting for data, 0 to 1
        steps_per_epoch: steps of an epoch
        precision: that the run trains in: "fp32", "bf16" or "fp16"
    """

    step: int
    total_steps: int
    epoch: int
    losses: dict[str, float]
    epoch_loss: float | None
    waiting: float
    steps_per_epoch: int
    precision: str


def train(
    recipe: Recipe,
    images: Sequence[Path],
    run: Path,
    *,
    start: Checkpoint | None = None,
    weights: Path | None = None,
    textures: Sequence[Path] = (),
    foreground: Path | None = None,
    device: str = "cpu",
    resume: bool = False,
    skip_bad: bool = False,
    max_minutes: float | None = None,
    checkpoint_every: int = 5,
    feature_memory_gb: float = 4.0,
    image_memory_gb: float = 2.0,
    workers: int | None = None,
    on_stage: Callable[[str], None] = lambda stage: None,
    on_step: Callable[[Progress], None] = lambda progress: None,
    on_checkpoint: Callable[[Checkpoint], None] = lambda checkpoint: None,
) -> Checkpoint:
    """Train on images of good parts and return the last checkpoint, which is also in ``run``.

    If Python spawns processes instead of forking, call this below ``if __name__ == "__main__"``.

    Args:
        recipe: options of the run
        images: images of good parts; one that is given several times is shown so often
        run: folder for the checkpoint
        start: start from its weights, with new optimizers, instead of untrained ones; images that
            it held out stay held out. Given again, or left out, when the run is resumed
        weights: file with the teacher's weights, see ``load_teacher``
        textures: for the synthetic anomalies of RD with Expert, see ``AnomalyMaker``
        foreground: mask files for them, see ``mask_files``; instead of ``recipe.foreground``
        device: "cpu", "cuda", "cuda:N", or "auto" for CUDA if there is a GPU
        resume: continue the run in ``run`` from its checkpoint, if there is one. It ends with the
            same weights as an uninterrupted run on the same machine with as many threads and the
            same ``feature_memory_gb``
        skip_bad: leave unreadable images and textures, and images without a usable mask, out
            instead of raising; if no texture can be read, it raises
        max_minutes: stop after this time and write a checkpoint; None for no limit
        checkpoint_every: epochs between checkpoints; one is also written at the end
        feature_memory_gb: GiB of memory for kept teacher features, on a GPU if they take at most a
            quarter of what is free there; if they need more, they are computed for each batch again
        image_memory_gb: GiB of memory for decoded images and textures, if every step needs images;
            those that do not fit are decoded at each use
        workers: processes that load data; None for up to 4 if every step needs images, and none if
            the features are kept
        on_stage: called with the name of each stage that begins, the last of them "training", with
            what is left out, and at the end with a warning if the network is worse in evaluation
            mode, see ``evaluation_gap``
        on_step: called after each step
        on_checkpoint: called after each checkpoint is written

    Raises:
        TrainingError: there are too few images, the loss is not finite, or there is no such device
        DatasetError: images, textures or masks cannot be used, or the masks that were made miss
            the part
        MissingDependencyError: masks are to be made, and OpenCV is not installed
        WeightsError: the teacher's weights cannot be loaded
        CheckpointError: the run cannot be resumed, or ``run`` already contains one, or it cannot
            begin from ``start``
        ValueError: textures or foreground for a method without synthetic anomalies; or mask files
            beside ``recipe.foreground``
    """
    started = time.monotonic()
    recipe = _with_files(recipe, textures, foreground)
    torch_device = _device(device)
    old = previous_run(run, resume)
    precision = _precision(recipe, old, torch_device)
    mixed = autocast(torch_device, precision)
    started_from, held_out = _started(recipe, run, old, start)
    network, frozen, weights_name = make_networks(recipe, old or start, weights, torch_device)
    inputs = training_inputs(recipe, images, textures, foreground, skip_bad, on_stage)
    if old is not None:
        check_same_images(old, inputs.fingerprint, run)
    dataset = _dataset(recipe, inputs.images)
    features = TeacherFeatures(
        frozen,
        dataset,
        recipe.batch,
        feature_memory_gb * 2**30,
        workers or 0,
        torch_device,
        mixed,
    )
    texture_frames = Frames(inputs.textures)
    if recipe.makes_anomalies or not features.keeps:
        if workers is None:
            features.workers = min(4, usable_cores())
        texture_frames.keep(dataset.frames.keep(image_memory_gb * 2**30))
    objective = _objective(network, features, recipe, texture_frames, inputs.masks)
    learner = Learner(objective, recipe, torch_device, precision)
    if old is not None:
        learner.restore(old)
    steps_per_epoch = math.ceil(len(dataset) / recipe.batch)
    total_steps = recipe.total_steps(steps_per_epoch)

    def save() -> Checkpoint:
        checkpoint = Checkpoint(
            recipe=recipe,
            step=learner.step,
            steps_per_epoch=steps_per_epoch,
            network=network.state_dict(),
            expert=frozen.state_dict() if recipe.makes_anomalies else {},
            precision=precision,
            optimizers={t: o.state_dict() for t, o in learner.optimizers.items()},
            scaler=learner.scaler.state_dict(),
            losses=learner.losses,
            partial_losses=learner.partial_losses,
            images=inputs.fingerprint,
            image_count=len(set(inputs.images)),
            held_out=list(
                dict.fromkeys([*held_out, *(str(path.resolve()) for path in inputs.held_out)])
            ),
            teacher_weights=weights_name,
            started_from=started_from,
        )
        save_checkpoint(checkpoint, run)
        on_checkpoint(checkpoint)
        return checkpoint

    if features.keeps:
        on_stage(f"computing the teacher's features of {_count(dataset)}{_place_of(features)}")
        features.prepare()
    on_stage("training")
    clock = WaitClock()
    steps = numbered_batches(len(dataset), recipe, learner.step, total_steps)
    for batch in clock.timed(objective.batches(steps)):
        losses = learner.learn(batch)
        loss = sum(losses.values())
        if not math.isfinite(loss):
            raise TrainingError(
                f"the loss became {loss} at step {learner.step}: lower the learning rate, now "
                f"{recipe.learning_rate} (Recipe(learning_rate=...), --learning-rate), or train "
                f"without mixed precision (Recipe(amp=False), --no-amp). The last checkpoint, if "
                f"any, is kept in {run}"
            )
        learner.note(losses, steps_per_epoch)
        epoch, begun = divmod(learner.step, steps_per_epoch)
        finished = [terms[-1] for terms in learner.losses.values() if terms]
        on_step(
            Progress(
                step=learner.step,
                total_steps=total_steps,
                epoch=(learner.step - 1) // steps_per_epoch,
                losses=losses,
                epoch_loss=sum(finished) if finished else None,
                waiting=clock.share,
                steps_per_epoch=steps_per_epoch,
                precision=precision,
            )
        )
        if max_minutes is not None and time.monotonic() - started > 60 * max_minutes:
            break
        if begun == 0 and epoch % checkpoint_every == 0 and learner.step < total_steps:
            save()
    if learner.step >= FROM_STEP:
        _tell_gap(network, dataset, recipe.batch, torch_device, on_stage)
    return save()


def _dataset(recipe: Recipe, images: Sequence[Path]) -> ImageDataset:
    dataset = ImageDataset(Frames(images, recipe.frame_options), input_spec(recipe))
    if len(dataset) < recipe.batch:
        raise TrainingError(
            f"{_count(dataset)} to train on, fewer than a batch of {recipe.batch}: add images, or "
            f"lower the batch size (Recipe(batch=...), --batch)"
        )
    return dataset


def _count(dataset: ImageDataset) -> str:
    """Number of images or tiles, in words."""
    images = f"{len(dataset.frames)} images"
    return images if dataset.windows is None else f"{len(dataset)} tiles of {images}"


def _tell_gap(
    network: ReverseDistillation,
    dataset: ImageDataset,
    count: int,
    device: torch.device,
    say: Callable[[str], None],
) -> None:
    """Warn if the network is worse in evaluation mode on the first ``count`` images."""
    gap = evaluation_gap(network, torch.stack([dataset[i] for i in range(count)]).to(device))
    if gap > LIMIT:
        say(
            f"warning: on good parts the loss is {gap:.1f} times as high in evaluation mode, which "
            f"is what is exported, as in training: the loss jumped shortly before the end. Train "
            f"on for 50 batches or more (a larger number of iterations, resume=True, --resume)"
        )


def _place_of(features: TeacherFeatures) -> str:
    """Where features are kept, if it costs time."""
    if features.place.type == features.device.type:
        return ""
    return (
        f", kept in host memory: they take {features.bytes_needed / 2**30:.1f} GiB, more than a "
        f"quarter of the GPU's free memory"
    )


def _with_files(recipe: Recipe, textures: Sequence[Path], foreground: Path | None) -> Recipe:
    """The recipe that is recorded: it says whether there are mask files."""
    if not recipe.makes_anomalies and (textures or foreground is not None):
        raise ValueError(
            f"textures and foreground are for the synthetic anomalies of rd-expert only, the "
            f"method is {recipe.method}: leave them out"
        )
    if foreground is None:
        return recipe
    if recipe.foreground not in ("none", "files"):
        raise ValueError(
            f"foreground is {foreground}, and the recipe makes masks by {recipe.foreground}: give "
            f"only one of them"
        )
    return replace(recipe, foreground="files")


def _started(
    recipe: Recipe, run: Path, old: Checkpoint | None, start: Checkpoint | None
) -> tuple[str, list[str]]:
    """What a run started from, see ``Checkpoint.started_from``, and the images held out before.

    Raises ``CheckpointError`` if the run is another one, or cannot start so.
    """
    if old is not None:
        check_same_recipe(old, recipe, run)
    if start is None:
        return (old.started_from, old.held_out) if old and old.started_from else ("", [])
    check_start(start, recipe)
    if old is not None:
        check_same_start(old, start, run)
    return start.network_sha256(), start.held_out


def _precision(recipe: Recipe, old: Checkpoint | None, device: torch.device) -> str:
    return training_precision(recipe, device) if old is None else resumed_precision(old, device)


def _objective(
    network: ReverseDistillation,
    features: TeacherFeatures,
    recipe: Recipe,
    textures: Frames,
    masks: Masks | None,
) -> Distillation | ExpertDistillation:
    if not recipe.makes_anomalies:
        return Distillation(network, features)
    images = features.dataset
    maker = anomaly_maker(recipe, images, images.frames, textures, masks)
    data = AnomalyDataset(images, maker, recipe.seed)
    return ExpertDistillation(network, features, data, recipe.frozen_statistics)


def _device(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise TrainingError(
            f"device is {name}, and torch {torch.__version__} finds no CUDA GPU: train on the CPU "
            f"(device='cpu', --device cpu), or install a CUDA build of torch and NVIDIA's driver"
        )
    return torch.device(name)
