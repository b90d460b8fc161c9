"""Reading records of inspections: selected, counted, while a station may be writing them."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from rdx_fast.station.records.store import (
    COLUMNS,
    InspectionRecord,
    RecordError,
    connect,
    has_table,
    lacking_columns,
)

Stop = Callable[[], bool]
_STEPS = 100_000  # of SQLite's machine between two questions whether to stop: some ms


@dataclass(frozen=True, slots=True)
class Filter:
    """Selects records. A field that is None or empty does not filter.

    Attributes:
        part_id: only this part
        job: only this job
        results: only these results, such as ``("NG", "LATE")``
        since: only inspections triggered at or after this time, UTC, ISO 8601 as in the records
        until: only inspections triggered before this time, likewise
        last: only the newest so many of those
        before: only inspections with a smaller id
        min_score: only scores of at least this
        max_score: only scores of at most this
        labelled: only parts that a person has labelled, or only others
        sampled: only parts of the random sample, or only others
        pictured: only parts whose pictures were stored, or only others
    """

    part_id: int | None = None
    job: int | None = None
    results: tuple[str, ...] = ()
    since: str | None = None
    until: str | None = None
    last: int | None = None
    before: int | None = None
    min_score: float | None = None
    max_score: float | None = None
    labelled: bool | None = None
    sampled: bool | None = None
    pictured: bool | None = None

    def where(self) -> tuple[str, list[object]]:
        """The condition in SQL, and its values."""
        tests: list[tuple[str, object]] = [
            ("part_id = ?", self.part_id),
            ("job = ?", self.job),
            ("triggered_at >= ?", self.since),
            ("triggered_at < ?", self.until),
            ("inspection_id < ?", self.before),
            ("score >= ?", self.min_score),
            ("score <= ?", self.max_score),
            ("(ifnull(sampled, 0) = 1) = ?", self.sampled),
            ("(picture IS NOT NULL) = ?", self.pictured),
            ("(inspection_id IN (SELECT inspection_id FROM labels)) = ?", self.labelled),
        ]
        given = [(text, value) for text, value in tests if value is not None]
        if self.results:
            given.append((f"result IN ({', '.join('?' * len(self.results))})", self.results))
        values: list[object] = []
        for _, value in given:
            values.extend(value if isinstance(value, tuple) else (value,))
        return " AND ".join(text for text, _ in given) or "TRUE", values


def read_records(
    path: Path, wanted: Filter | None = None, stop: Stop | None = None
) -> Iterator[InspectionRecord]:
    """Read records in the order of their ids. A station may be writing to the file meanwhile.

    Args:
        path: the SQLite file
        wanted: which records; None for all
        stop: asked again and again; once it says so, reading ends with an error

    Yields:
        The selected records.

    Raises:
        RecordError: the file is missing or is not a records file, or reading was stopped
    """
    wanted = wanted or Filter()
    where, values = wanted.where()
    with reading(path, stop) as connection:
        # Select the newest first, then restore the order.
        query = (
            f"{_labels_too(connection)}SELECT * FROM (SELECT * FROM ({select_records(connection)}) "
            f"WHERE {where} ORDER BY inspection_id DESC LIMIT ?) ORDER BY inspection_id"
        )
        for row in connection.execute(query, [*values, wanted.last or -1]):
            yield InspectionRecord(*row)


def count_records(
    path: Path, wanted: Filter | None = None, stop: Stop | None = None
) -> dict[tuple[str, bool], int]:
    """Count records by result, and by whether the part is of the random sample.

    Args:
        path: the SQLite file
        wanted: which records, whatever its ``last`` is; None for all
        stop: as for ``read_records``

    Raises:
        RecordError: as for ``read_records``
    """
    where, values = (wanted or Filter()).where()
    with reading(path, stop) as connection:
        query = (
            f"{_labels_too(connection)}SELECT result, ifnull(sampled, 0) = 1, count(*) "
            f"FROM ({select_records(connection)}) WHERE {where} GROUP BY 1, 2"
        )
        rows = connection.execute(query, values)
        return {(result, bool(sampled)): count for result, sampled, count in rows}


def has_records(path: Path) -> bool:
    """Whether a station has begun to write records to a file, which need not be there.

    Raises:
        RecordError: it is no records file
    """
    if not path.is_file():
        return False
    with reading(path) as connection:
        return has_table(connection, "inspections")


def select_records(connection: sqlite3.Connection) -> str:
    """The query of all records, whose columns are the fields of ``InspectionRecord``."""
    lacking = lacking_columns(connection)
    columns = ", ".join(f"NULL AS {c}" if c in lacking else c for c in COLUMNS)
    return f"SELECT {columns} FROM inspections"


@contextmanager
def reading(path: Path, stop: Stop | None = None) -> Iterator[sqlite3.Connection]:
    """Open a records file. Raises ``RecordError`` if it is missing or is none, or if ``stop`` says
    so."""
    if not path.is_file():
        raise RecordError(f"{path}: no such file: give the records file of a station")
    try:
        with closing(connect(path)) as connection:
            connection.set_progress_handler(stop, _STEPS)
            yield connection
    except sqlite3.Error as error:
        if stop is not None and stop():
            raise RecordError(f"{path}: reading was stopped") from error
        raise RecordError(f"{path} is not a station's records file: {error}") from error


def _labels_too(connection: sqlite3.Connection) -> str:
    """What a query begins with that may name labels, where no part was ever labelled."""
    return (
        ""
        if has_table(connection, "labels")
        else "WITH labels AS (SELECT 0 AS inspection_id WHERE FALSE) "
    )
