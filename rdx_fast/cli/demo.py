"""The command ``demo``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rdx_fast import tables
from rdx_fast.cli.common import Minutes, data, need_torch
from rdx_fast.cli.progress import show_training

if TYPE_CHECKING:
    pass


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
