"""Training a job's network further, from the weights of its bundle, with confirmed good parts."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from pathlib import Path

from rdx_fast.datasets import find_dataset
from rdx_fast.durable import sync_directory, try_locked
from rdx_fast.images import list_images
from rdx_fast.retraining.confirmed import RetrainError
from rdx_fast.retraining.origin import RETRAINED, retrained_folder
from rdx_fast.station.hmi_config import RetrainConfig
from rdx_fast.training.checkpoint import FILE, Checkpoint, load_checkpoint, save_checkpoint
from rdx_fast.training.inputs import training_inputs
from rdx_fast.training.recipe import Recipe
from rdx_fast.training.resume import OtherRunError
from rdx_fast.training.trainer import Progress, train

ITERATIONS = 200
RATE_SHARE = 0.2  # of the learning rate that the run began with
MOST_REPEATS = 4
_UNFINISHED = "unfinished"


def original_images(config: RetrainConfig, start: Checkpoint) -> list[Path]:
    """The images that the run was trained on: those of its folder but what it held out.

    Raises:
        DatasetError: the folder holds no images
        RetrainError: the folder lacks images that the run held out
    """
    images = find_dataset(config.good).train()
    held_out = {Path(path).name for path in start.held_out}
    if missing := held_out - {path.name for path in images}:
        raise RetrainError(
            f"{config.good} lacks {len(missing)} images that the run held out of training, such as "
            f"{min(missing)}: name the folder that it was trained with ([retrain.JOB] good)"
        )
    return [path for path in images if path.name not in held_out]


def told_of_originals(config: RetrainConfig, start: Checkpoint) -> list[str]:
    """What is to be known where the images are not those that the run was trained on.

    Args:
        config: of the job
        start: the checkpoint to train further, of the run or of a retraining

    Raises:
        CheckpointError: the run cannot be read
        DatasetError: images, textures or masks cannot be used
    """
    run = load_checkpoint(config.run) if start.started_from else start
    if not run.images:
        return [f"{config.run} does not state which images it was trained on, as it was imported"]
    found = training_inputs(
        run.recipe,
        find_dataset(config.good).train(),
        _textures(config),
        config.foreground,
        skip_bad=True,
        on_stage=lambda stage: None,
    )
    if found.fingerprint == run.images:
        return []
    return [
        f"{config.good} does not hold what {config.run} was trained on: images were changed, added "
        f"or removed since, or it is another folder (or textures or masks are others)"
    ]


def _textures(config: RetrainConfig) -> list[Path]:
    return [] if config.textures is None else list_images(config.textures)


def repeats_of_confirmed(originals: int, confirmed: int) -> int:
    """How often each confirmed part is shown for each time that an original image is.

    So often that they are about a third of what is shown, at most ``MOST_REPEATS`` times: a few
    among many images are hardly learned.
    """
    return min(MOST_REPEATS, math.ceil(originals / (2 * confirmed)))


def further_recipe(
    start: Checkpoint, iterations: int | None = None, learning_rate: float | None = None
) -> Recipe:
    """A run's recipe for training further: another length, and smaller steps.

    Args:
        start: checkpoint of a run, or of a retraining
        iterations: batches; None for ``ITERATIONS``
        learning_rate: of student and bottleneck; None for ``RATE_SHARE`` of the run's, and for a
            retraining's own. The teacher's is changed by the same factor
    """
    was = start.recipe
    factor = 1.0 if start.started_from else RATE_SHARE
    if learning_rate is not None:
        factor = learning_rate / was.learning_rate
    return replace(
        was,
        epochs=None,
        iterations=iterations or ITERATIONS,
        learning_rate=was.learning_rate * factor,
        teacher_learning_rate=was.teacher_learning_rate * factor,
        holdout=0.0,  # what was held out stays so
    )


def train_further(
    start: Checkpoint,
    recipe: Recipe,
    images: Sequence[Path],
    inspections: Collection[int],
    config: RetrainConfig,
    *,
    device: str = "auto",
    max_minutes: float | None = None,
    on_stage: Callable[[str], None] = lambda stage: None,
    on_step: Callable[[Progress], None] = lambda progress: None,
) -> Checkpoint:
    """Train from a checkpoint's weights, and keep the new checkpoint in the run's folder.

    A training that was interrupted goes on if it is called again with the same images and recipe;
    with others it is deleted, and begins again.

    Args:
        start: the checkpoint
        recipe: see ``further_recipe``
        images: to train on
        inspections: of the line's parts among them; the checkpoint lists them after those of the
            one it started from
        config: of the job
        device: see ``train``
        max_minutes: end the training after this time; None for no limit
        on_stage: see ``train``
        on_step: see ``train``

    Raises:
        RetrainError: another process is training the same run further
        TrainingError: see ``train``
        DatasetError: likewise
        CheckpointError: likewise
    """
    unfinished = config.run / RETRAINED / _UNFINISHED
    unfinished.parent.mkdir(exist_ok=True)

    def trained(resume: bool) -> Checkpoint:
        return train(
            recipe,
            images,
            unfinished,
            start=start,
            textures=_textures(config),
            foreground=config.foreground,
            device=device,
            resume=resume,
            max_minutes=max_minutes,
            on_stage=on_stage,
            on_step=on_step,
        )

    with try_locked(unfinished.parent) as held:
        if not held:
            raise RetrainError(f"{config.run} is being trained further by another process: wait")
        try:
            found = trained(resume=(unfinished / FILE).exists())
        except OtherRunError as error:
            on_stage(f"an interrupted retraining is given up: {error}")
            shutil.rmtree(unfinished, ignore_errors=True)
            found = trained(resume=False)
        seen = sorted({*start.inspections, *inspections})
        found = replace(found, inspections=seen)
        save_checkpoint(found, unfinished)
        unfinished.rename(retrained_folder(config.run, found))
        sync_directory(unfinished.parent)
    return found
