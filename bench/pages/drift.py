"""Tables of docs/explanation/drift.md."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from rdx_fast.bench.pages.rows import Row, markdown, measured, milliseconds, rows_of

COMMAND = "python -m rdx_fast.bench.drift BUNDLE [--frames GOOD --name NAME] --generated"


def _newest(rows: Sequence[Row], step: str, *keys: str) -> list[Row]:
    found = rows_of(rows, "drift", lambda row: row["step"] == step)
    return list({tuple(row.get(key) for key in keys): row for row in found}.values())


def _detection(rows: Sequence[Row]) -> str:
    found = _newest(rows, "detection", "dataset", "change", "strength")
    lines = []
    for row in found:
        shifts = row.get("shifts")
        moved = [f"{of:+.2f}" for of in shifts.values()] if shifts else ["-"] * 3
        rejected = f"{row['rejected']:.0%}" if shifts else "-"
        causes = ", ".join(f"{count} {cause}" for cause, count in row["causes"].items())
        lines.append(
            (
                row["dataset"],
                f"{row['change']}, {row['strength']:g} {row['unit']}",
                *moved,
                rejected,
                f"{row['found']} of {row['runs']}",
                *(row["delay"][p] or "-" for p in ("p50", "p90")),
                causes or "-",
            )
        )
    header = (
        "images",
        "change",
        "score",
        "brightness",
        "sharpness",
        "rejected",
        "found",
        "parts, median",
        "90 %",
        "cause named",
    )
    return markdown(header, lines) + measured(found[-1], COMMAND)


def _false_alarms(rows: Sequence[Row]) -> str:
    found = _newest(rows, "false alarms", "dataset", "kind", "stated", "batch_spread")
    found = [row for row in found if row["kind"] != "batches"]
    lines = []
    for row in found:
        images = row["kind"] == "resampled"
        of = row["dataset"] if images else f"one signal, normal, ranked {row['kind']}"
        lines.append((of, row["stated"], f"{row['runs']} x {row['parts']}", *_rate(row)))
    header = ("values", "stated: one in", "parts", "alarms", "one in", "95 % interval")
    return markdown(header, lines) + measured(found[-1], COMMAND)


def _batches(rows: Sequence[Row]) -> str:
    found = _newest(rows, "false alarms", "dataset", "kind", "stated", "batch_spread")
    found = [row for row in found if row["kind"] == "batches"]
    lines = [(row["dataset"], row["batch_spread"], row["stated"], *_rate(row)) for row in found]
    spread = f"spread of batches of {found[0]['batch']}"
    header = ("images", spread, "stated: one in", "alarms", "one in", "95 % interval")
    return markdown(header, lines) + measured(found[-1], COMMAND)


def _rate(row: dict[str, Any]) -> tuple[str, ...]:
    """Alarms, parts for each, and its interval if alarms are a Poisson process."""
    from scipy.stats import chi2

    alarms, parts = row["alarms"], row["runs"] * row["parts"]
    high = parts / (chi2.ppf(0.025, 2 * alarms) / 2) if alarms else math.inf
    low = parts / (chi2.ppf(0.975, 2 * alarms + 2) / 2)
    return str(alarms), f"{parts / alarms:.0f}" if alarms else "-", f"{low:.0f} to {high:.0f}"


def _bets(rows: Sequence[Row]) -> str:
    found = _newest(rows, "bets", "shift", "scale")
    names = [name for name, of in found[0].items() if isinstance(of, dict) and "p50" in of]
    lines = []
    for row in found:
        what = f"mean moved by {row['shift']:g} spreads"
        if row["scale"] != 1:
            what = f"spread times {row['scale']:g}"
        delays = (" / ".join(str(row[n][p] or "-") for p in ("p50", "p90")) for n in names)
        lines.append((what, *delays))
    return markdown(("change", *names), lines) + measured(found[-1], COMMAND)


def _cost(rows: Sequence[Row]) -> str:
    found = rows_of(rows, "drift-cost", lambda row: True)[-1]
    with_it, without = (found["latency_ms"][name] for name in ("with", "without"))
    frame = " x ".join(map(str, found["frame"]))
    lines = [
        ("monitor of a job with 100,000 values of each signal, us", found["monitor_us"], "-"),
        (f"brightness and sharpness of a frame of {frame}, us", found["look_us"], "-"),
        *(
            (f"trigger to result, {p}, ms", *(milliseconds(of[p]) for of in (with_it, without)))
            for p in ("p50", "p90", "p99")
        ),
    ]
    command = "python -m rdx_fast.bench.drift_cost BUNDLE [--frames GOOD]"
    return markdown(("", "with", "without"), lines) + measured(found, command)


TABLES: dict[str, Callable[[Sequence[Row]], str]] = {
    "drift-detection": _detection,
    "drift-false-alarms": _false_alarms,
    "drift-batches": _batches,
    "drift-bets": _bets,
    "drift-cost": _cost,
}
