"""Tables on training: accuracy over batches, and the time of a step."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from rdx_fast.bench.pages.rows import Row, markdown, measured, newest, rows_of
from rdx_fast.bench.result_rows import spread_text

FIGURES = {
    "image AUROC": "image_auroc",
    "pixel AUROC": "pixel_auroc",
    "AUPRO": "aupro",
    "pixel AP": "pixel_ap",
}
COMMAND = "python -m rdx_fast.bench.convergence DATASET RUNS --output ROWS --name NAME ..."

Key = tuple[str, str, int]  # dataset, name of the recipe, batches


def by_setting(rows: Sequence[Row]) -> dict[Key, dict[int, Row]]:
    """Rows of ``bench.convergence``, by setting and seed; the newest of each."""
    found: dict[Key, dict[int, Row]] = {}
    for row in rows_of(rows, "convergence", lambda row: True):
        key = (row["dataset"], row["name"], row["step"])
        found.setdefault(key, {})[row["seed"]] = row
    return found


def _over_batches(rows: Sequence[Row]) -> str:
    settings = by_setting(rows)
    lines = []
    for (dataset, name, step), runs in sorted(settings.items()):
        cells = []
        for figure in FIGURES.values():
            values = [100 * row["figures"][figure] for row in runs.values()]
            spread = f" ± {np.std(values, ddof=1):.2f}" if len(values) > 1 else ""
            cells.append(f"{np.mean(values):.2f}{spread}")
        lines.append((dataset, name, step, len(runs), *cells))
    header = ("data set", "recipe", "batches", "seeds", *FIGURES)
    return markdown(header, lines) + measured(_last(settings), COMMAND)


def _step_times(rows: Sequence[Row]) -> str:
    found = newest(rows, "training", "method", "backbone", "image_size", "threads", "precision")
    lines = [
        (
            row["method"],
            row["backbone"],
            " x ".join(map(str, row["image_size"])),
            row["precision"],
            f"{row['seconds']:.2f}",
            spread_text(row["against_fp32"]),
            f"{row['share_of_limit']:.0%}",
        )
        for row in found
    ]
    header = ("method", "backbone", "input", "precision", "s a batch", "relative to fp32", "share")
    command = "python -m rdx_fast.bench.training DATASET --method METHOD --backbone BACKBONE"
    return markdown(header, lines) + measured(found[0], command)


def _last(settings: dict[Key, dict[int, Row]]) -> Row:
    return max((row for runs in settings.values() for row in runs.values()), key=_time)


def _time(row: Row) -> str:
    return str(row["time"])


TABLES: dict[str, Callable[[Sequence[Row]], str]] = {
    "convergence": _over_batches,
    "training-steps": _step_times,
}
