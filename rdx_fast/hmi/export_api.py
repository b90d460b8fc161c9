"""Records, labels and frames as files to take away."""

from __future__ import annotations

import asyncio
import csv
import os
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, fields
from datetime import UTC, datetime
from io import BufferedReader
from pathlib import Path
from threading import Event

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from rdx_fast.hmi.access import Access, ApiRoute, Call, get
from rdx_fast.hmi.data import StationData
from rdx_fast.hmi.part_forms import ExportQuery
from rdx_fast.hmi.refusal import Refused, not_found
from rdx_fast.station.records.export import write_records
from rdx_fast.station.records.labels import Label, read_labels
from rdx_fast.station.records.read import Stop, count_records, has_records, read_records
from rdx_fast.station.records.store import InspectionRecord, RecordError

MOST_ROWS = 1_000_000
MOST_ZIPPED = 5_000  # parts
MOST_ZIPPED_BYTES = 2_000_000_000  # of their frames
KEPT_FREE_BYTES = 1_000_000_000  # on the disk
_ROW_BYTES = 2_000  # of a table, at most
_CHUNK = 2**18
_LOOK_S = 0.2  # time between two looks whether the caller is still there
_TYPES = {
    "csv": "text/csv; charset=utf-8",
    "parquet": "application/vnd.apache.parquet",
    "zip": "application/zip",
}
_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet would compute


def routes(data: StationData, name: str) -> list[ApiRoute]:
    """The route of exports.

    Args:
        data: what is exported
        name: of the station, for the names of files
    """
    api = _ExportApi(data, name)
    return [get("/api/export", Access.VIEW, api.export, query=ExportQuery)]


class _ExportApi:
    def __init__(self, data: StationData, name: str) -> None:
        self._data, self._name = data, name
        self._busy = False

    async def export(self, call: Call, query: ExportQuery) -> object:
        """A file of the selected parts, or whether it can be made. It is written first and sent
        then: nobody who reads slowly keeps the station's log of the database from being
        shortened."""
        if self._busy:
            raise Refused(
                429,
                "export_busy",
                "another export runs: try again when it has ended",
                {"Retry-After": "5"},
            )
        if query.check:
            await self._data.query(self._selection, query)
            return {"possible": True}
        self._busy = True
        try:
            file = await self._awaited(call, query)
        except BaseException:
            self._busy = False
            raise
        moment = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        name = "".join(c if c.isascii() and c.isalnum() else "-" for c in self._name)
        headers = {"Content-Disposition": f'attachment; filename="{name}-{moment}.{query.format}"'}
        return _Sent(file, self._sent, headers, _TYPES[query.format])

    def _sent(self) -> None:
        self._busy = False

    async def _awaited(self, call: Call, query: ExportQuery) -> BufferedReader:
        """The file, unless the caller goes away or the server ends before it is written."""
        left = Event()

        def stop() -> bool:
            return left.is_set() or self._data.ending.is_set()

        written = asyncio.ensure_future(
            self._data.export(self._written, query, stop, call.is_engineer)
        )
        try:
            while not (await asyncio.wait({written}, timeout=_LOOK_S))[0]:
                if await call.request.is_disconnected():
                    left.set()
            return written.result()
        except RecordError:
            if stop():
                raise Refused(503, "ending", "the export was stopped: try again") from None
            raise
        finally:
            left.set()  # if this was cancelled

    def _selection(
        self, query: ExportQuery, stop: Stop | None = None
    ) -> tuple[Iterator[InspectionRecord], list[Path]]:
        """The records to write, and of a ZIP file the frames. Raises ``Refused`` if there is
        nothing, or too much."""
        path, wanted = self._data.path, query.filter()
        if not has_records(path):
            raise not_found("record yet")
        found = sum(count_records(path, wanted, stop).values())
        needed = found * _ROW_BYTES
        most = MOST_ZIPPED if query.format == "zip" else MOST_ROWS
        if found > most:
            raise _too_many(f"{found} parts are selected, at most {most} fit a {query.format} file")
        records, frames = read_records(path, wanted, stop), []
        if query.format == "zip":
            few = list(records)
            records = iter(few)
            frames = [file for of in few if (file := self._data.pictures.frame_file(of))]
            size = sum(file.stat().st_size for file in frames if file.exists())
            if size > MOST_ZIPPED_BYTES:
                raise _too_many(
                    f"the frames have {size} bytes together, at most {MOST_ZIPPED_BYTES} fit a zip "
                    f"file"
                )
            needed += size
        # The station's own frames are written there, too.
        if shutil.disk_usage(path.parent).free < needed + KEPT_FREE_BYTES:
            raise Refused(
                409, "export_no_room", "the station's disk has too little room for this file"
            )
        return records, frames

    def _written(self, query: ExportQuery, stop: Stop, with_labels: bool) -> BufferedReader:
        """The file, which has no name any more and is gone when it is closed."""
        records, frames = self._selection(query, stop)
        self._data.exports_folder.mkdir(mode=0o700, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self._data.exports_folder) as folder:
            output = Path(folder) / f"inspections.{query.format}"
            if query.format == "zip":
                self._zip(output, list(records), frames, stop, with_labels)
            else:
                write_records(records, output)
            return output.open("rb")

    def _zip(
        self,
        output: Path,
        records: list[InspectionRecord],
        frames: list[Path],
        stop: Stop,
        with_labels: bool,
    ) -> None:
        tables = [output.parent / "inspections.csv"]
        write_records(iter(records), tables[0])
        if with_labels:  # which others are not to see before their own
            tables.append(output.parent / "labels.csv")
            labels = read_labels(self._data.path, [of.inspection_id for of in records])
            _write_labels(labels, tables[1])
        with zipfile.ZipFile(output, "w", zipfile.ZIP_STORED) as archive:  # PNGs shrink no more
            for table in tables:
                archive.write(table, table.name, zipfile.ZIP_DEFLATED)
            for file in frames:
                if stop():
                    raise RecordError("writing the zip file was stopped")
                try:
                    archive.write(file, f"frames/{file.name}")
                except FileNotFoundError:
                    continue  # deleted to make room meanwhile


class _Sent(StreamingResponse):
    """Sends a file, and then closes it and calls ``on_end``, whether all was taken or not. Who
    takes nothing for a while is cut off, see ``Connection``."""

    def __init__(
        self,
        file: BufferedReader,
        on_end: Callable[[], None],
        headers: dict[str, str],
        media_type: str,
    ) -> None:
        self._file, self._on_end = file, on_end
        size = os.fstat(file.fileno()).st_size
        headers = headers | {"Content-Length": str(size)}
        super().__init__(iter(lambda: file.read(_CHUNK), b""), 200, headers, media_type)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._file.close()
            self._on_end()


def _write_labels(labels: list[Label], output: Path) -> None:
    with output.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, [f.name for f in fields(Label)], lineterminator="\n")
        writer.writeheader()
        for label in labels:
            row = asdict(label)
            if label.comment.startswith(_FORMULA):
                row["comment"] = f"'{label.comment}"
            writer.writerow(row)


def _too_many(text: str) -> Refused:
    return Refused(413, "export_too_large", f"{text}: narrow the selection")
