"""Follows the records of a station that runs: what is new or has changed, and counts by shift."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import quote

from rdx_fast.hmi.shifts import ShiftCounts
from rdx_fast.station.records.labels import Label, labels_in
from rdx_fast.station.records.read import select_records
from rdx_fast.station.records.store import InspectionRecord, has_table

WINDOW = 512  # newest ids, whose rows may still change
STRIP = 12  # newest rejected parts with pictures
_STRIP_WITHIN = 50_000  # ids in which the first ones are looked for
_RECOUNTING = timedelta(minutes=10)  # after rows were missing, which are then written late
_RECOUNT_EVERY = timedelta(seconds=30)
_REJECTS = ("NG", "REVIEW")


@dataclass(slots=True)
class Update:
    """What has changed since the last look.

    Attributes:
        records: rows that are new, have changed, or whose labels have, by ascending id
        labels: of these parts, by id, the oldest first
        anew: the records are of another file than before, or of none any more
    """

    records: list[InspectionRecord] = field(default_factory=list)
    labels: dict[int, list[Label]] = field(default_factory=dict)
    anew: bool = False


class RecordTail:
    """Follows a records file. Used by one thread.

    Each look is a short read of the newest ``WINDOW`` ids, and only if the file has changed. The
    parts of a shift are counted by a query at the start, and again for a while after rows were
    missing, as they are when the station's disk was full; else row by row. Holds no more than the
    window.

    Args:
        path: the SQLite file, which may be missing, appear, and be replaced
        shifts: counts the parts
        now: returns the present time, with a time zone

    Attributes:
        path: as given
        rows: of the window, by ascending id
        strip: rows of the newest rejected parts with pictures, at most ``STRIP``, newest first
    """

    def __init__(self, path: Path, shifts: ShiftCounts, now: Callable[[], datetime]) -> None:
        self.path, self._shifts, self._now = path, shifts, now
        self._connection: sqlite3.Connection | None = None
        self._recount_at: datetime | None = None
        self._recount_until = now()
        self._version = -1
        self._shift = ""
        self._forget()

    def look(self) -> Update | None:
        """What has changed; None for nothing.

        Raises:
            sqlite3.Error: the file is busy, or is no records file; try again later
        """
        now = self._now()
        previous, current = self._shifts.at(now)
        # A clock that is set back brings shifts back that were not counted any more.
        back, self._shift = current < self._shift, current
        anew = self._follow()
        if self._connection is None:
            return Update(anew=True) if anew else None
        version = self._connection.execute("PRAGMA data_version").fetchone()[0]
        recount = back or (self._recount_at is not None and now >= self._recount_at)
        if version == self._version and not recount:
            return Update(anew=True) if anew else None
        self._connection.execute("BEGIN")
        try:
            update = self._read(recount or anew, previous, current)
        except BaseException:
            self.close()
            raise
        self._connection.execute("COMMIT")
        self._version = version
        if self._recount_at is not None and recount:
            over = now >= self._recount_until
            self._recount_at = None if over else now + _RECOUNT_EVERY
        update.anew = anew
        return update

    @property
    def follows(self) -> bool:
        """Whether there is a file."""
        return self._connection is not None

    def labels_of(self, inspection_ids: Iterable[int]) -> dict[int, list[Label]]:
        """Labels by inspection, the oldest first; none where there is no file."""
        found: dict[int, list[Label]] = {}
        if self._connection is not None:
            for label in labels_in(self._connection, list(inspection_ids)):
                found.setdefault(label.inspection_id, []).append(label)
        return found

    def close(self) -> None:
        """Close the file and forget its contents; the next look opens it anew."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        self._forget()

    def _forget(self) -> None:
        self.rows: dict[int, InspectionRecord] = {}
        self._read_rows: dict[int, tuple[object, ...]] = {}
        self.strip: list[InspectionRecord] = []
        self._file: tuple[int, int] | None = None
        self._version = -1
        self._newest = self._base = self._label = 0
        self._recount_at = None
        self._shifts.clear()

    def _follow(self) -> bool:
        """Open the file that is there now. Whether it is another one, or gone."""
        try:
            found = self.path.stat()
        except FileNotFoundError:
            file = None
        else:
            file = found.st_dev, found.st_ino
        if file == self._file and (self._connection is None) == (file is None):
            return False
        self.close()
        if file is None:
            return True
        # Read-only, so that this process writes nothing into the station's file, not even at the
        # end.
        address = f"file:{quote(str(self.path.absolute()))}?mode=ro"
        connection = sqlite3.connect(
            address, uri=True, isolation_level=None, check_same_thread=False, timeout=0.2
        )
        with ExitStack() as stack:
            stack.callback(connection.close)
            if not has_table(connection, "inspections"):  # a station is just creating it
                return False
            stack.pop_all()
        self._connection, self._file = connection, file
        return True

    def _read(self, recount: bool, previous: str, current: str) -> Update:
        assert self._connection is not None
        run = self._connection.execute
        newest = run("SELECT max(inspection_id) FROM inspections").fetchone()[0] or 0
        if newest < self._newest:  # rows were deleted
            recount = True
        base = max(newest - WINDOW, 0)
        query = select_records(self._connection)
        read = run(f"{query} WHERE inspection_id > ? ORDER BY inspection_id", (base,)).fetchall()
        # Most rows are as they were: compared before they become records.
        same = {row[0] for row in read if self._read_rows.get(row[0]) == row}
        rows = {row[0]: self.rows[row[0]] if row[0] in same else _record(row) for row in read}
        changed = [row for i, row in rows.items() if i not in same]
        first = self._version == -1
        if recount or first:
            self._count(base, rows, previous, current)
        else:
            self._count_changes(base, changed)
        if first:
            self._find_strip(query, base)
            self._label = self._last_label()
        self._read_rows = {row[0]: row for row in read}
        self.rows, self._newest, self._base = rows, newest, base
        relabelled = self._relabelled(query, {row.inspection_id for row in changed})
        found = sorted([*changed, *relabelled], key=lambda row: row.inspection_id)
        self._pick_strip(found)
        return Update(found, self.labels_of(row.inspection_id for row in found))

    # Counts

    def _count(
        self, base: int, rows: dict[int, InspectionRecord], previous: str, current: str
    ) -> None:
        """Count both shifts: older rows by a query, since they are many."""
        assert self._connection is not None
        self._shifts.clear()
        for begin, end in ((previous, current), (current, "9")):
            counted = self._connection.execute(
                "SELECT job, result, count(*) FROM inspections WHERE triggered_at >= ? "
                "AND triggered_at < ? AND inspection_id <= ? GROUP BY job, result",
                (begin, end, base),
            )
            for job, result, parts in counted:
                self._shifts.add(begin, job, result, parts)
        for row in rows.values():
            self._shifts.add(row.triggered_at, row.job, row.result)

    def _count_changes(self, base: int, changed: list[InspectionRecord]) -> None:
        assert self._connection is not None
        # Rows that leave the window, of which some came or changed since the last look.
        leaving = self._connection.execute(
            "SELECT inspection_id, triggered_at, job, result FROM inspections "
            "WHERE inspection_id > ? AND inspection_id <= ?",
            (self._base, base),
        ).fetchall()
        now = [
            *leaving,
            *((of.inspection_id, of.triggered_at, of.job, of.result) for of in changed),
        ]
        for i, triggered_at, job, result in now:
            if (before := self.rows.get(i)) is not None:
                self._shifts.add(before.triggered_at, before.job, before.result, -1)
            self._shifts.add(triggered_at, job, result)
        if len(leaving) < base - self._base:
            # Rows are missing, and may come later, which no look would see.
            self._recount_until = self._now() + _RECOUNTING
            self._recount_at = self._recount_at or self._now() + _RECOUNT_EVERY

    # Labels and the strip

    def _last_label(self) -> int:
        assert self._connection is not None
        if not has_table(self._connection, "labels"):
            return 0
        last = self._connection.execute("SELECT max(label_id) FROM labels").fetchone()[0]
        return int(last or 0)

    def _relabelled(self, query: str, known: set[int]) -> list[InspectionRecord]:
        """Rows with new labels, other than the ``known`` ones."""
        assert self._connection is not None
        last = self._last_label()
        if last == self._label:
            return []
        found = self._connection.execute(
            f"{query} WHERE inspection_id IN (SELECT inspection_id FROM labels WHERE label_id > ?)",
            (self._label,),
        )
        self._label = last
        return [_record(row) for row in found if row[0] not in known]

    def _find_strip(self, query: str, base: int) -> None:
        assert self._connection is not None
        found = self._connection.execute(
            f"{query} WHERE inspection_id > ? AND result IN (?, ?) AND picture IS NOT NULL "
            f"ORDER BY inspection_id DESC LIMIT ?",
            (base - _STRIP_WITHIN, *_REJECTS, STRIP),
        )
        self.strip = [_record(row) for row in found]

    def _pick_strip(self, changed: Iterable[InspectionRecord]) -> None:
        by_id = {row.inspection_id: row for row in [*self.strip, *changed]}
        shown = (i for i in sorted(by_id, reverse=True) if _in_strip(by_id[i]))
        self.strip = [by_id[i] for i in islice(shown, STRIP)]


def _in_strip(row: InspectionRecord) -> bool:
    return row.result in _REJECTS and row.picture is not None


def _record(row: tuple[Any, ...]) -> InspectionRecord:
    return InspectionRecord(*row)
