"""The command ``evaluate``: evaluates bundles on a test set."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from rdx_fast.bundle.bundle import open_bundle
from rdx_fast.cli import evaluation_tables as tables
from rdx_fast.cli.common import (
    Backend,
    Crop,
    Executed,
    JsonFlag,
    Levels,
    PixelFormat,
    SkipBad,
    Threads,
    data,
    notes,
)
from rdx_fast.cli.progress import show_images, show_plan
from rdx_fast.datasets import find_dataset
from rdx_fast.detector import Detector
from rdx_fast.engines import open_engine
from rdx_fast.preprocess import FrameOptions
from rdx_fast.recipe.recipe import InspectionRecipe
from rdx_fast.recipe.tiling import largest_tiles


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
    levels: Levels = None,
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
    opened = [open_bundle(path) for path in bundles]
    options = _frame_options([one.manifest.recipe for one in opened], pixel_format, crop, levels)
    images = find_dataset(dataset).test()
    with show_images("checking") as on_image:
        checked = evaluation.check_images(images, skip_bad, on_image, **options._asdict())
    scored = []
    for bundle in opened:
        with show_plan() as on_progress:
            engine = open_engine(
                bundle, backend, threads, on_progress=on_progress, precision=precision
            )
        with Detector(engine, check_frames=False) as detector, show_images("scoring") as on_image:
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


def _frame_options(
    recipes: Sequence[InspectionRecipe],
    pixel_format: str | None,
    crop: tuple[int, int, int, int] | None,
    levels: tuple[int, int] | None,
) -> FrameOptions:
    """How the test images are read for all bundles; their tiles may differ."""
    try:
        found = [FrameOptions.of_recipe(of, pixel_format, crop, levels) for of in recipes]
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    ways = {options._replace(tiles=None) for options in found}
    if len(ways) > 1:
        raise typer.BadParameter(
            "the recipes of the bundles differ in pixel format, crop or levels, and there is one "
            "test set: give what a recipe does not state as an option, or compare others"
        )
    return ways.pop()._replace(tiles=largest_tiles(options.tiles for options in found))
