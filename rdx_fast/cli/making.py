"""Commands that make a bundle: ``train``, ``import``, ``export``, ``preview``, ``demo``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from rdx_fast import tables
from rdx_fast.cli.common import (
    BackboneName,
    Device,
    Epochs,
    Foreground,
    ImageSize,
    InjectionName,
    Iterations,
    MethodName,
    Minutes,
    Textures,
    Weights,
    data,
    list_given,
    make_recipe,
    need_torch,
    notes,
)
from rdx_fast.cli.planning import Capability, plan_bundle
from rdx_fast.cli.progress import show_stages, show_training
from rdx_fast.datasets import find_dataset
from rdx_fast.errors import DatasetError
from rdx_fast.images import list_images

if TYPE_CHECKING:
    from rdx_fast.training import Checkpoint


# Share of verdicts that a precision may change before export says so.
_MANY = 0.02


def train(
    good: Annotated[Path, typer.Argument(help="Folder of images of good parts.")],
    run: Annotated[Path, typer.Argument(help="Folder for the checkpoint.")],
    method: Annotated[MethodName, typer.Option(help="RD4AD, or RD with Expert.")] = "rd4ad",
    backbone: Annotated[
        BackboneName, typer.Option(help="Teacher network; efficientnet_lite0 is made for CPUs.")
    ] = "wide_resnet50_2",
    weights: Weights = None,
    injection: Annotated[
        InjectionName, typer.Option(help="rd-expert: how teacher detail reaches the student.")
    ] = "guided",
    textures: Textures = None,
    foreground: Foreground = None,
    image_size: ImageSize = (256, 256),
    epochs: Epochs = None,
    iterations: Iterations = None,
    batch: Annotated[int, typer.Option(min=1)] = 16,
    learning_rate: Annotated[float, typer.Option(help="Of student and bottleneck.")] = 0.005,
    teacher_learning_rate: Annotated[float, typer.Option(help="rd-expert.")] = 0.0001,
    betas: Annotated[tuple[float, float], typer.Option(help="Adam's betas.")] = (0.5, 0.999),
    seed: Annotated[int, typer.Option(min=0)] = 111,
    holdout: Annotated[
        float, typer.Option(help="Share of the images kept from training, for the threshold.")
    ] = 0.0,
    device: Device = "auto",
    amp: Annotated[bool, typer.Option(help="Mixed precision (CUDA only).")] = True,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint.")] = False,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Leave bad images out.")] = False,
    max_minutes: Minutes = None,
    checkpoint_every: Annotated[int, typer.Option(min=1, help="Epochs between checkpoints.")] = 5,
    feature_memory_gb: Annotated[
        float, typer.Option(min=0, help="Memory for the teacher's features, kept while they fit.")
    ] = 4.0,
    workers: Annotated[
        int | None, typer.Option(min=0, help="Processes that load data beside the training.")
    ] = None,
) -> None:
    """Train a network on images of good parts (RD4AD, the published recipe by default)."""
    training = need_torch("training")
    from rdx_fast.training.checkpoint import FILE as CHECKPOINT

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
    )
    if not recipe.makes_anomalies and (textures or foreground):
        raise typer.BadParameter(
            f"--textures and --foreground are for synthetic anomalies, which {method} does not make"
        )
    if resume and not (run / CHECKPOINT).exists():
        notes.print(f"{run} holds no checkpoint yet: training starts from the beginning")
    with show_training(max_minutes) as on_step:
        checkpoint = training.train(
            recipe,
            find_dataset(good).train(),
            run,
            weights=weights,
            textures=list_given(textures),
            foreground=foreground,
            device=device,
            resume=resume,
            skip_bad=skip_bad,
            max_minutes=max_minutes,
            checkpoint_every=checkpoint_every,
            feature_memory_gb=feature_memory_gb,
            workers=workers,
            on_step=on_step,
        )
    if on_step.last is not None:
        terms = ", ".join(f"{term} {loss:.4f}" for term, loss in on_step.last.losses.items())
        notes.print(
            f"last batch's loss: {terms}; {on_step.last.waiting:.1%} of the time was spent waiting "
            f"for data"
        )
    if checkpoint.finished:
        notes.print(
            f"trained {checkpoint.step} batches ({_epochs(checkpoint.epoch)}) of "
            f"{checkpoint.image_count} images; next:  "
            f"rdx-fast export {run} part.rdx"
        )
    else:
        notes.print(
            f"time is up after {checkpoint.step} of {checkpoint.total_steps} batches "
            f"({_epochs(checkpoint.epoch)}); the same command with --resume goes on from here"
        )


def _epochs(count: int) -> str:
    return "1 whole epoch" if count == 1 else f"{count} whole epochs"


def import_published(
    files: Annotated[
        list[Path],
        typer.Argument(help="Checkpoint, and for rd4ad the file of its encoder, .pth."),
    ],
    run: Annotated[Path, typer.Argument(help="Folder for the checkpoint, for 'export'.")],
    method: Annotated[MethodName, typer.Option(help="What was trained.")] = "rd4ad",
    backbone: Annotated[BackboneName, typer.Option()] = "wide_resnet50_2",
    injection: Annotated[
        InjectionName, typer.Option(help="rd-expert: as it was trained; the authors' script: plain")
    ] = "guided",
    image_size: ImageSize = (256, 256),
) -> None:
    """Take over a checkpoint of the published RD4AD or RD-with-Expert code."""
    training = need_torch("import")
    recipe = make_recipe(
        method=method, backbone=backbone, injection=injection, image_size=image_size
    )
    training.import_published(recipe, files, run)
    notes.print(f"imported; next:  rdx-fast export {run} part.rdx --good FOLDER")


def preview(
    good: Annotated[Path, typer.Argument(help="Folder of images of good parts.")],
    picture: Annotated[Path, typer.Argument(help="Picture to write, .png.")],
    textures: Textures = None,
    foreground: Foreground = None,
    image_size: ImageSize = (256, 256),
    count: Annotated[int, typer.Option(min=1, help="Parts to show.")] = 8,
    seed: Annotated[int, typer.Option(min=0)] = 0,
) -> None:
    """Show the synthetic anomalies that rd-expert would be trained with."""
    need_torch("the preview")
    from rdx_fast.training.gallery import save_gallery

    save_gallery(
        picture,
        find_dataset(good).train(),
        list_given(textures),
        foreground,
        image_size,
        count,
        seed,
    )
    notes.print(f"wrote {picture}: good part, synthetic anomaly, mask")


def export(
    run: Annotated[Path, typer.Argument(help="Folder that 'train' wrote.")],
    bundle: Annotated[Path, typer.Argument(help="Bundle to write, such as part.rdx.")],
    good: Annotated[
        Path | None,
        typer.Option(help="Good images that were not trained on; else the run's held-out ones."),
    ] = None,
    precision: Annotated[
        Literal["auto", "fp32", "fp16", "bf16", "int8"],
        typer.Option(
            help="auto: all networks that some machine runs fastest; one alone is smaller."
        ),
    ] = "auto",
    fusion: Annotated[Literal["add", "mul"], typer.Option(help="How scales are fused.")] = "add",
    sigma: Annotated[float, typer.Option(min=0.1, help="Gaussian, in pixels of the map.")] = 4.0,
    false_rejects: Annotated[
        float, typer.Option(min=1e-6, max=0.999, help="Share of good parts that may be rejected.")
    ] = 0.02,
    check_images: Annotated[int, typer.Option(min=1, help="Images of the final check.")] = 16,
    name: Annotated[str | None, typer.Option(help="Name kept in the bundle.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the bundle.")] = False,
    tensorrt: Annotated[
        bool, typer.Option("--tensorrt", help="Also build what a GPU needs, as 'plan' does.")
    ] = False,
    compute_capability: Capability = None,
) -> None:
    """Write an engine bundle: networks, thresholds, and checks against the trained network."""
    training = need_torch("export")
    from rdx_fast.export import export_bundle

    if compute_capability is not None and not tensorrt:
        raise typer.BadParameter("--compute-capability is for --tensorrt")

    checkpoint = training.load_checkpoint(run)
    if 4 * sigma > max(checkpoint.recipe.image_size):
        raise typer.BadParameter(
            f"--sigma is {sigma:g}: the Gaussian reaches 4 of them, beyond the network's input"
        )
    images = list_images(good) if good is not None else _held_out(checkpoint)
    with show_stages("export", "reading images") as on_stage:
        written = export_bundle(
            checkpoint,
            images,
            bundle,
            precision=precision,
            fusion=fusion,
            sigma=sigma,
            false_reject_rate=false_rejects,
            check_images=check_images,
            name=name,
            overwrite=overwrite,
            on_stage=on_stage,
        )
    data.print(tables.manifest_table(written.manifest))
    data.print(tables.executions_table(written.manifest))
    for left in written.manifest.left_out:
        notes.print(f"note: {left.label} is not in the bundle: {left.reason}", markup=False)
    for e in written.manifest.executions:
        differ = e.check.verdicts_that_differ
        if differ is not None and differ > _MANY * e.check.images:
            notes.print(
                f"note: {e.label} changes {differ} of {e.check.images} verdicts of good images; "
                f"compare it on defective ones:  python -m rdx_fast.bench.precisions {bundle} "
                f"DATASET",
                markup=False,
            )
    threshold = written.manifest.executions[0].threshold
    if threshold.expected_false_reject_rate > threshold.false_reject_rate:
        notes.print(
            f"note: {threshold.good_images} good images promise no less than "
            f"{threshold.expected_false_reject_rate:.1%} false rejects; for "
            f"{threshold.false_reject_rate:.1%} give at least "
            f"{round(1 / threshold.false_reject_rate) - 1}"
        )
    if tensorrt:
        plan_bundle(written, compute_capability)


def demo(
    output: Annotated[Path, typer.Option(help="Folder for everything the demo writes.")] = Path(
        "demo"
    ),
    epochs: Annotated[int, typer.Option(min=1)] = 12,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    max_minutes: Minutes = 2.5,
) -> None:
    """Train, export and score on photographs of solar cells (three minutes on two cores)."""
    need_torch("the demo", "demo")
    from rdx_fast.demo import run_demo

    with show_training(max_minutes) as on_step:
        result = run_demo(
            output,
            epochs=epochs,
            seed=seed,
            max_minutes=max_minutes,
            on_stage=on_step.stage,
            on_step=on_step,
        )
    data.print(tables.demo_table(result))


def _held_out(checkpoint: Checkpoint) -> list[Path]:
    """The images that training kept apart; an error if there are none."""
    if not checkpoint.held_out:
        raise DatasetError(
            "export needs good images for the threshold and the check, and this run held none "
            "out: give --good FOLDER (not the training images: their scores are too low), or "
            "train with --holdout 0.1"
        )
    paths = [Path(name) for name in checkpoint.held_out]
    if gone := [path for path in paths if not path.is_file()]:
        raise DatasetError(
            f"{len(gone)} of the run's held-out images are gone, {gone[0]} first: give "
            f"--good FOLDER"
        )
    return paths
