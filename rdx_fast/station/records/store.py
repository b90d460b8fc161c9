"""Records of inspections in SQLite: what the PLC was told is on disk before it is told."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from itertools import islice
from pathlib import Path

from rdx_fast.errors import RdxError

_SCHEMA = """
CREATE TABLE IF NOT EXISTS inspections (
    inspection_id INTEGER PRIMARY KEY,
    part_id INTEGER NOT NULL,
    job INTEGER NOT NULL,
    bundle TEXT,
    bundle_sha256 TEXT,
    triggered_at TEXT NOT NULL,
    deadline_ms REAL NOT NULL,
    result TEXT NOT NULL,
    error TEXT,
    detail TEXT,
    score REAL,
    threshold REAL,
    area_px INTEGER,
    start_ms REAL,
    grab_ms REAL,
    preprocess_ms REAL,
    network_ms REAL,
    postprocess_ms REAL,
    score_ms REAL,
    decided_ms REAL NOT NULL,
    recorded_ms REAL,
    taken_ms REAL,
    picture TEXT,
    executed TEXT
) STRICT;
CREATE INDEX IF NOT EXISTS by_part ON inspections (part_id);
CREATE INDEX IF NOT EXISTS by_time ON inspections (triggered_at);
"""


class RecordError(RdxError):
    """The records cannot be opened, read or written."""


@dataclass(frozen=True, slots=True)
class InspectionRecord:
    """One inspection. ``triggered_at``: wall time, UTC, ISO 8601. ``start_ms`` (engine free),
    ``decided_ms``, ``recorded_ms`` (on disk) and ``taken_ms`` (acknowledged by the PLC) count from
    the trigger; ``grab_ms``, ``score_ms`` and the stages in it are lengths. What was not reached is
    None. ``picture``: name of the kept frame, without suffix; ``executed``: the precision of the
    verdict, such as "int8"."""

    inspection_id: int
    part_id: int
    job: int
    bundle: str | None
    bundle_sha256: str | None
    triggered_at: str
    deadline_ms: float
    result: str
    error: str | None
    detail: str | None
    score: float | None
    threshold: float | None
    area_px: int | None
    start_ms: float | None
    grab_ms: float | None
    preprocess_ms: float | None
    network_ms: float | None
    postprocess_ms: float | None
    score_ms: float | None
    decided_ms: float
    recorded_ms: float | None = None
    taken_ms: float | None = None
    picture: str | None = None
    executed: str | None = None


# What files of earlier versions lack.
_ADDED = ("executed",)
# Rows kept in memory while the disk takes none: hours of a line.
MAX_WAITING = 100_000
COLUMNS = tuple(f.name for f in fields(InspectionRecord))
_INSERT = (
    f"INSERT OR REPLACE INTO inspections ({', '.join(COLUMNS)}) "
    f"VALUES ({', '.join(':' + name for name in COLUMNS)})"
)
# Facts that come after the row, and may wait for the next one.
_LATER = frozenset({"recorded_ms", "taken_ms", "picture"})


class RecordWriter:
    """The station's side: one thread, one transaction for each verdict.

    ``sync``: also against a power failure (the disk is waited for); without, rows survive the
    process being killed but not the machine. Raises ``RecordError`` if the file cannot be opened.
    """

    def __init__(self, path: Path, sync: bool = True) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = _connect(path)
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute(f"PRAGMA synchronous = {'FULL' if sync else 'NORMAL'}")
            self._connection.executescript(_SCHEMA)
            self._connection.execute("BEGIN IMMEDIATE")  # two may open the same old file at once
            for name in _lacking(self._connection):
                self._connection.execute(f"ALTER TABLE inspections ADD COLUMN {name} TEXT")
            self._connection.execute("COMMIT")
            found = self._connection.execute("SELECT max(inspection_id) FROM inspections")
            self.next_id: int = (found.fetchone()[0] or 0) + 1
        except (sqlite3.Error, OSError) as error:
            raise RecordError(
                f"{path}: the records cannot be opened: {error}: name a file that may be written, "
                f"on a disk with room"
            ) from error
        # What could not be written yet; in memory until the disk takes it.
        self._waiting: dict[int, InspectionRecord] = {}
        self._notes: list[tuple[str, float | str, int]] = []

    @property
    def waiting(self) -> int:
        """Rows that the disk has not taken."""
        return len(self._waiting)

    def write(self, record: InspectionRecord) -> None:
        """Put a row on disk, in place of an earlier one of its id, and with it some that wait.

        Raises ``RecordError``; the row is then kept in memory and written with a later one.
        """
        try:
            self._commit([*self._some_waiting(), record])
        except RecordError:
            self._waiting[record.inspection_id] = record
            if len(self._waiting) > MAX_WAITING:
                del self._waiting[next(iter(self._waiting))]
            raise

    def note(self, inspection_id: int, column: str, value: float | str) -> None:
        """Add a later fact to a row; it is written with the next row, or by ``flush``."""
        assert column in _LATER
        if inspection_id in self._waiting:
            changed = asdict(self._waiting[inspection_id]) | {column: value}
            self._waiting[inspection_id] = InspectionRecord(**changed)
        else:
            self._notes.append((column, value, inspection_id))

    def flush(self) -> None:
        """Write what waits. Raises ``RecordError``."""
        while self._waiting or self._notes:
            self._commit(self._some_waiting())

    def _some_waiting(self) -> list[InspectionRecord]:
        # Few at a time, so that a long failure does not make each later part wait.
        return list(islice(self._waiting.values(), 100))

    def _commit(self, rows: list[InspectionRecord]) -> None:
        run = self._connection.execute
        try:
            run("BEGIN IMMEDIATE")
            self._connection.executemany(_INSERT, map(asdict, rows))
            for column, value, inspection_id in self._notes:
                run(
                    f"UPDATE inspections SET {column} = ? WHERE inspection_id = ?",
                    (value, inspection_id),
                )
            run("COMMIT")
        except sqlite3.Error as error:
            with suppress(sqlite3.Error):
                if self._connection.in_transaction:
                    run("ROLLBACK")
            del self._notes[:-MAX_WAITING]
            raise RecordError(f"the records cannot be written: {error}") from error
        for row in rows:
            self._waiting.pop(row.inspection_id, None)
        self._notes.clear()

    def close(self) -> None:
        self._connection.close()


@dataclass(frozen=True, slots=True)
class Filter:
    """Which inspections are wanted; what is None or empty does not filter. ``since`` and ``until``:
    ISO 8601, UTC, as in the records, from and before."""

    part_id: int | None = None
    job: int | None = None
    results: tuple[str, ...] = ()
    since: str | None = None
    until: str | None = None
    last: int | None = None


def read_records(path: Path, wanted: Filter | None = None) -> Iterator[InspectionRecord]:
    """Inspections in order, also while a station writes them. Raises ``RecordError``."""
    if not path.is_file():
        raise RecordError(f"{path}: no such file: give the records' file of a station")
    wanted = wanted or Filter()
    conditions: list[tuple[str, Iterable[object]]] = []
    for column, test in (("part_id", wanted.part_id), ("job", wanted.job)):
        if test is not None:
            conditions.append((f"{column} = ?", [test]))
    if wanted.results:
        conditions.append((f"result IN ({', '.join('?' * len(wanted.results))})", wanted.results))
    if wanted.since is not None:
        conditions.append(("triggered_at >= ?", [wanted.since]))
    if wanted.until is not None:
        conditions.append(("triggered_at < ?", [wanted.until]))
    where = " AND ".join(text for text, _ in conditions) or "TRUE"
    values = [value for _, given in conditions for value in given]
    # The newest are chosen first, and turned round.
    try:
        connection = _connect(path)
        try:
            lacking = _lacking(connection)
            columns = ", ".join(f"NULL AS {c}" if c in lacking else c for c in COLUMNS)
            query = (
                f"SELECT * FROM (SELECT {columns} FROM inspections WHERE {where} "
                f"ORDER BY inspection_id DESC LIMIT ?) ORDER BY inspection_id"
            )
            for row in connection.execute(query, [*values, wanted.last or -1]):
                yield InspectionRecord(*row)
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise RecordError(f"{path}: these are no records of a station: {error}") from error


def _lacking(connection: sqlite3.Connection) -> list[str]:
    """Columns that the file of an earlier version has not."""
    there = {row[1] for row in connection.execute("PRAGMA table_info(inspections)")}
    return [name for name in _ADDED if name not in there] if there else []


def _connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=0.5)
