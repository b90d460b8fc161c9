"""From how many batches on RD with Expert is better than RD4AD after the same time of training:
``python -m rdx_fast.bench.break_even``, from rows of ``convergence``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import takewhile
from math import inf
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from rdx_fast.bench.pages import RESULTS
from rdx_fast.bench.pages.rows import Row, read_rows, rows_of
from rdx_fast.bench.pages.training import by_setting

BASELINE = "lite0 rd4ad"
VARIANTS = ("lite0 rd-expert", "lite0 rd-expert grabcut")
FIGURES = ("image_auroc", "pixel_auroc", "aupro")


def margins(
    rows: Sequence[Row], dataset: str, variant: str, figures: Sequence[str] = FIGURES
) -> dict[int, float]:
    """By how much a variant is better than the baseline after the same time of training.

    Args:
        rows: rows of ``convergence``, and of ``training``, which have the time of a batch
        dataset: name of the data set
        variant: name of the recipe
        figures: figures to take the mean of

    Returns:
        By number of batches: the mean of the figures over the seeds, minus the baseline's at that
        time. Between two rows of the baseline its mean is interpolated; before its first and after
        its last, it is that row's. Seeds without rows of the baseline are left out.

    Raises:
        ValueError: there are no rows of ``training`` with the time of a batch, or those of the
            methods were measured on different machines
    """
    settings = by_setting(rows)
    baseline, ours = (
        {step: runs for (on, of, step), runs in settings.items() if (on, of) == (dataset, name)}
        for name in (BASELINE, variant)
    )
    found: dict[int, list[float]] = {}
    for step, runs in sorted(ours.items()):
        for seed, row in runs.items():
            known = {at: of[seed] for at, of in sorted(baseline.items()) if seed in of}
            if known:
                same_time = step * _pace(rows, row, next(iter(known.values())))
                other = np.interp(
                    same_time, list(known), [_mean(r, figures) for r in known.values()]
                )
                found.setdefault(step, []).append(_mean(row, figures) - float(other))
    return {step: float(np.mean(values)) for step, values in found.items()}


def _mean(row: Row, figures: Sequence[str]) -> float:
    return float(np.mean([row["figures"][figure] for figure in figures]))


def _pace(rows: Sequence[Row], ours: Row, baseline: Row) -> float:
    """How many batches of the baseline take as long as one of ours."""
    own, other = _timed(rows, ours), _timed(rows, baseline)
    for fact in ("cpu_features", "threads"):
        if own[fact] != other[fact]:
            raise ValueError(
                f"the times of a batch are of different machines, {fact} {own[fact]} and "
                f"{other[fact]}: time both methods on one (python -m rdx_fast.bench.training)"
            )
    return float(own["seconds"]) / float(other["seconds"])


def _timed(rows: Sequence[Row], row: Row) -> Row:
    """The newest row with the CPU time of a batch of a row's recipe, without that of the processes
    that load data."""
    recipe = row["recipe"]
    wanted = {
        "method": recipe["method"],
        "backbone": recipe["backbone"],
        "image_size": list(recipe["image_size"]),
        "batch": recipe["batch"],
        "precision": row["trained_in"],
    }
    return rows_of(rows, "training", lambda r: wanted.items() <= r.items())[-1]


def better_from(found: Mapping[int, float]) -> float:
    """The smallest number of batches from which on all margins are above 0; infinite for none."""
    return min(takewhile(lambda step: found[step] > 0, sorted(found, reverse=True)), default=inf)


def least_steps(rows: Sequence[Row]) -> dict[str, float]:
    """From how many batches on one of the variants is better, by data set.

    Infinite where no recorded number is enough. Raises ``ValueError`` where there are no rows of
    the baseline.
    """
    return {
        dataset: min(better_from(margins(rows, dataset, variant)) for variant in VARIANTS)
        for dataset in datasets(rows)
    }


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
    for dataset, least in least_steps(rows).items():
        enough = "with no recorded length" if least == inf else f"from {least} batches on"
        print(f"{dataset}: better than {BASELINE} {enough}")


if __name__ == "__main__":
    typer.run(main)
