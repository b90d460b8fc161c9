"""Comparison of two runs of ``bench/suite.py``:
``python -m rdx_fast.bench.compare_suites OLD NEW``.

Absolute times measured on different days are hardly comparable. Each round is divided by the time
of a reference operation, the yardstick, that ran directly before it. The table shows the ratio of
the medians, new to old, and its spread when rounds are resampled.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from rdx_fast.bench.result_rows import spread, spread_text

RESAMPLES = 2000


class Change(NamedTuple):
    """Change of one benchmark.

    Attributes:
        name: of the benchmark
        ratio: of the medians, new to old: 10th, 50th and 90th percentile
        raw: ratio without the yardstick
    """

    name: str
    ratio: list[float]
    raw: float

    @property
    def verdict(self) -> str:
        low, _, high = self.ratio
        if low > 1:
            return "slower"
        return "faster" if high < 1 else "same"


def changes(old: dict[str, Any], new: dict[str, Any], seed: int = 0) -> list[Change]:
    """Compare the benchmarks that both runs contain.

    Args:
        old: JSON of pytest-benchmark
        new: likewise
        seed: of the resampling

    Raises:
        ValueError: the runs have no benchmark in common
    """
    before, after = _rounds(old), _rounds(new)
    rng = np.random.default_rng(seed)
    found = []
    for name in before.keys() & after.keys():
        (times, yardstick), (newer, newer_yardstick) = before[name], after[name]
        medians = [_medians(times / yardstick, rng), _medians(newer / newer_yardstick, rng)]
        raw = float(np.median(newer) / np.median(times))
        found.append(Change(name, spread(medians[1] / medians[0], 3), round(raw, 3)))
    if not found:
        raise ValueError("the two runs have no benchmark in common")
    return sorted(found)


def _rounds(run: dict[str, Any]) -> dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]:
    return {
        b["fullname"].partition("::")[2]: (
            np.array(b["stats"]["data"]),
            np.array(b["extra_info"]["yardstick"]),
        )
        for b in run["benchmarks"]
    }


def _medians(rounds: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    chosen = rng.integers(0, len(rounds), (RESAMPLES, len(rounds)))
    return np.asarray(np.median(rounds[chosen], axis=1))


def main(
    old: Annotated[Path, typer.Argument(help="JSON of pytest-benchmark, such as the baseline.")],
    new: Annotated[Path, typer.Argument(help="JSON of the run to compare with it.")],
    fail_above: Annotated[
        float | None,
        typer.Option(help="Exit with code 1 if the 10th percentile of a ratio is above this."),
    ] = None,
) -> None:
    """Compare two runs by their ratios and the spread of these."""
    runs = [json.loads(file.read_text(encoding="utf-8")) for file in (old, new)]
    found = changes(*runs)
    cpus = [run["machine_info"]["cpu"].get("brand_raw", "unknown CPU") for run in runs]
    table = Table(title=f"{cpus[1]}, against {cpus[0]}")
    for column in ("benchmark", "ratio to old", "without yardstick", ""):
        table.add_column(column)
    for change in found:
        cells = (change.name, spread_text(change.ratio), str(change.raw), change.verdict)
        table.add_row(*cells)
    Console(width=120).print(table)
    if fail_above is not None and any(change.ratio[0] > fail_above for change in found):
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
