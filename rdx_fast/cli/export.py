"""The command ``export``: writes an engine bundle from a checkpoint, or a standalone ONNX file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from rdx_fast.bundle.bundle import open_bundle
from rdx_fast.bundle.signature import MANIFEST
from rdx_fast.cli import standalone, tables
from rdx_fast.cli.common import DarkField, SignKey, data, need_torch, notes
from rdx_fast.cli.plan import Capability, plan_bundle
from rdx_fast.cli.progress import show_stages
from rdx_fast.errors import DatasetError
from rdx_fast.images import list_images

if TYPE_CHECKING:
    from rdx_fast.training import Checkpoint


# Share of verdicts that a precision may change without a note of export.
_MANY = 0.02
# Parameters that an existing bundle takes.
_OF_A_BUNDLE = {
    *("run", "precision", "overwrite"),
    *("standalone_file", "frame_size", "pixel_format", "crop", "levels", "batch"),
}


def export(
    context: typer.Context,
    run: Annotated[
        Path,
        typer.Argument(
            help="Run folder, written by 'train'; with --standalone also an existing bundle, which "
            "needs no torch."
        ),
    ],
    bundle: Annotated[
        Path | None,
        typer.Argument(help="Bundle to write, such as part.rdx; none where RUN is a bundle."),
    ] = None,
    good: Annotated[
        Path | None,
        typer.Option(
            help="Folder of good images not used for training, read with the crop, pixel format, "
            "levels and tiles of the run. Default: the run's held-out images."
        ),
    ] = None,
    precision: Annotated[
        Literal["auto", "fp32", "fp16", "bf16", "int8", "fp8"],
        typer.Option(
            help="auto: every network that is fastest on some machine. A single precision makes a "
            "smaller bundle."
        ),
    ] = "auto",
    fusion: Annotated[
        Literal["add", "mul"], typer.Option(help="How the maps of the scales are fused.")
    ] = "add",
    sigma: Annotated[
        float, typer.Option(min=0.1, help="Sigma of the map's Gaussian filter, in map pixels.")
    ] = 4.0,
    false_rejects: Annotated[
        float,
        typer.Option(
            min=1e-6,
            max=0.999,
            help="Share of good parts that may be rejected, which sets the threshold.",
        ),
    ] = 0.02,
    dark_field: DarkField = False,
    check_images: Annotated[
        int, typer.Option(min=1, help="Images of the final check against the trained network.")
    ] = 16,
    name: Annotated[str | None, typer.Option(help="Name stored in the bundle.")] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an existing bundle.")
    ] = False,
    tensorrt: Annotated[
        bool,
        typer.Option(
            "--tensorrt", help="Also build the TensorRT plan and the GPU kernels, like 'plan'."
        ),
    ] = False,
    compute_capability: Capability = None,
    sign_key: SignKey = None,
    standalone_file: standalone.StandaloneFile = None,
    frame_size: standalone.FrameSize = None,
    pixel_format: standalone.FramePixelFormat = None,
    crop: standalone.FrameCrop = None,
    levels: standalone.FrameLevels = None,
    batch: standalone.FrameBatch = 1,
) -> None:
    """Write an engine bundle: networks and thresholds, checked against the trained network."""
    if compute_capability is not None and not tensorrt:
        raise typer.BadParameter("--compute-capability is for --tensorrt: give both, or neither")
    alone = standalone.standalone_options(
        standalone_file, frame_size, pixel_format, crop, levels, precision, batch, overwrite
    )
    if (run / MANIFEST).is_file():
        if alone is None:
            raise typer.BadParameter(
                f"{run} is a bundle already: give a run folder, or --standalone FILE.onnx"
            )
        _check_for_bundle(context)
        standalone.write(open_bundle(run), alone, overwrite)
        return
    if bundle is None:
        raise typer.BadParameter("the bundle to write is missing: rdx-fast export RUN part.rdx")
    training = need_torch("export")
    from rdx_fast.export import export_bundle

    checkpoint = training.load_checkpoint(run)
    standalone.check_frame(alone, checkpoint.recipe.inspection.frame)
    if 4 * sigma > max(checkpoint.recipe.image_size):
        raise typer.BadParameter(
            f"--sigma is {sigma:g}: the Gaussian reaches 4 sigma, beyond the network's input: "
            f"wanted at most {max(checkpoint.recipe.image_size) / 4:g}"
        )
    images = list_images(good) if good is not None else _held_out(checkpoint)
    if not checkpoint.finished and not checkpoint.imported:
        notes.print(
            f"warning: the run was stopped after {checkpoint.step} of {checkpoint.total_steps} "
            f"batches: train on with --resume, or judge this bundle on defective parts (rdx-fast "
            f"evaluate)"
        )
    with show_stages("export", "reading images") as on_stage:
        written = export_bundle(
            checkpoint,
            images,
            bundle,
            precision=precision,
            fusion=fusion,
            sigma=sigma,
            false_reject_rate=false_rejects,
            dark_field=dark_field,
            check_images=check_images,
            name=name,
            overwrite=overwrite,
            sign_key=sign_key,
            on_stage=on_stage,
        )
    data.print(tables.manifest_table(written.manifest))
    data.print(*tables.limits_tables(written.manifest))
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
    rate, promised = threshold.false_reject_rate, threshold.expected_false_reject_rate
    if rate is not None and promised is not None and promised > rate:
        notes.print(
            f"note: {threshold.good_images} good images guarantee only at most "
            f"{promised:.1%} false rejects; for at most "
            f"{rate:.1%} give at least "
            f"{round(1 / rate) - 1} good images"
        )
    if tensorrt:
        plan_bundle(written, compute_capability, sign_key=sign_key)
    if alone is not None:
        standalone.write(written, alone, overwrite)


def _check_for_bundle(context: typer.Context) -> None:
    """Raises ``typer.BadParameter`` if something is given that an existing bundle does not take."""
    others = [
        p.opts[0] if p.opts[0].startswith("-") else p.opts[0].upper()
        for p in context.command.params
        if p.name not in _OF_A_BUNDLE
        and (source := context.get_parameter_source(str(p.name))) is not None
        and source.name == "COMMANDLINE"
    ]
    if others:
        raise typer.BadParameter(
            f"{', '.join(others)} is for the export of a run, and a bundle is given: leave it out"
        )


def _held_out(checkpoint: Checkpoint) -> list[Path]:
    """The run's held-out images. Raises ``DatasetError`` if there are none."""
    if not checkpoint.held_out:
        raise DatasetError(
            "export needs good images for the threshold and the check, and this run has no "
            "held-out images: give --good FOLDER (not the training images: their scores are too "
            "low), or train with --holdout 0.2"
        )
    paths = [Path(name) for name in checkpoint.held_out]
    if gone := [path for path in paths if not path.is_file()]:
        raise DatasetError(
            f"{len(gone)} of the run's held-out images are missing, the first is {gone[0]}: give "
            f"--good FOLDER"
        )
    return paths
