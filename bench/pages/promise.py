"""The table of docs/explanation/promise.md."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rdx_fast.bench.pages.rows import Row, markdown, measured, newest_run


def _promise(rows: Sequence[Row]) -> str:
    found = newest_run(rows, "promise")
    lines = [
        (
            row["regions"],
            row["good_images"],
            f"{row['rate']:.1%}",
            f"{row['promised']:.2%}",
            f"{row['realised']:.2%} +- {row['standard_error']:.2%}",
            f"{row['in_90_percent_of_splits_at_most']:.1%}",
        )
        for row in found
    ]
    header = (
        "regions",
        "calibration images",
        "asked for",
        "promised",
        "realised, mean and its standard error",
        "in nine of ten calibrations at most",
    )
    return markdown(header, lines) + measured(
        found[0], "python -m rdx_fast.bench.promise BUNDLE --output bench/results/promise.jsonl"
    )


TABLES: dict[str, Callable[[Sequence[Row]], str]] = {"promise": _promise}
