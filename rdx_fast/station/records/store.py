"""Records of inspections in SQLite. A result is on disk before the PLC is shown it."""

from __future__ import annotations

import sqlite3
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from datetime import datetime
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
    executed TEXT,
    p_value REAL,
    region TEXT,
    ng_above REAL,
    brightness REAL,
    sharpness REAL,
    sampled INTEGER
) STRICT;
CREATE INDEX IF NOT EXISTS by_part ON inspections (part_id);
CREATE INDEX IF NOT EXISTS by_time ON inspections (triggered_at);
-- For the queue of labels: of the few parts with pictures, so that other rows take no longer.
CREATE INDEX IF NOT EXISTS by_picture ON inspections (picture) WHERE picture IS NOT NULL;
"""


class RecordError(RdxError):
    """The records cannot be opened, read or written."""


@dataclass(frozen=True, slots=True)
class InspectionRecord:
    """The record of one inspection. A field is None if its step was not reached.

    Attributes:
        inspection_id: id of the inspection, counted up; key of the record
        part_id: the PLC's id of the part, 16 bits
        job: id of the requested job
        bundle: name of the job's bundle
        bundle_sha256: SHA-256 of the bundle's manifest
        triggered_at: wall time of the trigger, UTC, ISO 8601
        deadline_ms: time allowed from trigger to result, in ms
        result: "OK", "REVIEW", "NG", "ERROR" or "LATE"
        error: name of the ``ErrorCode``; None for OK, REVIEW and NG
        detail: the error in words
        score: anomaly score
        threshold: the limit of OK of the region that decided: a part with a higher score was REVIEW
            or NG
        area_px: map pixels above the OK limits of their regions
        start_ms: from the trigger until the engine was free, in ms
        grab_ms: duration of the camera's grab, in ms
        preprocess_ms: duration of preprocessing, in ms, part of ``score_ms``
        network_ms: duration of the network, in ms, part of ``score_ms``
        postprocess_ms: duration of postprocessing, in ms, part of ``score_ms``
        score_ms: duration of ``Detector.score``, in ms
        decided_ms: from the trigger until the outcome was decided, in ms
        recorded_ms: from the trigger until the row was on disk, in ms
        taken_ms: from the trigger until the PLC acknowledged the result, in ms
        picture: path of the stored pictures in their folder, without ``_frame.png`` and
            ``_map.png``
        executed: precision of the verdict, such as "int8"
        p_value: of good parts, at most the share p has a p-value of p or less
        region: name of the region that decided; None without regions
        ng_above: the limit of NG: a part with a score between the two was REVIEW
        brightness: of the frame, a share of the range from black to white, see
            ``rdx_fast.recipe.frame_check.look_at``; None where drift is not watched
        sharpness: likewise, see ``rdx_fast.recipe.frame_check.sharpness_of``
        sampled: 1 for a part of the random sample, else 0, see ``RecordConfig.ok_share``
    """

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
    p_value: float | None = None
    region: str | None = None
    ng_above: float | None = None
    brightness: float | None = None
    sharpness: float | None = None
    sampled: int | None = None


# Columns that files of earlier versions lack, and their types.
_ADDED = {
    "executed": "TEXT",
    "p_value": "REAL",
    "region": "TEXT",
    "ng_above": "REAL",
    "brightness": "REAL",
    "sharpness": "REAL",
    "sampled": "INTEGER",
}
# Rows kept in memory while the disk cannot be written: hours of production.
MAX_WAITING = 100_000
COLUMNS = tuple(f.name for f in fields(InspectionRecord))
_INSERT = (
    f"INSERT OR REPLACE INTO inspections ({', '.join(COLUMNS)}) "
    f"VALUES ({', '.join(':' + name for name in COLUMNS)})"
)
# Columns that are known after the row was written; they may wait for the next row.
_LATER = frozenset({"recorded_ms", "taken_ms", "picture", "brightness", "sharpness"})


class RecordWriter:
    """Writes records, one transaction for each verdict. Used by one thread.

    Args:
        path: the SQLite file; it and its folder are created if missing
        sync: whether rows also survive a power failure, by waiting for the disk; without it they
            survive if the process is killed, but not if the machine fails

    Raises:
        RecordError: the file cannot be opened

    Attributes:
        next_id: id for the next inspection, one above the last recorded one
    """

    def __init__(self, path: Path, sync: bool = True) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = connect(path)
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute(f"PRAGMA synchronous = {'FULL' if sync else 'NORMAL'}")
            self._connection.executescript(_SCHEMA)
            self._connection.execute("BEGIN IMMEDIATE")  # two may open the same old file at once
            for name in lacking_columns(self._connection):
                column = f"{name} {_ADDED[name]}"
                self._connection.execute(f"ALTER TABLE inspections ADD COLUMN {column}")
            self._connection.execute("COMMIT")
            found = self._connection.execute("SELECT max(inspection_id) FROM inspections")
            self.next_id: int = (found.fetchone()[0] or 0) + 1
        except (sqlite3.Error, OSError) as error:
            raise RecordError(
                f"{path}: the records cannot be opened: {error}: choose a writable file on a disk "
                f"with free space"
            ) from error
        # Rows and values that could not be written yet, kept in memory until they can.
        self._waiting: dict[int, InspectionRecord] = {}
        self._notes: list[tuple[str, float | str, int]] = []

    @property
    def waiting(self) -> int:
        """Number of rows that could not be written yet."""
        return len(self._waiting)

    def write(self, record: InspectionRecord) -> None:
        """Write a row to disk, and with it some of the waiting rows.

        Args:
            record: the row; it replaces an earlier row with the same id

        Raises:
            RecordError: the disk cannot be written; the row is kept in memory and written with a
                later one
        """
        try:
            self._commit([*self._some_waiting(), record])
        except RecordError:
            self._waiting[record.inspection_id] = record
            if len(self._waiting) > MAX_WAITING:
                del self._waiting[next(iter(self._waiting))]
            raise

    def note(self, inspection_id: int, column: str, value: float | str) -> None:
        """Set a value that became known after the row was written.

        It is written with the next row, or by ``flush``.

        Args:
            inspection_id: id of the row
            column: "recorded_ms", "taken_ms", "picture", "brightness" or "sharpness"
            value: the value
        """
        assert column in _LATER
        if inspection_id in self._waiting:
            changed = asdict(self._waiting[inspection_id]) | {column: value}
            self._waiting[inspection_id] = InspectionRecord(**changed)
        else:
            self._notes.append((column, value, inspection_id))

    def restore_picture(self, inspection_id: int, name: str, written: datetime) -> None:
        """Set the picture of a row that has none, since the process was killed before.

        Without effect if there is no such row, or a later one: ids begin anew with a new file.

        Args:
            inspection_id: id of the row
            name: as ``InspectionRecord.picture``
            written: when the picture was written, UTC

        Raises:
            RecordError: the disk cannot be written
        """
        try:
            self._connection.execute(
                "UPDATE inspections SET picture = ? "
                "WHERE inspection_id = ? AND picture IS NULL AND triggered_at <= ?",
                (name, inspection_id, written.isoformat(timespec="microseconds")),
            )
        except sqlite3.Error as error:
            raise RecordError(f"the records cannot be written: {error}") from error

    def flush(self) -> None:
        """Write all waiting rows and values.

        Raises:
            RecordError: the disk cannot be written
        """
        while self._waiting or self._notes:
            self._commit(self._some_waiting())

    def _some_waiting(self) -> list[InspectionRecord]:
        # Few at a time, so that no later part waits long after a long failure.
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
        """Close the file."""
        self._connection.close()


def lacking_columns(connection: sqlite3.Connection) -> list[str]:
    """Columns that a file of an earlier version lacks."""
    there = {row[1] for row in connection.execute("PRAGMA table_info(inspections)")}
    return [name for name in _ADDED if name not in there] if there else []


def has_table(connection: sqlite3.Connection, name: str) -> bool:
    """Whether an opened records file has a table, which whoever first writes to it creates."""
    found = connection.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (name,))
    return found.fetchone() is not None


def connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=0.5)
