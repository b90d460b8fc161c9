"""The command ``report``: writes a report on a test set as one HTML file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rdx_fast.bundle.bundle import open_bundle
from rdx_fast.cli.common import (
    Backend,
    BundlePath,
    Crop,
    Executed,
    Levels,
    PixelFormat,
    SkipBad,
    Threads,
    notes,
)
from rdx_fast.cli.progress import show_images, show_plan
from rdx_fast.datasets import find_dataset
from rdx_fast.detector import Detector
from rdx_fast.preprocess import FrameOptions


def report(
    bundle: BundlePath,
    dataset: Annotated[
        Path, typer.Argument(help="Category folder of a data set, with a test set.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="HTML file to write.")] = Path(
        "report.html"
    ),
    gallery: Annotated[
        int, typer.Option(min=0, help="Images with pictures in each gallery; 0 for none.")
    ] = 6,
    picture: Annotated[
        int, typer.Option(min=32, max=2048, help="Longer side of each picture, in pixels.")
    ] = 256,
    backend: Backend = "auto",
    threads: Threads = None,
    precision: Executed = None,
    skip_bad: SkipBad = False,
    crop: Crop = None,
    pixel_format: PixelFormat = None,
    levels: Levels = None,
) -> None:
    """Score a test set and write a report: one HTML file that needs no network.

    It shows what escapes and what is falsely rejected, with pictures, and what would change at
    other limits.
    """
    from rdx_fast import evaluation
    from rdx_fast.report import make_report, render, write_page

    if output.is_dir():
        raise typer.BadParameter(f"--output is {output}, a folder: give the name of a file")
    images = find_dataset(dataset, need_defects=False).test()
    recipe = open_bundle(bundle).manifest.recipe
    try:
        options = FrameOptions.of_recipe(recipe, pixel_format, crop, levels)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    with show_images("checking") as on_image:
        checked = evaluation.check_images(images, skip_bad, on_image, **options._asdict())
    with show_plan() as on_progress:
        detector = Detector(
            bundle,
            backend,
            threads,
            precision=precision,
            on_progress=on_progress,
            check_frames=False,
        )
    with detector:
        detector.warmup()
        with show_images("scoring") as on_image:
            scored = evaluation.score_checked(detector, checked, on_image)
        with show_images("pictures") as on_image:
            made = make_report(
                detector,
                checked,
                scored,
                dataset,
                gallery=gallery,
                picture=picture,
                on_image=on_image,
            )
    write_page(render(made), output)
    notes.print(f"wrote {output}, {output.stat().st_size / 1e6:.1f} MB", markup=False)
