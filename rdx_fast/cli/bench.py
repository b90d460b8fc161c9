"""The command ``bench``: measures the speed of bundles on this machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from rdx_fast.cli.common import Backend, Executed, JsonFlag, Threads, data
from rdx_fast.cli.progress import show_stages


def bench(
    bundles: Annotated[list[Path], typer.Argument(help="Engine bundles, measured alternately.")],
    frame: Annotated[tuple[int, int], typer.Option(help="Height, width of synthetic frames.")] = (
        1024,
        1024,
    ),
    images: Annotated[Path | None, typer.Option(help="Folder of images to score instead.")] = None,
    batch: Annotated[
        list[int] | None, typer.Option(min=1, help="Batch sizes. Default: 1, 4 and 16.")
    ] = None,
    seconds: Annotated[
        float,
        typer.Option(
            min=0.1, help="Seconds of single-frame calls per bundle; batches: a tenth each."
        ),
    ] = 20.0,
    backend: Backend = "auto",
    threads: Threads = None,
    precision: Executed = None,
    as_json: JsonFlag = False,
    plot: Annotated[Path | None, typer.Option(help="Chart to write, .png or .svg.")] = None,
    output: Annotated[
        Path | None, typer.Option(help="JSON Lines file to append the results to.")
    ] = None,
) -> None:
    """Measure latency by stage, frames per second, start-up time and memory.

    Also shows how close they come to the limits of the machine.
    """
    from rdx_fast.bench import report
    from rdx_fast.bench.charts import new_figure
    from rdx_fast.bench.measure import Setting, measure
    from rdx_fast.bench.result_rows import append

    if plot is not None:
        new_figure(1, 1)  # fail now if matplotlib is missing, not after minutes
    setting = Setting(
        frame, images, backend, threads, tuple(batch or (1, 4, 16)), seconds, precision
    )
    with show_stages("bench", "opening") as on_step:
        rows = measure(bundles, setting, on_step)
    if as_json:
        print(json.dumps(rows, indent=2))
    else:
        for row in rows:
            for part in report.tables(row):
                data.print(part, highlight=False)
    if output is not None:
        append(output, rows)
    if plot is not None:
        report.plot(rows, plot)
