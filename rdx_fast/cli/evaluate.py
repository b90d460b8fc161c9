"""The command ``evaluate``: evaluates bundles on a test set."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from rdx_fast.cli import evaluation_tables as tables
from rdx_fast.cli.common import (
    Backend,
    Crop,
    Executed,
    JsonFlag,
    Overlap,
    PixelFormat,
    SkipBad,
    Threads,
    Tile,
    data,
    notes,
    tiles_given,
)
from rdx_fast.cli.progress import show_images, show_plan
from rdx_fast.datasets import find_dataset
from rdx_fast.detector import Detector


def evaluate(
    bundles: Annotated[
        list[Path], typer.Argument(help="Engine bundle; two or more with --compare.")
    ],
    dataset: Annotated[
        Path, typer.Argument(help="Category folder of a data set, with a test set.")
    ],
    compare: Annotated[
        bool,
        typer.Option(
            "--compare",
            help="Compare bundles; differences to the first have paired bootstrap intervals.",
        ),
    ] = False,
    as_json: JsonFlag = False,
    backend: Backend = "auto",
    threads: Threads = None,
    precision: Executed = None,
    skip_bad: SkipBad = False,
    crop: Crop = None,
    pixel_format: PixelFormat = None,
    tile: Tile = None,
    overlap: Overlap = 0,
) -> None:
    """Score a test set and print AUROC, AP, best F1 and AUPRO, by defect type and overall."""
    from rdx_fast import evaluation

    if (len(bundles) > 1) != compare:
        raise typer.BadParameter(
            "--compare wants two bundles or more, and one is given (bundles first, then the data "
            "set)"
            if compare
            else f"{len(bundles)} bundles given: give one, or compare them with --compare"
        )
    tiles = tiles_given(tile, overlap)
    images = find_dataset(dataset).test()
    with show_images("checking") as on_image:
        checked = evaluation.check_images(images, skip_bad, on_image, pixel_format, crop, tiles)
    scored = []
    for path in bundles:
        with show_plan() as on_progress:
            detector = Detector(
                path, backend, threads, precision=precision, on_progress=on_progress, tiles=tiles
            )
        with detector, show_images("scoring") as on_image:
            scored.append(evaluation.score_checked(detector, checked, on_image))
    results = [evaluation.evaluate_scored(s, by_type=not compare) for s in scored]
    differences = evaluation.compare(*scored) if compare else []
    if not compare:
        if as_json:
            print(json.dumps(results[0].to_dict(), indent=2))
        else:
            data.print(tables.evaluation_table(results[0]))
    elif as_json:
        print(json.dumps(tables.comparison_dict(bundles, results, differences), indent=2))
    else:
        data.print(tables.comparison_table(bundles, results))
        data.print(tables.difference_table(differences))
    if checked.left_out and not as_json:
        data.print(tables.left_out_table(checked.left_out))
    if lost := checked.types_left_out:
        notes.print(f"not evaluated, since no image can be used: {', '.join(lost)}")
