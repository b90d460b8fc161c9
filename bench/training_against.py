"""Time of a training step relative to that of another checkout of the project, as rows for
``bench/results``: ``python -m rdx_fast.bench.training_against --help``.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

import rdx_fast
from rdx_fast.bench.result_rows import append, facts
from rdx_fast.bench.step_times import step_times_of
from rdx_fast.bench.training import (
    BackboneKey,
    Images,
    Method,
    Output,
    Size,
    Steps,
    Textures,
    Threads,
    Weights,
)
from rdx_fast.cpu import has_fast_bf16
from rdx_fast.datasets import find_dataset
from rdx_fast.images import list_images
from rdx_fast.training import Recipe


def main(
    dataset: Images,
    checkout: Annotated[Path, typer.Argument(help="Root folder of the other checkout.")],
    output: Output = None,
    method: Method = "rd4ad",
    backbone: BackboneKey = "efficientnet_lite0",
    weights: Weights = None,
    textures: Textures = None,
    image_size: Size = (128, 128),
    steps: Steps = 12,
    rounds: Annotated[int, typer.Option(min=1, help="Runs of each checkout.")] = 3,
    threads: Threads = 1,
) -> None:
    """Time the steps of this checkout in each precision of this CPU, and the other's, in turn.

    The other one trains by its defaults. Each run is a process of its own, whose CPU time is
    measured; the processes that load data are not part of it.
    """
    if not (checkout / "rdx_fast").is_dir():
        raise typer.BadParameter(f"{checkout} holds no package rdx_fast: give a checkout's root")
    images = find_dataset(dataset).train()
    recipe = {"method": method, "backbone": backbone, "image_size": image_size, "iterations": steps}
    options: dict[str, Any] = {} if weights is None else {"weights": weights}
    if Recipe(method=method).makes_anomalies:
        options |= {"textures": list_images(textures) if textures else [], "workers": 1}
    own = Path(rdx_fast.__file__).parents[1]
    runs = {"other": (checkout, recipe), "fp32": (own, recipe | {"amp": False})}
    if has_fast_bf16():
        runs["bf16"] = (own, recipe)
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, (root, chosen) in runs.items():
            times = step_times_of(root, chosen, images, options, threads)
            seconds[name].append(float(np.median(times)))
    command = ["git", "-C", str(checkout), "describe", "--always", "--dirty"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    common = facts("training-against", ("torch", "numpy"))
    rows = []
    for precision in list(runs)[1:]:
        ratios = np.array(seconds[precision]) / np.array(seconds["other"])
        rows.append(
            common
            | {
                "against": done.stdout.strip() or "unknown",
                "method": method,
                "backbone": backbone,
                "image_size": list(image_size),
                "threads": threads,
                "precision": precision,
                "seconds": round(float(np.median(seconds[precision])), 4),
                "seconds_against": round(float(np.median(seconds["other"])), 4),
                "ratio": [round(float(v), 3) for v in np.percentile(ratios, (0, 50, 100))],
            }
        )
        print(rows[-1])
    if output is not None:
        append(output, rows)


if __name__ == "__main__":
    typer.run(main)
