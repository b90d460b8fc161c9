"""Tables of docs/measured/precision.md and docs/how-to/evaluate.md."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from rdx_fast.bench.pages.rows import (
    CPUS,
    Row,
    markdown,
    measured,
    milliseconds,
    newest,
    newest_run,
)
from rdx_fast.bench.precision_table import HEADER, precision_lines
from rdx_fast.bench.result_rows import spread_text


def _precisions(rows: Sequence[Row], cpu: str) -> str:
    found = newest_run(rows, "precisions", cpu)
    command = "python -m rdx_fast.bench.precisions BUNDLE... DATASET"
    return markdown(HEADER, precision_lines(found)) + measured(found[0], command)


def _instructions(rows: Sequence[Row]) -> str:
    found = newest_run(rows, "instructions")
    lines = [
        (
            row["backbone"],
            row["instructions"],
            row["executed"],
            milliseconds(row["p50_ms"]),
            spread_text(row["times_fp32"]),
        )
        for row in found
    ]
    header = ("backbone", "newest instructions", "executed", "network ms", "time relative to fp32")
    command = "python -m rdx_fast.bench.instructions BUNDLE..."
    return markdown(header, lines) + measured(found[0], command)


def _evaluation(rows: Sequence[Row]) -> str:
    found = newest(rows, "evaluation", "backbone", "precision", "images")
    lines = []
    for row in found:
        steps = ("check", "figures", "comparison")
        shares = (f"{row['of_scoring'][step][1]:.0%}" for step in steps)
        network = f"{row['backbone']} {row['precision']}"
        memory = (f"{row[f'bytes_per_{kind}']:g}" for kind in ("pixel", "defective_pixel"))
        lines.append((network, row["images"], *shares, *memory))
    header = (
        "network",
        "images",
        "check / scoring",
        "figures / scoring",
        "comparison / scoring",
        "bytes for each map pixel",
        "and each defective one",
    )
    command = "python -m rdx_fast.bench.evaluation BUNDLE DATASET --images COUNT"
    return markdown(header, lines) + measured(found[-1], command)


TABLES: dict[str, Callable[[Sequence[Row]], str]] = {
    **{f"precisions-{cpu}": partial(_precisions, cpu=cpu) for cpu in CPUS},
    "instructions": _instructions,
    "evaluation": _evaluation,
}
