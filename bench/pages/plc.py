"""Tables of docs/reference/plc.md and docs/measured/plc.md."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence

from rdx_fast.bench.pages.rows import (
    Row,
    markdown,
    measured,
    milliseconds,
    newest,
    newest_run,
    rows_of,
)
from rdx_fast.station.plc.registers import ERRORS, MAP


def _registers(rows: Sequence[Row]) -> str:
    lines = [(r.address, r.writer, r.name, r.type, r.meaning) for r in MAP]
    return markdown(("register", "written by", "name", "type", "meaning"), lines)


def _errors(rows: Sequence[Row]) -> str:
    return markdown(("code", "name", "meaning"), ERRORS)


def _line(rows: Sequence[Row]) -> str:
    found = newest(rows, "line", "protocol", "rate")
    names = list(found[0]["ms"])
    lines = []
    for row in found:
        times = [
            "/".join(milliseconds(row["ms"][n][p]) for p in ("p50", "p99", "p99.9")) for n in names
        ]
        rate = "as fast as possible" if row["rate"] is None else f"{row['rate']:g} per second"
        counts = (row["parts"], f"{row['parts_per_s']:.1f}", _told(row))
        lines.append((row["protocol"], rate, *counts, *times))
    stages = (f"{name}, ms" for name in names)
    header = ("protocol", "arrival of parts", "parts", "parts/s", "answers", *stages)
    command = "PYTHONPATH=tests python -m support.line demo/cells.rdx"
    return markdown(header, lines) + measured(found[0], command)


def _line_faults(rows: Sequence[Row]) -> str:
    found = newest_run(rows, "line_faults")
    lines = []
    for row in found:
        faults = " and ".join(row["faults"])
        lines.append((faults, _told(row), f"{row['recovered_s']:.2f}"))
    header = ("fault", "answers during the fault (error codes)", "s from its end to the next OK")
    command = "PYTHONPATH=tests python -m support.line_faults demo/cells.rdx --frames GOOD"
    return markdown(header, lines) + measured(found[0], command)


def _told(row: Row) -> str:
    told = ", ".join(f"{count} {name}" for name, count in row["results"].items())
    errors = f" ({', '.join(row['errors'])})" if row.get("errors") else ""
    return told.replace("NONE", "without an answer") + errors


def _line_fuzz(rows: Sequence[Row]) -> str:
    row = rows_of(rows, "line_fuzz", lambda row: True)[-1]
    header = ("malformed messages", "states published", "rules violated", "inspection afterwards")
    line = (row["messages"], row["states_published"], len(row["broken"]), row["then"])
    command = "PYTHONPATH=tests python -m support.line_fuzz demo/cells.rdx --frames GOOD"
    return markdown(header, [line]) + measured(row, command)


def _line_browsers(rows: Sequence[Row]) -> str:
    lines = []
    for row in newest(rows, "line browsers", "camera", "drawing"):
        size = "300 x 300" if row["camera"] is None else " x ".join(map(str, row["camera"]))
        for arm in row["p99_ms"]:
            ratios = [row.get(f"{p} {arm} / without", {}) for p in ("p50", "p99")]
            lines.append(
                (
                    size,
                    _pages_open(row) if arm == "with" else arm,
                    *(f"{row[f'{p}_ms'][arm]:.2f}" for p in ("p50", "p99")),
                    *(f"{ratio['all']:.3f}" if ratio else "1" for ratio in ratios),
                    *("-" if not ratio else _middle(ratio["rounds"]) for ratio in ratios[1:]),
                )
            )
    header = (
        *("frames", "open pages", "p50, ms", "p99, ms", "p50 / without", "p99 / without"),
        "p99 / without, median of the rounds (lowest to highest)",
    )
    command = "PYTHONPATH=tests python -m support.line_browsers demo/cells.rdx"
    return markdown(header, lines) + measured(row, command)


def _pages_open(row: Row) -> str:
    return f"{row['browsers']} {'browsers' if row['drawing'] else 'clients that draw nothing'}"


def _page_hour(rows: Sequence[Row]) -> str:
    """Every quarter of an hour."""
    row = rows_of(rows, "page hour", lambda row: True)[-1]
    last = row["rows"][-1]["minutes"]
    lines = [
        (
            f"{of['minutes']:.0f}",
            of["parts"],
            f"{of['heap_mb']:.2f}",
            of["nodes"],
            f"{of['server_mb']:.0f}",
        )
        for of in row["rows"]
        if round(of["minutes"]) in (1, 15, 30, 45) or of["minutes"] == last
    ]
    header = ("minutes", "parts", "script heap, MB", "nodes of the document", "server, MB")
    command = "PYTHONPATH=tests python -m support.page_hour --minutes 60"
    return markdown(header, lines) + measured(row, command)


def _middle(ratios: Sequence[float]) -> str:
    return f"{statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})"


TABLES: dict[str, Callable[[Sequence[Row]], str]] = {
    "registers": _registers,
    "errors": _errors,
    "line": _line,
    "line-faults": _line_faults,
    "line-fuzz": _line_fuzz,
    "line-browsers": _line_browsers,
    "page-hour": _page_hour,
}
