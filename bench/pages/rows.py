"""Measured rows, and how a table of them is written."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

# The machines that figures are of, by the newest of what their CPUs have. On "VNNI", the one with
# AMX, oneDNN was kept from all that is newer.
CPUS = ("AVX2", "AMX")
_RESTRICTED = {"AVX512_CORE_BF16": "VNNI"}

Row = dict[str, Any]


def read_rows(folder: Path) -> list[Row]:
    """Every published row, in the order of the files and their lines."""
    files = sorted(folder.glob("*.jsonl"))
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


def rows_of(rows: Sequence[Row], bench: str, wanted: Callable[[Row], bool]) -> list[Row]:
    found = [row for row in rows if row["bench"] == bench and wanted(row)]
    if not found:
        raise ValueError(f"no results of {bench!r}: run the benchmark with --output first")
    return found


def newest(rows: Sequence[Row], bench: str, *keys: str, cpu: str | None = None) -> list[Row]:
    """The newest row for each value of ``keys``, all of one CPU: ``cpu``, or the last row's."""
    chosen = rows_of(rows, bench, lambda row: row.keys() >= set(keys))
    wanted = cpu or chosen[-1]["cpu"]
    chosen = rows_of(chosen, bench, lambda row: row["cpu"] == wanted)
    return list({tuple(str(row[k]) for k in keys): row for row in chosen}.values())


def newest_run(rows: Sequence[Row], bench: str, cpu: str | None = None, **wanted: str) -> list[Row]:
    """All rows of the newest run that is ``wanted``. ``cpu``: the newest of ``cpu_features`` that
    the machine has."""

    def fits(row: Row) -> bool:
        of_cpu = cpu is None or _newest_feature(row) == cpu
        return of_cpu and all(row.get(k) == v for k, v in wanted.items())

    found = rows_of(rows, bench, fits)
    return [row for row in found if row["time"] == found[-1]["time"]]


def _newest_feature(row: Row) -> str | None:
    restricted = _RESTRICTED.get(row.get("max_cpu_isa", ""))
    return restricted or (row.get("cpu_features") or [None])[-1]


def markdown(header: Sequence[str], lines: Iterable[Sequence[object]]) -> str:
    table = [header, ["---"] * len(header), *lines]
    return "".join("| " + " | ".join(map(str, line)) + " |\n" for line in table)


def measured(row: Row, command: str) -> str:
    versions = ", ".join(f"{k} {v}" for k, v in row["versions"].items() if k != "rdx_fast")
    versions = f"; {versions}" if versions else ""
    cpu = ", ".join((row["cpu"], *row.get("cpu_features", ())))
    if "max_cpu_isa" in row:
        cpu += f", with ONEDNN_MAX_CPU_ISA={row['max_cpu_isa']}"
    return f"\n{cpu}{versions}; commit {row['commit']}. Command: `{command}`\n"


def milliseconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}" if value < 10 else f"{value:.1f}"
