"""The command ``score``: scores image files."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from rdx_fast.cli.common import (
    Backend,
    BundlePath,
    Crop,
    Executed,
    JsonFlag,
    Levels,
    PixelFormat,
    Threads,
    notes,
)
from rdx_fast.cli.progress import show_plan
from rdx_fast.detector import Detector
from rdx_fast.scoring import RowWriter, find_files, score_files


def score(
    bundle: BundlePath,
    inputs: Annotated[list[str], typer.Argument(help="Image files, folders or glob patterns.")],
    output: Annotated[
        Path | None,
        typer.Option(help="File to write, .csv or .jsonl. Default: CSV to standard output."),
    ] = None,
    json_lines: JsonFlag = False,
    overlays: Annotated[Path | None, typer.Option(help="Folder for heat-map overlays.")] = None,
    defects: Annotated[
        bool,
        typer.Option(
            "--defects",
            help="List the defects of each image: area, peak, box (top, left, height, width) and "
            "centroid (y, x) in pixels, and in millimetres if the recipe states the scale. JSON "
            "only.",
        ),
    ] = False,
    crop: Crop = None,
    pixel_format: PixelFormat = None,
    levels: Levels = None,
    backend: Backend = "auto",
    threads: Threads = None,
    precision: Executed = None,
) -> None:
    """Score images and write one row for each.

    Exits with code 1 if an image could not be scored.
    """
    if output is not None and output.suffix not in (".csv", ".jsonl"):
        raise typer.BadParameter(f"--output is {output}: rows are written as .csv or .jsonl")
    as_json = json_lines or (output is not None and output.suffix == ".jsonl")
    if defects and not as_json:
        raise typer.BadParameter("--defects is for rows in JSON: give --json, or a .jsonl --output")
    files = find_files(inputs)
    counts = dict.fromkeys(("OK", "REVIEW", "NG", "ERROR"), 0)
    with show_plan() as on_progress:
        detector = Detector(bundle, backend, threads, precision=precision, on_progress=on_progress)
    with detector:
        if output is None:
            stream = sys.stdout
        else:
            output.parent.mkdir(parents=True, exist_ok=True)
            stream = output.open("w", encoding="utf-8", newline="")
        try:
            detector.warmup()
            writer = RowWriter(stream, as_json)
            rows = score_files(detector, files, overlays, pixel_format, crop, levels, defects)
            for row in rows:
                writer.write(row)
                counts[row.verdict] += 1
                if row.error is not None:
                    notes.print(f"{row.path}: {row.error}", style="red", markup=False)
        finally:
            if output is not None:
                stream.close()
    notes.print(", ".join(f"{count} {verdict}" for verdict, count in counts.items()))
    if counts["ERROR"]:
        raise typer.Exit(1)
