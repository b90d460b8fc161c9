"""The command ``records``: lists and exports a station's records."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from rdx_fast.cli import tables
from rdx_fast.cli.common import JsonFlag, data, notes
from rdx_fast.station.handshake.codes import ResultCode
from rdx_fast.station.records.changes import read_changes
from rdx_fast.station.records.export import write_records
from rdx_fast.station.records.read import Filter, read_records


def records(
    file: Annotated[Path, typer.Argument(help="A station's records file.")],
    result: Annotated[
        list[str] | None,
        typer.Option(help="Only this result: OK, REVIEW, NG, ERROR or LATE. Repeat for several."),
    ] = None,
    part: Annotated[int | None, typer.Option(help="Only this part id.")] = None,
    job: Annotated[int | None, typer.Option(help="Only this job.")] = None,
    since: Annotated[
        datetime | None, typer.Option(help="Only inspections triggered at or after this time, UTC.")
    ] = None,
    until: Annotated[
        datetime | None, typer.Option(help="Only inspections triggered before this time, UTC.")
    ] = None,
    last: Annotated[
        int | None,
        typer.Option(
            min=1, help="Only this many of the newest inspections. Default on the screen: 20."
        ),
    ] = None,
    output: Annotated[Path | None, typer.Option(help="File to write, .csv or .parquet.")] = None,
    changes: Annotated[
        bool,
        typer.Option("--changes", help="Instead, check and list the changes of the jobs' bundles."),
    ] = False,
    json_lines: JsonFlag = False,
) -> None:
    """List inspections, or write them to a file. A station may be writing to it meanwhile."""
    if changes:
        entries = read_changes(file)
        if json_lines:
            for entry in entries:
                print(json.dumps(asdict(entry)))
        else:
            data.print(tables.changes_table(entries))
        return
    if unknown := set(result or ()) - {code.name for code in ResultCode}:
        raise typer.BadParameter(
            f"result is {sorted(unknown)}, wanted OK, REVIEW, NG, ERROR or LATE"
        )
    if last is None and output is None and not json_lines:
        last = 20  # fits a screen
    wanted = Filter(part, job, tuple(result or ()), _utc(since), _utc(until), last)
    found = read_records(file, wanted)
    if output is not None:
        count = write_records(found, output)
        notes.print(f"{count} inspections written to {output}", highlight=False)
    elif json_lines:
        for record in found:
            print(json.dumps(asdict(record)))
    else:
        data.print(tables.records_table(found))


def _utc(time: datetime | None) -> str | None:
    return None if time is None else time.replace(tzinfo=UTC).isoformat(timespec="microseconds")
