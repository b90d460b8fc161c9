"""Cost of a recipe's regions and tiles for a frame that needs neither, as rows for
``bench/results``: ``python -m rdx_fast.bench.recipe_cost --help``.

The frame has the network's size. It is scored without a recipe and under recipes, in turn.
"""

from __future__ import annotations

from pathlib import Path
from time import perf_counter
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from rdx_fast.bench.measure import drawn_frame
from rdx_fast.bench.recipes import (
    Backbone,
    Backend,
    GivenBundle,
    Threads,
    measured_bundle,
    row_facts,
    under,
)
from rdx_fast.bench.result_rows import append, spread, spread_text
from rdx_fast.detector import Detector
from rdx_fast.limits.limits import Limits
from rdx_fast.recipe.recipe import FrameSpec, InspectionRecipe, RegionSpec
from rdx_fast.recipe.tiling import TileSpec


def recipes(height: int, width: int) -> dict[str, InspectionRecipe]:
    """What is compared, by name: of frames of this size."""
    frame = FrameSpec(height, width)

    def rectangle(name: str, top: float, left: float, size: float) -> RegionSpec:
        corners = ((left, top), (left + size, top), (left + size, top + size), (left, top + size))
        return RegionSpec(name, polygon=tuple((x * width, y * height) for x, y in corners))

    quarters = [rectangle(f"{y} {x}", y / 2, x / 2, 0.45) for y in (0, 1) for x in (0, 1)]
    return {
        "whole frame": InspectionRecipe(),
        "one region": InspectionRecipe(frame, (rectangle("part", 0.1, 0.1, 0.8),)),
        "four regions": InspectionRecipe(frame, tuple(quarters)),
        "tiles": InspectionRecipe(frame, tiles=TileSpec(height, width)),
    }


def measure(path: Path, backend: str, threads: int | None, rounds: int) -> list[dict[str, Any]]:
    """Score one frame under each recipe in turn.

    Returns:
        A row for each recipe: ``ms`` is the median of a call, ``ratio`` that of the call's time to
        that of the whole frame in the same round, as percentiles over the rounds (see ``spread``).
    """
    with Detector(path, backend, threads) as plain:
        spec, limit = plain.manifest.input, plain.threshold
        frame = drawn_frame(spec.height, spec.width)
        detectors = []
        compared = recipes(spec.height, spec.width)
        for recipe in compared.values():
            limits = [Limits.single(limit, name) for name in recipe.inspected]
            detectors.append(under(recipe, plain.engine, limits=limits))
        times = np.empty((rounds, len(detectors)))
        for detector in detectors:
            detector.warmup()
        for number in range(rounds):
            for i in np.random.default_rng(number).permutation(len(detectors)):
                begin = perf_counter()
                detectors[i].score(frame, maps=False)
                times[number, i] = 1e3 * (perf_counter() - begin)
        about = row_facts("recipe-cost", backend, plain, threads, rounds)
    return [
        about
        | {
            "recipe": name,
            "ms": round(float(np.median(times[:, i])), 3),
            "ratio": spread(times[:, i] / times[:, 0], 3),
        }
        for i, name in enumerate(compared)
    ]


def main(
    bundle: GivenBundle = None,
    backbone: Backbone = "efficientnet_lite0",
    backend: Backend = "openvino",
    threads: Threads = 2,
    rounds: Annotated[int, typer.Option(min=1)] = 300,
    output: Annotated[Path | None, typer.Option(help="JSON lines to append to.")] = None,
) -> None:
    """Time one frame without a recipe, with regions and with tiles."""
    with measured_bundle(bundle, backbone, backend) as path:
        rows = measure(path, backend, threads if backend == "openvino" else None, rounds)
    table = Table("recipe", "ms", "ratio", title=f"{rows[0]['cpu']}; {rows[0]['engine']}")
    for row in rows:
        table.add_row(row["recipe"], f"{row['ms']:.2f}", spread_text(row["ratio"]))
    Console(width=120).print(table)
    if output is not None:
        append(output, rows)


if __name__ == "__main__":
    typer.run(main)
