"""The table printed by ``bench.precisions`` and shown in docs/measured/precision.md."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rdx_fast.bench.result_rows import spread_text

HEADER = (
    "network",
    "executed",
    "MB",
    "p50 ms",
    "time relative to fp32",
    "largest score shift",
    "mean score shift",
    "verdicts that differ",
    "image AUROC",
    "pixel AUROC",
    "AUPRO",
    "checked by",
)


def precision_lines(rows: Sequence[dict[str, Any]]) -> list[tuple[str, ...]]:
    """A line of ``HEADER`` for each row."""
    return [
        (
            f"{row['backbone']}, stored as {row['stored']}",
            row["executed"],
            f"{row['file_mb']:.1f}",
            "not on this CPU" if row["p50_ms"] is None else f"{row['p50_ms']:.1f}",
            "-" if row["times_fp32"] is None else spread_text(row["times_fp32"]),
            f"{row['score_shift_largest']:.2%}",
            f"{row['score_shift_mean']:.2%}",
            f"{row['verdicts_that_differ']} of {row['images']}",
            *(_percent(row[name]) for name in ("image_auroc", "pixel_auroc", "aupro")),
            row["checked_by"],
        )
        for row in rows
    ]


def _percent(rate: float | None) -> str:
    """A rate in percent without the sign; "-" for figures that need masks, in a set without."""
    return "-" if rate is None else f"{100 * rate:.2f}"
