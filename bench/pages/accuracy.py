"""Tables of docs/measured/accuracy.md, docs/measured/precision.md and docs/how-to/evaluate.md."""

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


def _accuracy(rows: Sequence[Row]) -> str:
    found = newest_run(rows, "accuracy")
    names = {
        "image AUROC": "image_auroc",
        "pixel AUROC": "pixel_auroc",
        "AUPRO to 0.3": "aupro",
        "AUPRO, per-image mean": "aupro_per_image_mean",
        "image AP": "image_ap",
        "pixel AP": "pixel_ap",
    }
    lines: list[Sequence[object]] = []
    for label, name in names.items():
        values = [row["figures"][name] for row in found]
        cells = [f"{100 * v:.2f}" for v in values]
        lines.append(
            (
                label,
                *(
                    f"**{c}**" if v == max(values) else c
                    for c, v in zip(cells, values, strict=True)
                ),
            )
        )
    lines.append(("training batches", *(row["training"]["steps"] for row in found)))
    for figure in found[0]["against_first"]:
        cells = [""]
        for row in found[1:]:
            difference, low, high = (100 * v for v in row["against_first"][figure])
            cells.append(f"{difference:+.2f} ({low:+.2f} to {high:+.2f})")
        lines.append((f"{figure} minus the first column's, 95% interval", *cells))
    header = [""]
    for row in found:
        injection = row["training"]["recipe"]["injection"]
        guided = {"rd4ad": "RD4AD", "rd-expert": f"RD with Expert, {injection}"}
        header.append(guided[row["method"]])
    command = "python -m rdx_fast.bench.accuracy BUNDLE... DATASET --output ROWS"
    return markdown(header, lines) + measured(found[0], command)


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
    "accuracy": _accuracy,
    **{f"precisions-{cpu}": partial(_precisions, cpu=cpu) for cpu in CPUS},
    "instructions": _instructions,
    "evaluation": _evaluation,
}
