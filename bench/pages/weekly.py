"""Tables of docs/measured/weekly.md."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rdx_fast.bench.pages.rows import Row, markdown, measured, rows_of

COMMAND = "PYTHONPATH=tests python -m support.weekly_loop FOLDER"


def _loop(rows: Sequence[Row]) -> str:
    """The bundles on the frozen set, by their own limits."""
    row = _newest(rows)
    first, *_ = row["weeks"]
    of_first = first["frozen"]["auroc"]["old"], "-"
    lines = [("the first", row["first_images"], 0, *of_first, *_counts(first["frozen"], "old"))]
    for number, week in enumerate(row["weeks"], 1):
        auroc = week["frozen"]["auroc"]
        difference = f"{100 * auroc['difference']:+.1f} ({100 * auroc['low']:+.1f} to "
        difference += f"{100 * auroc['high']:+.1f})"
        lines.append(
            (
                f"after week {number}",
                week["images"],
                week["confirmed_good_trained_on"],
                auroc["new"],
                difference,
                *_counts(week["frozen"], "new"),
            )
        )
    lines = [(*line[:3], f"{100 * line[3]:.1f}", *line[4:]) for line in lines]
    header = (
        *("bundle", "trained on images", "of these confirmed on the page", "image AUROC"),
        *("difference to the one before (95%)", "false rejects", "good to REVIEW"),
        *("escapes", "defective to REVIEW"),
    )
    return markdown(header, lines) + measured(row, COMMAND)


def _counts(of: Mapping[str, Any], which: str) -> tuple[str, ...]:
    counts, good, bad = of[which], of["good"], of["bad"]
    return (
        f"{counts['false_rejects']} of {good}",
        f"{counts['good_reviews']} of {good}",
        f"{counts['escapes']} of {bad}",
        f"{counts['bad_reviews']} of {bad}",
    )


def _streams(rows: Sequence[Row]) -> str:
    """What the station said in each week, and what people said of it."""
    row = _newest(rows)
    lines = []
    for number, week in enumerate(row["weeks"], 1):
        told = ", ".join(f"{count} {name}" for name, count in sorted(week["results"].items()))
        labels = ", ".join(f"{count} by {user}" for user, count in week["labels"].items())
        again = f"{week['again_rejected']} of {week['labelled']['good']}"
        lines.append((number, told, week["sampled"], labels, again))
    header = (
        *("week", "results", "in the random sample", "labels"),
        "confirmed good parts that the new bundle does not pass",
    )
    return markdown(header, lines) + measured(row, COMMAND)


def _times(rows: Sequence[Row]) -> str:
    row = _newest(rows)
    steps = [(name, f"{seconds:.0f}") for name, seconds in row["seconds"].items()]
    lines = [*steps, ("all", f"{row['total_s']:.0f}")]
    return markdown(("step", "s"), lines) + measured(row, COMMAND)


def _newest(rows: Sequence[Row]) -> Row:
    return rows_of(rows, "weekly loop", lambda row: True)[-1]


TABLES: dict[str, Callable[[Sequence[Row]], str]] = {
    "weekly-loop": _loop,
    "weekly-streams": _streams,
    "weekly-times": _times,
}
