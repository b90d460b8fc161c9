"""Commands beside the PLC: ``station``, ``records``."""

from __future__ import annotations

import csv
import json
import signal
import threading
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.table import Table

from rdx_fast.cli.common import JsonFlag, data, notes
from rdx_fast.errors import MissingDependencyError
from rdx_fast.line.config import read_station
from rdx_fast.line.records import COLUMNS, Filter, InspectionRecord, RecordError, read_records
from rdx_fast.line.registers import MAP
from rdx_fast.line.signals import ResultCode

_ROWS_AT_ONCE = 10_000


def station(
    configuration: Annotated[
        Path | None, typer.Argument(help="station.toml; see docs/plc.md, or --example.")
    ] = None,
    show_map: Annotated[bool, typer.Option("--map", help="Print the Modbus registers.")] = False,
    example: Annotated[
        Path | None, typer.Option(help="Print a configuration to begin with, for this bundle.")
    ] = None,
    log_level: Annotated[Literal["DEBUG", "INFO", "WARNING"], typer.Option()] = "INFO",
) -> None:
    """Answer a PLC: inspect at each trigger, tell OK or NG, keep records. Ends at Ctrl-C or
    SIGTERM."""
    from rdx_fast.line import run

    if show_map:
        data.print(map_table())
        return
    if example is not None:
        print(run.example(example), end="")
        return
    if configuration is None:
        raise typer.BadParameter("give a configuration, or --map, or --example BUNDLE")
    from rdx_fast.line.logs import log_json

    log_json(log_level)
    file = read_station(configuration)
    if file.modbus is None and file.opcua is None:
        raise typer.BadParameter(
            f"{configuration} has neither [modbus] nor [opcua]: nobody can ask"
        )
    over = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: over.set())
    with run.running(file) as online:
        places = ", ".join(f"{name} on port {port}" for name, port in online.ports.items())
        notes.print(f"online: {places}", highlight=False)
        while not over.wait(1.0):
            pass  # a wait without end would not see the signal on every system


def map_table() -> Table:
    """The register map."""
    table = Table(caption="holding registers, counted from 0; unsigned, high word first")
    for column in ("register", "written by", "name", "type", "meaning"):
        table.add_column(column)
    writer = MAP[0].writer
    for register in MAP:
        if register.writer != writer:
            table.add_section()
            writer = register.writer
        table.add_row(str(register.address), writer, register.name, register.type, register.meaning)
    return table


def records(
    file: Annotated[Path, typer.Argument(help="A station's records.")],
    result: Annotated[
        list[str] | None, typer.Option(help="Only these: OK, NG, ERROR or LATE.")
    ] = None,
    part: Annotated[int | None, typer.Option(help="Only this part id.")] = None,
    job: Annotated[int | None, typer.Option(help="Only this job.")] = None,
    since: Annotated[datetime | None, typer.Option(help="From this time on, UTC.")] = None,
    until: Annotated[datetime | None, typer.Option(help="Before this time, UTC.")] = None,
    last: Annotated[int | None, typer.Option(min=1, help="Only the newest so many.")] = None,
    output: Annotated[Path | None, typer.Option(help="File to write, .csv or .parquet.")] = None,
    json_lines: JsonFlag = False,
) -> None:
    """List inspections, or write them to a file; a station may be writing meanwhile."""
    if unknown := set(result or ()) - {code.name for code in ResultCode}:
        raise typer.BadParameter(f"result is {sorted(unknown)}, wanted OK, NG, ERROR or LATE")
    if last is None and output is None and not json_lines:
        last = 20  # a screenful
    wanted = Filter(part, job, tuple(result or ()), _utc(since), _utc(until), last)
    found = read_records(file, wanted)
    if output is not None:
        count = write_records(found, output)
        notes.print(f"{count} inspections written to {output}", highlight=False)
    elif json_lines:
        for record in found:
            print(json.dumps(asdict(record)))
    else:
        data.print(records_table(found))


def _utc(time: datetime | None) -> str | None:
    return None if time is None else time.replace(tzinfo=UTC).isoformat(timespec="microseconds")


def records_table(found: Iterator[InspectionRecord]) -> Table:
    """What matters at the line; files have all of it."""
    table = Table()
    columns = ("inspection", "part", "job", "triggered, UTC", "result", "score", "ms", "error")
    for column in columns:
        table.add_column(column)
    for r in found:
        table.add_row(
            str(r.inspection_id),
            str(r.part_id),
            str(r.job),
            r.triggered_at[:-9].replace("T", " "),
            r.result,
            "-" if r.score is None else f"{r.score:.4f}",
            f"{r.decided_ms:.1f}",
            r.error or "",
        )
    return table


def write_records(found: Iterator[InspectionRecord], output: Path) -> int:
    """As CSV or Parquet, by the file's name. Returns how many. Raises ``RecordError`` for another
    name, ``MissingDependencyError``."""
    output.parent.mkdir(parents=True, exist_ok=True)
    if output.suffix == ".csv":
        count = 0
        with output.open("w", encoding="utf-8", newline="") as stream:
            writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
            writer.writeheader()
            for count, record in enumerate(found, 1):  # noqa: B007
                writer.writerow(asdict(record))
        return count
    if output.suffix == ".parquet":
        return _write_parquet(found, output)
    raise RecordError(f"{output}: inspections are written as .csv or .parquet")


def _write_parquet(found: Iterator[InspectionRecord], output: Path) -> int:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ModuleNotFoundError as error:
        if error.name != "pyarrow":
            raise
        raise MissingDependencyError("pyarrow", "Parquet", "parquet") from error
    kinds = {int: pa.int64(), float: pa.float64(), str: pa.string()}
    hints = InspectionRecord.__annotations__
    names = {"int": int, "float": float, "str": str}
    schema = pa.schema([(n, kinds[names[hints[n].partition(" ")[0]]]) for n in COLUMNS])
    count = 0
    with pq.ParquetWriter(output, schema) as writer:
        while rows := [asdict(record) for record in islice(found, _ROWS_AT_ONCE)]:
            writer.write_table(pa.Table.from_pylist(rows, schema))
            count += len(rows)
    return count
