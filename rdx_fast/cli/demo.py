"""The command ``demo``: trains, exports and scores on images of solar cells."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from rdx_fast.cli import tables
from rdx_fast.cli.common import Minutes, data, make_recipe, need_torch
from rdx_fast.cli.progress import show_training

if TYPE_CHECKING:
    from rdx_fast.evaluation.demo import DemoResult


def demo(
    output: Annotated[Path, typer.Option(help="Folder for everything the demo writes.")] = Path(
        "demo"
    ),
    epochs: Annotated[int, typer.Option(min=1, help="Epochs of training.")] = 24,
    seed: Annotated[
        int, typer.Option(min=0, help="Seed of the training and of the choice of cells.")
    ] = 0,
    max_minutes: Minutes = 2.5,
) -> None:
    """Train, export and score on images of solar cells (about two minutes on two cores)."""
    need_torch("the demo", "demo")
    from rdx_fast.evaluation.demo import run_demo

    recipe = make_recipe(
        backbone="efficientnet_lite0", image_size=(128, 128), epochs=epochs, seed=seed
    )
    with show_training(max_minutes) as on_step:
        result = run_demo(
            output,
            recipe,
            max_minutes=max_minutes,
            on_stage=on_step.stage,
            on_step=on_step,
        )
    data.print(_demo_table(result))


def _demo_table(result: DemoResult) -> Table:
    """The results of the demo."""
    good, bad = result.good, result.defective
    rows = [
        ("image AUROC", f"{result.image_auroc:.4f}"),
        ("threshold", f"{result.threshold:.4f}"),
        ("false rejects", f"{result.false_rejects} of {good} good cells"),
        ("escapes", f"{result.escapes} of {bad} defective cells"),
        ("latency p50", f"{result.latency_ms['p50']:.1f} ms a frame"),
        ("latency p99", f"{result.latency_ms['p99']:.1f} ms a frame"),
        ("engine bundle", str(result.bundle)),
        ("heat-map overlays", str(result.overlays)),
    ]
    return tables.pairs_table("Demo", rows)
