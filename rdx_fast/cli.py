"""The command line: ``rdx-fast train | export | score | evaluate | inspect | doctor | demo``."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from rdx_fast import tables
from rdx_fast.bundle import open_bundle
from rdx_fast.detector import Detector
from rdx_fast.errors import DatasetError, MissingDependencyError, RdxError
from rdx_fast.images import list_images
from rdx_fast.scoring import RowWriter, find_files, score_files

if TYPE_CHECKING:
    from rdx_fast.training import Checkpoint
    from rdx_fast.training import Progress as Step

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Visual anomaly detection by reverse distillation: good parts in, verdicts out.",
)
# What was asked for; in a file or pipe nothing is cut to the width of a terminal that is not there.
data = Console(width=None if sys.stdout.isatty() else 120)
notes = Console(stderr=True, soft_wrap=True)  # progress and messages

BundlePath = Annotated[Path, typer.Argument(help="Engine bundle, as 'export' wrote it.")]
Backend = Annotated[Literal["auto", "openvino"], typer.Option(help="What runs the network.")]
Threads = Annotated[int | None, typer.Option(min=1, help="CPU threads; all of them if left out.")]
JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Minutes = Annotated[float | None, typer.Option(min=0, help="Stop training after this long.")]


def main() -> None:
    """Entry point: an error of rdx_fast is one message and exit code 2."""
    try:
        app()
    except (RdxError, OSError) as error:  # OSError: disk full, no permission
        notes.print(f"error: {error}", style="red", markup=False, highlight=False)
        sys.exit(2)


@app.command()
def train(
    good: Annotated[Path, typer.Argument(help="Folder of images of good parts.")],
    run: Annotated[Path, typer.Argument(help="Folder for the checkpoint.")],
    backbone: Annotated[
        Literal["resnet18", "resnet34", "resnet50", "wide_resnet50_2", "efficientnet_lite0"],
        typer.Option(help="Teacher network; efficientnet_lite0 is made for CPUs."),
    ] = "wide_resnet50_2",
    weights: Annotated[
        Path | None,
        typer.Option(help="Teacher weights, .safetensors or .pth; published if left out."),
    ] = None,
    image_size: Annotated[
        tuple[int, int], typer.Option(help="Height and width of the network's input.")
    ] = (256, 256),
    epochs: Annotated[int, typer.Option(min=1)] = 200,
    batch: Annotated[int, typer.Option(min=1)] = 16,
    learning_rate: Annotated[float, typer.Option()] = 0.005,
    betas: Annotated[tuple[float, float], typer.Option(help="Adam's betas.")] = (0.5, 0.999),
    seed: Annotated[int, typer.Option(min=0)] = 111,
    holdout: Annotated[
        float, typer.Option(help="Share of the images kept from training, for the threshold.")
    ] = 0.0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    amp: Annotated[bool, typer.Option(help="Mixed precision (CUDA only).")] = True,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint.")] = False,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Leave bad images out.")] = False,
    max_minutes: Minutes = None,
    checkpoint_every: Annotated[int, typer.Option(min=1, help="Epochs between checkpoints.")] = 5,
    feature_memory_gb: Annotated[
        float, typer.Option(min=0, help="Memory for the teacher's features, kept while they fit.")
    ] = 4.0,
    workers: Annotated[
        int, typer.Option(min=0, help="Processes decoding images where features do not fit.")
    ] = 0,
) -> None:
    """Train a network on images of good parts (RD4AD, the published recipe by default)."""
    training = _need_torch("training")
    from rdx_fast.training.checkpoint import FILE as CHECKPOINT
    from rdx_fast.training.data import good_images

    try:
        recipe = training.Recipe(
            backbone=backbone,
            image_size=image_size,
            epochs=epochs,
            batch=batch,
            learning_rate=learning_rate,
            betas=betas,
            seed=seed,
            amp=amp,
            holdout=holdout,
        )
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    if resume and not (run / CHECKPOINT).exists():
        notes.print(f"{run} holds no checkpoint yet: training starts from the beginning")
    with _training_bar() as on_step:
        checkpoint = training.train(
            recipe,
            good_images(good),
            run,
            weights=weights,
            device=device,
            resume=resume,
            skip_bad=skip_bad,
            max_minutes=max_minutes,
            checkpoint_every=checkpoint_every,
            feature_memory_gb=feature_memory_gb,
            workers=workers,
            on_step=on_step,
        )
    if checkpoint.finished:
        notes.print(f"trained {checkpoint.epoch} epochs; next:  rdx-fast export {run} part.rdx")
    else:
        notes.print(
            f"time is up after {checkpoint.epoch} of {epochs} epochs; the same command with "
            f"--resume goes on from here"
        )


@app.command()
def export(
    run: Annotated[Path, typer.Argument(help="Folder that 'train' wrote.")],
    bundle: Annotated[Path, typer.Argument(help="Bundle to write, such as part.rdx.")],
    good: Annotated[
        Path | None,
        typer.Option(help="Good images that were not trained on; else the run's held-out ones."),
    ] = None,
    precision: Annotated[Literal["fp32", "fp16", "bf16", "int8"], typer.Option()] = "fp32",
    fusion: Annotated[Literal["add", "mul"], typer.Option(help="How scales are fused.")] = "add",
    sigma: Annotated[float, typer.Option(min=0.1, help="Gaussian, in pixels of the map.")] = 4.0,
    false_rejects: Annotated[
        float, typer.Option(min=1e-6, max=0.999, help="Share of good parts that may be rejected.")
    ] = 0.02,
    check_images: Annotated[int, typer.Option(min=1, help="Images of the final check.")] = 16,
    name: Annotated[str | None, typer.Option(help="Name kept in the bundle.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the bundle.")] = False,
) -> None:
    """Write an engine bundle: network, threshold, and a check against the trained network."""
    training = _need_torch("export")
    from rdx_fast.export import export_bundle

    checkpoint = training.load_checkpoint(run)
    images = list_images(good) if good is not None else _held_out(checkpoint)
    with notes.status("reading images") as status:
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
            on_stage=status.update,
        )
    data.print(tables.manifest_table(written.manifest))
    threshold = written.manifest.threshold
    if threshold.expected_false_reject_rate > threshold.false_reject_rate:
        notes.print(
            f"note: {threshold.good_images} good images promise no less than "
            f"{threshold.expected_false_reject_rate:.1%} false rejects; for "
            f"{threshold.false_reject_rate:.1%} give at least "
            f"{round(1 / threshold.false_reject_rate) - 1}"
        )


@app.command()
def score(
    bundle: BundlePath,
    inputs: Annotated[list[str], typer.Argument(help="Files, folders or patterns.")],
    output: Annotated[
        Path | None, typer.Option(help="File for the rows; .jsonl gives JSON lines, else CSV.")
    ] = None,
    json_lines: JsonFlag = False,
    overlays: Annotated[Path | None, typer.Option(help="Folder for heat-map overlays.")] = None,
    backend: Backend = "auto",
    threads: Threads = None,
) -> None:
    """Score images: one row each. Exit code 1 if an image could not be scored."""
    files = find_files(inputs)
    as_json = json_lines or (output is not None and output.suffix == ".jsonl")
    counts = dict.fromkeys(("OK", "NG", "ERROR"), 0)
    with Detector(bundle, backend, threads) as detector:
        if output is None:
            stream = sys.stdout
        else:
            output.parent.mkdir(parents=True, exist_ok=True)
            stream = output.open("w", encoding="utf-8", newline="")
        try:
            detector.warmup()
            writer = RowWriter(stream, as_json)
            for row in score_files(detector, files, overlays):
                writer.write(row)
                counts[row.verdict] += 1
                if row.error is not None:
                    notes.print(f"{row.path}: {row.error}", style="red", markup=False)
        finally:
            if output is not None:
                stream.close()
    notes.print(", ".join(f"{count} {verdict}" for verdict, count in counts.items()))
    if counts["ERROR"]:
        raise typer.Exit(1)


@app.command()
def evaluate(
    bundle: BundlePath,
    dataset: Annotated[Path, typer.Argument(help="Category folder in the MVTec AD layout.")],
    as_json: JsonFlag = False,
    backend: Backend = "auto",
    threads: Threads = None,
) -> None:
    """Score a test set and print AUROC, AP, best F1 and AUPRO, per defect type and in all."""
    from rdx_fast.evaluation import evaluate as run_evaluation

    with Detector(bundle, backend, threads) as detector, _bar("scoring") as progress:
        result = run_evaluation(detector, dataset, progress)
    if as_json:
        print(json.dumps(result.to_dict(), indent=2))
    else:
        data.print(tables.evaluation_table(result))


@app.command()
def inspect(bundle: BundlePath, as_json: JsonFlag = False) -> None:
    """Verify a bundle and print its manifest."""
    manifest = open_bundle(bundle).manifest
    if as_json:
        print(manifest.to_json(), end="")
    else:
        data.print(tables.manifest_table(manifest))


@app.command()
def doctor(as_json: JsonFlag = False) -> None:
    """Say what hardware and which optional parts there are, and how to get the missing ones."""
    from rdx_fast.doctor import examine

    findings = examine()
    if as_json:
        print(json.dumps([asdict(f) for f in findings], indent=2))
    else:
        data.print(tables.doctor_table(findings))


@app.command()
def demo(
    output: Annotated[Path, typer.Option(help="Folder for everything the demo writes.")] = Path(
        "demo"
    ),
    epochs: Annotated[int, typer.Option(min=1)] = 12,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    max_minutes: Minutes = 2.5,
) -> None:
    """Train, export and score on photographs of solar cells (three minutes on two cores)."""
    _need_torch("the demo", "demo")
    from rdx_fast.demo import run_demo

    with _training_bar() as on_step:
        result = run_demo(
            output,
            epochs=epochs,
            seed=seed,
            max_minutes=max_minutes,
            on_stage=notes.print,
            on_step=on_step,
        )
    data.print(tables.demo_table(result))


def _need_torch(purpose: str, extra: str = "train") -> ModuleType:
    """The training package, or an error that says how to get torch."""
    try:
        from rdx_fast import training
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise MissingDependencyError("torch", purpose, extra) from error
    return training


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


@contextmanager
def _training_bar() -> Iterator[Callable[[Step], None]]:
    """A bar over all steps, with the last epoch's loss."""
    with Progress(
        TextColumn("training"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("epoch {task.fields[epoch]}  loss {task.fields[loss]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=notes,
    ) as bar:
        task = bar.add_task("training", total=None, epoch="-", loss="-")

        def on_step(step: Step) -> None:
            loss = step.loss if step.epoch_loss is None else step.epoch_loss
            bar.update(
                task,
                completed=step.step,
                total=step.total_steps,
                epoch=step.epoch + 1,
                loss=f"{loss:.4f}",
            )

        yield on_step


@contextmanager
def _bar(what: str) -> Iterator[Callable[[int, int], None]]:
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=notes) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
