"""From how many batches on RD with Expert is better than RD4AD after the same time of training:
``python -m rdx_fast.bench.break_even``, from rows of ``convergence``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import takewhile
from math import inf, nan
from pathlib import Path
from statistics import median
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from rdx_fast.bench.pages import RESULTS
from rdx_fast.bench.pages.rows import Row, read_rows, rows_of

BASELINE = "lite0 rd4ad"
VARIANTS = ("lite0 rd-expert", "lite0 rd-expert grabcut")
FIGURES = ("image_auroc", "pixel_auroc", "aupro")


def margins(
    rows: Sequence[Row], dataset: str, variant: str, figures: Sequence[str] = FIGURES
) -> dict[int, float]:
    """By how much a variant is better than the baseline after the same time of training.

    Args:
        rows: rows of ``convergence``
        dataset: name of the data set
        variant: name of the recipe
        figures: figures to take the mean of

    Returns:
        By number of batches: the mean of the figures over the seeds, minus the baseline's at that
        time. Between two rows of the baseline its mean is interpolated; before its first and after
        its last, it is that row's. Seeds without rows of the baseline are left out.
    """
    curves, paces = [], []
    for name in (BASELINE, variant):
        of = [row for row in rows if row["bench"] == "convergence" and row["name"] == name]
        curves.append(_curves([row for row in of if row["dataset"] == dataset], figures))
        paces.append(_pace(of))
    found: dict[int, list[float]] = {}
    for seed in curves[0].keys() & curves[1].keys():
        known = curves[0][seed]
        for step, mean in curves[1][seed].items():
            same_time = step * paces[1] / paces[0]
            other = np.interp(same_time, list(known), list(known.values()))
            found.setdefault(step, []).append(mean - float(other))
    return {step: float(np.mean(found[step])) for step in sorted(found)}


def _curves(rows: Sequence[Row], figures: Sequence[str]) -> dict[int, dict[int, float]]:
    """By seed and number of batches, the mean of the figures."""
    found: dict[int, dict[int, float]] = {}
    for row in sorted(rows, key=lambda row: row["step"]):
        mean = float(np.mean([row["figures"][figure] for figure in figures]))
        found.setdefault(row["seed"], {})[row["step"]] = mean
    return found


def _pace(rows: Sequence[Row]) -> float:
    """Minutes of a batch: the median, for other programs slow some of the runs down."""
    last: dict[tuple[str, int], int] = {}
    paces = []
    for row in sorted(rows, key=lambda row: row["step"]):
        run = (row["dataset"], row["seed"])
        # A row's minutes are those since the row before.
        paces.append(row["minutes"] / (row["step"] - last.get(run, 0)))
        last[run] = row["step"]
    return median(paces) if paces else nan


def better_from(found: Mapping[int, float]) -> float:
    """The smallest number of batches from which on all margins are above 0; infinite for none."""
    return min(takewhile(lambda step: found[step] > 0, sorted(found, reverse=True)), default=inf)


def least_steps(rows: Sequence[Row]) -> float:
    """The number of batches from which on, on each data set, one of the variants is better.

    Infinite where no recorded number is enough.
    """
    return max(
        min(better_from(margins(rows, dataset, variant)) for variant in VARIANTS)
        for dataset in datasets(rows)
    )


def datasets(rows: Sequence[Row]) -> list[str]:
    """The data sets with rows of the baseline. Raises ``ValueError`` where there are none."""
    found = rows_of(rows, "convergence", lambda row: row["name"] == BASELINE)
    return sorted({row["dataset"] for row in found})


def main(
    results: Annotated[Path, typer.Argument(help="Folder with the rows of convergence.")] = RESULTS,
) -> None:
    """Print by how much RD with Expert is better after the same time, in percentage points."""
    rows = read_rows(results)
    for dataset in datasets(rows):
        for variant in VARIANTS:
            table = Table("batches", "mean", *FIGURES, title=f"{dataset}: {variant}")
            columns = [
                margins(rows, dataset, variant, figures)
                for figures in (FIGURES, *((figure,) for figure in FIGURES))
            ]
            for step in columns[0]:
                table.add_row(str(step), *(f"{100 * column[step]:+.2f}" for column in columns))
            if columns[0]:
                Console().print(table)
    print(f"better than {BASELINE} on each data set from {least_steps(rows)} batches on")


if __name__ == "__main__":
    typer.run(main)
