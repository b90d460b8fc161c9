"""The demo with other recipes, as rows for ``bench/results``:
``python -m rdx_fast.bench.cells --help``.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import torch
import typer

from rdx_fast.bench.result_rows import append, facts
from rdx_fast.evaluation.demo import run_demo
from rdx_fast.training import Progress, Recipe, load_checkpoint


def main(
    runs: Annotated[Path, typer.Argument(help="Folder for what each demo writes.")],
    output: Annotated[Path, typer.Option(help="JSON lines to append to.")],
    name: Annotated[str, typer.Option(help="Name of the recipe in the rows.")],
    recipe: Annotated[str, typer.Option(help="Fields of Recipe as a JSON object.")],
    seeds: Annotated[int, typer.Option(min=1, help="Demos, each with its own seed.")] = 3,
    first_seed: Annotated[int, typer.Option(min=0, help="First seed.")] = 0,
    threads: Annotated[int, typer.Option(min=1, help="Threads of torch.")] = 1,
) -> None:
    """Run the demo with a recipe and several seeds, which also draw its cells.

    ``training_cpu_s`` is the processor time until the last step: where other programs use the
    machine, it says more than the duration.
    """
    torch.set_num_threads(threads)
    fields = json.loads(recipe)
    fields["image_size"] = tuple(fields.get("image_size", (256, 256)))
    for seed in range(first_seed, first_seed + seeds):
        folder = runs / f"{name}-seed{seed}"
        if folder.exists():
            raise typer.BadParameter(f"{folder} exists: remove it, or choose another folder")
        started = trained = time.process_time()

        def on_step(progress: Progress) -> None:
            nonlocal trained
            trained = time.process_time()

        result = run_demo(folder, Recipe(seed=seed, **fields), on_step=on_step)
        checkpoint = load_checkpoint(folder / "run")
        row = facts("cells", ("torch", "openvino", "numpy", "scikit-learn")) | {
            "name": name,
            "seed": seed,
            "recipe": asdict(checkpoint.recipe),
            "trained_in": checkpoint.precision,
            "training_cpu_s": round(trained - started, 1),
            "image_auroc": round(result.image_auroc, 4),
            "false_rejects": result.false_rejects,
            "escapes": result.escapes,
        }
        append(output, [row])
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    typer.run(main)
