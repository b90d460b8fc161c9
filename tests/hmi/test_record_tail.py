"""What the page sees of a records file that a station writes to, and counts of shifts."""

from __future__ import annotations

import sqlite3
import time as clock
from collections.abc import Iterator
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from typing import Any

import pytest

from rdx_fast.hmi import record_tail
from rdx_fast.hmi.record_tail import RecordTail, Update
from rdx_fast.hmi.shifts import ShiftCounts, shift_start
from rdx_fast.station.hmi_config import HmiConfig
from rdx_fast.station.records.labels import add_label
from rdx_fast.station.records.store import InspectionRecord, RecordWriter
from support.station_records import START, a_record, write_records

STARTS = (time(6), time(14), time(22))


class Watched:
    """A records file, a tail of it and a wall clock, in one."""

    def __init__(self, path: Path) -> None:
        self.path, self.now = path, START + timedelta(hours=1)
        self.shifts = ShiftCounts(STARTS)
        self.tail = RecordTail(path, self.shifts, lambda: self.now)

    def write(self, *records: InspectionRecord) -> None:
        write_records(self.path, *records)

    def seen(self) -> list[tuple[int, str]]:
        """Ids and results of what has changed."""
        update = self.tail.look()
        return [] if update is None else [(r.inspection_id, r.result) for r in update.records]

    def look(self) -> Update:
        update = self.tail.look()
        assert update is not None
        return update

    def counts(self) -> dict[tuple[int, str], int]:
        """Parts of the current shift by job and result, of those that there are."""
        self.shifts.at(self.now)
        return self.of_shift(shift_start(self.now, STARTS))

    def of_shift(self, start: datetime) -> dict[tuple[int, str], int]:
        rows = [row for row in self.shifts.told() if row["shift"] == start.isoformat()]
        results = ("OK", "REVIEW", "NG", "ERROR", "LATE")
        return {(row["job"], r): row[r] for row in rows for r in results if row[r]}


@pytest.fixture(autouse=True)
def in_utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    yield from in_zone(monkeypatch, "UTC")


def in_zone(monkeypatch: pytest.MonkeyPatch, name: str) -> Iterator[None]:
    monkeypatch.setenv("TZ", name)
    clock.tzset()
    yield
    monkeypatch.undo()
    clock.tzset()


@pytest.fixture
def watched(tmp_path: Path) -> Watched:
    return Watched(tmp_path / "records.sqlite")


def test_new_and_changed_rows_are_seen_once(watched: Watched) -> None:
    watched.write(a_record(1), a_record(2, "NG"))
    assert watched.seen() == [(1, "OK"), (2, "NG")]
    assert watched.tail.look() is None
    watched.write(a_record(3), a_record(1, "LATE"))
    assert watched.seen() == [(1, "LATE"), (3, "OK")]
    assert watched.counts() == {(1, "OK"): 1, (1, "NG"): 1, (1, "LATE"): 1}
    watched.write(a_record(2, "NG", picture="2026-03-02/0000000002"))
    assert watched.seen() == [(2, "NG")]
    assert watched.tail.look() is None


def test_a_writer_that_stays_open(watched: Watched) -> None:
    writer = RecordWriter(watched.path)
    assert watched.look().anew
    writer.write(a_record(1))
    assert watched.seen() == [(1, "OK")]
    writer.note(1, "taken_ms", 12.5)
    assert watched.seen() == []
    writer.flush()
    assert watched.look().records[0].taken_ms == 12.5
    writer.close()


def test_a_file_that_is_missing_appears_and_is_replaced(watched: Watched) -> None:
    assert watched.tail.look() is None
    watched.path.touch()
    assert watched.tail.look() is None, "it has no tables yet"
    watched.write(a_record(5))
    first = watched.look()
    assert first.anew
    assert len(first.records) == 1
    watched.path.unlink()
    gone = watched.look()
    assert gone.anew
    assert (gone.records, watched.tail.rows, watched.counts()) == ([], {}, {})
    assert watched.tail.look() is None
    watched.write(a_record(1, "NG"))
    again = watched.look()
    assert again.anew
    assert watched.counts() == {(1, "NG"): 1}


def test_what_is_no_records_file_is_an_error_until_it_is_one(watched: Watched) -> None:
    watched.path.write_bytes(b"not a database, and long enough to be looked at" * 100)
    for _ in range(2):
        with pytest.raises(sqlite3.Error):
            watched.tail.look()
    watched.path.unlink()
    watched.write(a_record(1))
    assert watched.look().anew


def test_labels_are_seen_also_of_parts_of_long_ago(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record_tail, "WINDOW", 4)
    watched.write(*(a_record(i, "NG") for i in range(1, 11)))
    watched.look()
    for part, verdict in ((2, "good"), (9, "bad")):
        add_label(watched.path, part, "olga", verdict, "other")  # type: ignore[arg-type]
        update = watched.look()
        assert [r.inspection_id for r in update.records] == [part]
        assert [label.verdict for label in update.labels[part]] == [verdict]
        assert watched.tail.look() is None
    assert watched.tail.labels_of([2, 3])[2][0].user == "olga"


@pytest.mark.parametrize("window", [3, 512])
def test_counts_are_those_of_a_query_however_the_rows_come(
    watched: Watched, monkeypatch: pytest.MonkeyPatch, window: int
) -> None:
    """Few and many at once, re-decided in the window, in two shifts and jobs."""
    monkeypatch.setattr(record_tail, "WINDOW", window)
    watched.now = START + timedelta(hours=8, minutes=1)
    shift = timedelta(hours=8)
    results = ("OK", "NG", "REVIEW", "OK", "LATE")

    def at(i: int, result: str, **values: Any) -> InspectionRecord:
        taken = START + shift + timedelta(seconds=10 * (i - 15))
        text = taken.isoformat(timespec="microseconds")
        return a_record(i, result, triggered_at=text, job=1 + i % 2, **values)

    rows: dict[int, InspectionRecord] = {}
    begin = 1
    for size in (4, 1, 7, 2, 9, 1):  # the shift begins at the 15th
        new = {i: at(i, results[i % 5]) for i in range(begin, begin + size)}
        changed = {begin - 1: at(begin - 1, "LATE")} if begin > 1 else {}
        watched.write(*changed.values(), *new.values())
        rows |= changed | new
        begin += size
        watched.look()
        for start in (START, START + shift):
            expected: dict[tuple[int, str], int] = {}
            for row in rows.values():
                if start <= datetime.fromisoformat(row.triggered_at) < start + shift:
                    key = (row.job, row.result)
                    expected[key] = expected.get(key, 0) + 1
            assert watched.of_shift(start) == expected
        assert len(watched.tail.rows) <= window


def test_a_restarted_page_counts_what_was_before(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record_tail, "WINDOW", 5)
    watched.write(*(a_record(i, "NG" if i % 10 == 0 else "OK") for i in range(1, 101)))
    watched.look()
    assert watched.counts() == {(1, "OK"): 90, (1, "NG"): 10}
    (row,) = watched.shifts.told()
    assert (row["parts"], row["yield"]) == (100, 0.9)


def test_rows_that_had_to_wait_for_the_disk_are_counted_when_they_come(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record_tail, "WINDOW", 5)
    watched.write(*(a_record(i) for i in range(1, 4)))
    watched.look()
    watched.write(*(a_record(i) for i in range(40, 50)))
    watched.look()
    assert watched.counts() == {(1, "OK"): 13}
    watched.write(*(a_record(i, "NG") for i in range(4, 40)))
    watched.look()
    watched.now += timedelta(seconds=31)
    watched.look()
    assert watched.counts() == {(1, "OK"): 13, (1, "NG"): 36}
    watched.now += timedelta(minutes=11)
    watched.look()
    watched.now += timedelta(minutes=1)
    assert watched.tail.look() is None, "and then no more"


def test_a_shift_ends(watched: Watched) -> None:
    watched.write(a_record(1), a_record(2, "NG"))
    watched.look()
    watched.now = START + timedelta(hours=8, seconds=1)
    late = (watched.now - timedelta(milliseconds=1)).isoformat(timespec="microseconds")
    watched.write(a_record(3, triggered_at=late))
    watched.look()
    assert watched.counts() == {(1, "OK"): 1}
    assert [row["now"] for row in watched.shifts.told()] == [True, False]
    assert watched.of_shift(START) == {(1, "OK"): 1, (1, "NG"): 1}
    watched.now += timedelta(hours=8)
    assert watched.counts() == {}
    assert [(row["parts"], row["now"]) for row in watched.shifts.told()] == [(1, False)]


def test_the_strip_holds_the_newest_rejects_with_pictures(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record_tail, "WINDOW", 4)
    monkeypatch.setattr(record_tail, "STRIP", 3)

    def kept(i: int, result: str) -> InspectionRecord:
        return a_record(i, result, picture=f"2026-03-02/{i:010d}")

    watched.write(kept(1, "NG"), kept(2, "OK"), a_record(3, "NG"), kept(4, "REVIEW"))
    watched.write(*(a_record(i) for i in range(5, 15)))
    watched.look()
    assert [r.inspection_id for r in watched.tail.strip] == [4, 1]
    watched.write(kept(15, "NG"), kept(16, "NG"))
    watched.look()
    assert [r.inspection_id for r in watched.tail.strip] == [16, 15, 4]
    watched.write(kept(16, "LATE"))
    watched.look()
    assert [r.inspection_id for r in watched.tail.strip] == [15, 4]


def test_only_the_window_is_held(watched: Watched) -> None:
    writer = RecordWriter(watched.path, sync=False)
    for first in range(1, 3000, 300):
        writer.write(a_record(first))
        with sqlite3.connect(watched.path) as database:
            columns = ", ".join(record_columns(database))
            names = columns.replace("inspection_id", "inspection_id + n")
            database.execute(
                f"WITH RECURSIVE more(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM more LIMIT 299) "
                f"INSERT INTO inspections ({columns}) SELECT {names} FROM inspections, more "
                f"WHERE inspection_id = ?",
                (first,),
            )
        watched.look()
        assert len(watched.tail.rows) <= record_tail.WINDOW
    writer.close()
    assert watched.counts() == {(1, "OK"): 3000}


def record_columns(database: sqlite3.Connection) -> list[str]:
    return [row[1] for row in database.execute("PRAGMA table_info(inspections)")]


@pytest.mark.parametrize(
    "shifts", [(), ("banana",), ("06:00+02:00", "14:00"), ("14:00", "06:00"), ("06:00", "06:00")]
)
def test_shifts_that_cannot_be(shifts: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match=r"hmi: shifts is .* wanted local times in order"):
        HmiConfig(shifts=shifts)


def test_shifts_when_the_clocks_change(monkeypatch: pytest.MonkeyPatch) -> None:
    zone = in_zone(monkeypatch, "Europe/Berlin")
    next(zone)
    summer, winter = timedelta(hours=2), timedelta(hours=1)
    night = shift_start(datetime(2026, 3, 29, 3, 0, tzinfo=UTC), STARTS)  # 05:00, summer now
    assert (night.isoformat(), night.utcoffset()) == ("2026-03-28T22:00:00+01:00", winter)
    early = shift_start(datetime(2026, 3, 29, 4, 0, tzinfo=UTC), STARTS)
    assert (early.isoformat(), early.utcoffset()) == ("2026-03-29T06:00:00+02:00", summer)
    # 02:30 comes twice: the second one begins no shift.
    starts = (time(2, 30), time(14))
    first = shift_start(datetime(2026, 10, 25, 0, 45, tzinfo=UTC), starts)
    for minutes in (30, 75, 300):
        moment = datetime(2026, 10, 25, 0, 45, tzinfo=UTC) + timedelta(minutes=minutes)
        assert shift_start(moment, starts) == first
    before = shift_start(datetime(2026, 10, 25, 0, 29, tzinfo=UTC), starts)
    assert before.isoformat() == "2026-10-24T14:00:00+02:00"
    for _ in zone:
        pass


def test_a_clock_that_is_set_back_into_the_shift_before(watched: Watched) -> None:
    """The counts are those that a page has that is started then."""
    begin = START.replace(hour=5)
    moments = [begin + timedelta(minutes=of) for of in (0, 10, 61, 62)]
    texts = [of.isoformat(timespec="microseconds") for of in moments]
    records = [a_record(i, triggered_at=of) for i, of in enumerate(texts, 1)]
    watched.now = begin + timedelta(minutes=20)
    watched.write(*records[:2])
    watched.look()
    watched.now = begin + timedelta(minutes=65)
    watched.write(*records[2:])
    watched.look()
    watched.now = begin + timedelta(minutes=30)
    watched.tail.look()
    fresh = Watched(watched.path)
    fresh.now = watched.now
    fresh.look()
    assert watched.shifts.told() == fresh.shifts.told()
    assert sum(row["parts"] for row in fresh.shifts.told()) == 4
