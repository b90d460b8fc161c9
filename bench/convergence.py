"""Accuracy of a recipe over the batches of its training, as rows for ``bench/results``:
``python -m rdx_fast.bench.convergence --help``.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from rdx_fast.bench.pages.training import ON_CPU, ON_GPU
from rdx_fast.bench.result_rows import append, facts
from rdx_fast.datasets import find_dataset
from rdx_fast.detector import Detector
from rdx_fast.evaluation import Figures, evaluate_scored, score_set
from rdx_fast.evaluation.experiment import FIGURES
from rdx_fast.export import export_bundle
from rdx_fast.images import list_images
from rdx_fast.training import Recipe, train


def main(
    dataset: Annotated[Path, typer.Argument(help="Category folder with a test set.")],
    runs: Annotated[Path, typer.Argument(help="Folder for runs and bundles.")],
    output: Annotated[Path, typer.Option(help="JSON lines to append to.")],
    steps: Annotated[list[int], typer.Option(help="Batches after which to evaluate; repeat it.")],
    name: Annotated[str, typer.Option(help="Name of the recipe in the rows.")],
    recipe: Annotated[str, typer.Option(help="Fields of Recipe as a JSON object.")] = "{}",
    seeds: Annotated[int, typer.Option(min=1, help="Runs, each with its own seed.")] = 3,
    first_seed: Annotated[int, typer.Option(min=0, help="First seed.")] = 111,
    weights: Annotated[Path | None, typer.Option(help="The teacher's weights.")] = None,
    textures: Annotated[Path | None, typer.Option(help="Folder of texture images.")] = None,
    threads: Annotated[int, typer.Option(min=1, help="Threads of torch.")] = 1,
    workers: Annotated[int | None, typer.Option(min=0, help="Processes that load data.")] = None,
    device: Annotated[str, typer.Option(help="To train on: cpu, cuda or cuda:N.")] = "cpu",
) -> None:
    """Train a recipe, and evaluate it after each number of batches, with several seeds.

    A row that is in ``output`` already is not measured again: an interrupted command goes on where
    it was. Resuming a run changes nothing about it. A name stands for one recipe.
    """
    torch.set_num_threads(threads)
    fields = json.loads(recipe)
    fields["image_size"] = tuple(fields.get("image_size", (256, 256)))
    images, test = find_dataset(dataset).train(), find_dataset(dataset).test()
    found = list_images(textures) if textures else []
    for seed in range(first_seed, first_seed + seeds):
        base = Recipe(seed=seed, **fields)
        run = runs / f"{dataset.name}-{name}-seed{seed}"
        for step in sorted(steps):
            key = {"dataset": dataset.name, "name": name, "seed": seed, "step": step}
            measured = _measured(output, key)
            if measured is not None:
                _check_same(measured, base, len(found) if base.makes_anomalies else 0)
                continue
            started = time.monotonic()
            checkpoint = train(
                replace(base, iterations=step),
                images,
                run,
                weights=weights,
                textures=found if base.makes_anomalies else (),
                device=device,
                resume=True,
                checkpoint_every=10_000,
                workers=workers,
            )
            minutes = (time.monotonic() - started) / 60
            export_bundle(
                checkpoint, images, run / "part.rdx", precision="fp32", name=name, overwrite=True
            )
            with Detector(run / "part.rdx") as detector:
                figures = evaluate_scored(score_set(detector, test), by_type=False).overall
            row = facts(
                ON_CPU if device == "cpu" else ON_GPU,
                ("torch", "openvino", "numpy", "scikit-learn"),
            ) | {
                **key,
                **({} if device == "cpu" else {"trained_on": torch.cuda.get_device_name(device)}),
                "recipe": asdict(checkpoint.recipe),
                "trained_in": checkpoint.precision,
                "textures": len(found) if base.makes_anomalies else 0,
                "weights": checkpoint.teacher_weights,
                "minutes": round(minutes, 2),
                "losses": _last(checkpoint.losses, checkpoint.partial_losses),
                "figures": asdict(figures),
            }
            append(output, [row])
            print(f"{key}: {_told(figures)}, {minutes:.1f} min", flush=True)


def _told(figures: Figures) -> str:
    """What the figures are; a set without masks has none of its maps."""
    values = {name: getattr(figures, name) for name in FIGURES}
    return ", ".join(f"{name} {value:.4f}" for name, value in values.items() if value is not None)


def _measured(output: Path, key: dict[str, Any]) -> dict[str, Any] | None:
    if not output.is_file():
        return None
    rows = map(json.loads, output.read_text().splitlines())
    return next((row for row in rows if key.items() <= row.items()), None)


def _check_same(row: dict[str, Any], recipe: Recipe, textures: int) -> None:
    """Refuse a name that stands for another recipe in the rows."""
    now = json.loads(json.dumps(asdict(recipe))) | {"textures": textures}
    was = row["recipe"] | {"textures": row["textures"]}
    changed = [
        f"{key}: {was[key]} before, {now[key]} now"
        for key in was.keys() & now.keys() - {"iterations"}
        if was[key] != now[key]
    ]
    if changed:
        raise typer.BadParameter(
            f"{row['name']!r} is another recipe in the rows: {'; '.join(sorted(changed))}. Choose "
            f"another name"
        )


def _last(losses: dict[str, list[float]], partial: dict[str, list[float]]) -> Any:
    """By term, the mean loss of the last finished epoch, or of the batches so far."""
    return {
        term: losses[term][-1] if losses.get(term) else sum(part) / len(part)
        for term, part in partial.items()
    }


if __name__ == "__main__":
    typer.run(main)
