"""The command ``train``: trains a network on images of good parts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rdx_fast.cli.common import (
    BackboneName,
    Crop,
    Device,
    Epochs,
    Foreground,
    ImageSize,
    InjectionName,
    Iterations,
    Levels,
    MethodName,
    Minutes,
    Overlap,
    PixelFormat,
    TextureColors,
    TextureCuts,
    Textures,
    Tile,
    Weights,
    category_given,
    foreground_given,
    list_given,
    make_recipe,
    need_torch,
    notes,
    tiles_given,
    with_length,
)
from rdx_fast.cli.estimate import Estimate
from rdx_fast.cli.progress import show_training
from rdx_fast.datasets import find_dataset

if TYPE_CHECKING:
    from rdx_fast.training import Progress


def train(
    good: Annotated[Path, typer.Argument(help="Folder of images of good parts.")],
    run: Annotated[Path, typer.Argument(help="Run folder to write the checkpoint to.")],
    method: Annotated[
        MethodName, typer.Option(help="Training method: RD4AD, or RD with Expert.")
    ] = "rd4ad",
    backbone: Annotated[
        BackboneName, typer.Option(help="Teacher network. efficientnet_lite0 is meant for CPUs.")
    ] = "wide_resnet50_2",
    weights: Weights = None,
    injection: Annotated[
        InjectionName,
        typer.Option(help="rd-expert: how teacher features are injected into the student."),
    ] = "guided",
    textures: Textures = None,
    texture_cuts: TextureCuts = False,
    texture_colors: TextureColors = False,
    foreground: Foreground = None,
    image_size: ImageSize = (256, 256),
    crop: Crop = None,
    pixel_format: PixelFormat = None,
    levels: Levels = None,
    tile: Tile = None,
    overlap: Overlap = 0,
    epochs: Epochs = None,
    iterations: Iterations = None,
    batch: Annotated[int, typer.Option(min=1, help="Images in a training batch.")] = 16,
    learning_rate: Annotated[
        float, typer.Option(help="Learning rate of student and bottleneck.")
    ] = 0.005,
    teacher_learning_rate: Annotated[
        float, typer.Option(help="rd-expert: learning rate of the teacher.")
    ] = 0.0001,
    betas: Annotated[tuple[float, float], typer.Option(help="Adam's betas.")] = (0.5, 0.999),
    seed: Annotated[int, typer.Option(min=0, help="Seed of all random numbers.")] = 111,
    holdout: Annotated[
        float, typer.Option(help="Share of the images held out of training, for the threshold.")
    ] = 0.0,
    device: Device = "auto",
    amp: Annotated[
        bool, typer.Option(help="Mixed precision where the device computes it faster.")
    ] = True,
    resume: Annotated[bool, typer.Option("--resume", help="Continue from the checkpoint.")] = False,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Leave out images and textures that cannot be used.")
    ] = False,
    max_minutes: Minutes = None,
    checkpoint_every: Annotated[int, typer.Option(min=1, help="Epochs between checkpoints.")] = 5,
    feature_memory_gb: Annotated[
        float,
        typer.Option(min=0, help="Memory (GB) to cache the teacher's features if they fit."),
    ] = 4.0,
    image_memory_gb: Annotated[
        float,
        typer.Option(min=0, help="Memory (GB) for decoded images and textures that fit."),
    ] = 2.0,
    workers: Annotated[
        int | None,
        typer.Option(min=0, help="Processes that load data. Default: chosen automatically."),
    ] = None,
) -> None:
    """Train a network on images of good parts (RD4AD, the published recipe by default).

    For CPUs: --backbone efficientnet_lite0 --image-size 128 128.
    """
    training = need_torch("training")
    from rdx_fast.training.checkpoint import FILE as CHECKPOINT

    category = category_given(good)
    segmentation, masks = foreground_given(foreground, category)
    recipe = make_recipe(
        method=method,
        backbone=backbone,
        injection=injection,
        image_size=image_size,
        epochs=epochs,
        iterations=iterations,
        batch=batch,
        learning_rate=learning_rate,
        teacher_learning_rate=teacher_learning_rate,
        betas=betas,
        seed=seed,
        amp=amp,
        holdout=holdout,
        texture_cuts=texture_cuts,
        texture_colors=texture_colors,
        foreground=segmentation,
        pixel_format=pixel_format,
        crop=crop,
        levels=levels,
        tiles=tiles_given(tile, overlap),
    )
    recipe = with_length(recipe, category)
    if textures and not recipe.makes_anomalies:
        raise typer.BadParameter(
            f"--textures is for synthetic anomalies, which {method} does not make: leave it out, "
            f"or use --method rd-expert"
        )
    if not holdout:
        notes.print(
            "no image is held out: export will need --good FOLDER, images of good parts that were "
            "not trained on (or train with --holdout 0.2)",
            highlight=False,
        )
    if resume and not (run / CHECKPOINT).exists():
        notes.print(f"{run} holds no checkpoint yet: training starts from the beginning")
    with show_training(max_minutes) as shown:
        estimate = Estimate(recipe, category, max_minutes, shown.say)

        def on_step(step: Progress) -> None:
            shown(step)
            estimate(step)

        checkpoint = training.train(
            recipe,
            find_dataset(good).train(),
            run,
            weights=weights,
            textures=list_given(textures),
            foreground=masks,
            device=device,
            resume=resume,
            skip_bad=skip_bad,
            max_minutes=max_minutes,
            checkpoint_every=checkpoint_every,
            feature_memory_gb=feature_memory_gb,
            image_memory_gb=image_memory_gb,
            workers=workers,
            on_stage=shown.say,
            on_step=on_step,
        )
        if shown.last is not None and not checkpoint.finished:
            estimate.stopped(shown.last)
    if shown.last is not None:
        terms = ", ".join(f"{term} {loss:.4f}" for term, loss in shown.last.losses.items())
        notes.print(
            f"last batch's loss: {terms}; {shown.last.waiting:.1%} of the time was spent waiting "
            f"for data"
        )
    if checkpoint.finished:
        if shown.last is None:
            notes.print(f"nothing to train: {run} holds as many batches as were asked for, or more")
        good_parts = "" if checkpoint.held_out else " --good FOLDER"
        notes.print(
            f"trained {checkpoint.step} batches ({_epochs(checkpoint.epoch)}) of "
            f"{checkpoint.image_count} images; next:  "
            f"rdx-fast export {run} part.rdx{good_parts}"
        )
    else:
        notes.print(
            f"stopped at the time limit after {checkpoint.step} of {checkpoint.total_steps} "
            f"batches ({_epochs(checkpoint.epoch)}); the same command with --resume continues"
        )


def _epochs(count: int) -> str:
    return "1 whole epoch" if count == 1 else f"{count} whole epochs"
