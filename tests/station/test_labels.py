"""Labels in the records, and the chained entries of who gave them."""

from __future__ import annotations

import sqlite3
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rdx_fast.station import Filter, InspectionRecord, RecordError, read_records
from rdx_fast.station.records import queue
from rdx_fast.station.records.changes import ChangeLog, read_changes
from rdx_fast.station.records.labels import add_label, agreed, newest, read_labels
from rdx_fast.station.records.pictures import PictureStore
from rdx_fast.station.records.queue import read_queue
from rdx_fast.station.records.read import reading, select_records
from rdx_fast.station.records.store import RecordWriter
from support.commands import run


def row(inspection_id: int, **values: Any) -> InspectionRecord:
    facts = dict.fromkeys(InspectionRecord.__annotations__) | {
        "inspection_id": inspection_id,
        "part_id": 100 + inspection_id,
        "job": 1,
        "triggered_at": f"2026-01-01T00:00:{inspection_id:02d}.000000+00:00",
        "deadline_ms": 500.0,
        "result": "NG",
        "decided_ms": 10.0,
    }
    return InspectionRecord(**(facts | values))


@pytest.fixture
def records(tmp_path: Path) -> Path:
    path = tmp_path / "records.sqlite"
    writer = RecordWriter(path)
    for i in range(1, 6):
        writer.write(row(i, score=i / 10))
    writer.close()
    return path


def test_the_newest_label_of_each_user_counts(records: Path) -> None:
    assert read_labels(records) == []
    assert agreed([]) is None
    first = add_label(records, 2, "anna", "bad", "crack")
    assert agreed(read_labels(records)) == "bad"
    second = add_label(records, 2, "otto", "good", "dust", "blown off")
    assert agreed(read_labels(records, [2])) == "disputed"
    third = add_label(records, 2, "anna", "good", "dust")
    assert read_labels(records) == [first, second, third]
    assert newest(read_labels(records)) == [second, third]
    assert agreed(read_labels(records)) == "good"
    add_label(records, 4, "anna", "bad", "crack")
    assert [label.inspection_id for label in read_labels(records, [4, 5])] == [4]
    assert read_labels(records, []) == []


def test_labels_are_entered_among_the_changes(records: Path) -> None:
    add_label(records, 2, "anna", "bad", "crack")
    label = add_label(records, 2, "anna", "good", "dust", "after cleaning")
    first, second = read_changes(records)
    assert (first.action, first.user, first.before) == ("label", "anna", {})
    assert second.before == {"verdict": "bad", "reason": "crack", "comment": ""}
    assert second.after["verdict"] == "good"
    assert second.after["result"] == "NG"
    assert second.time == label.time
    ChangeLog(records).enter("job", "eva", {"job": 1}, {"job": 2})
    shown = run("records", records, "--changes").stdout
    assert "anna" in shown
    assert "eva" in shown
    with sqlite3.connect(records) as database:
        database.execute("UPDATE changes SET line = replace(line, 'crack', 'dirt') WHERE entry = 1")
    with pytest.raises(RecordError, match=r"entry 1 of the history \(label by anna"):
        read_changes(records)


def test_what_cannot_be_labelled(records: Path, tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="there is no inspection 9"):
        add_label(records, 9, "anna", "bad", "crack")
    with pytest.raises(ValueError, match="'fine', wanted 'good' or 'bad'"):
        add_label(records, 1, "anna", "fine", "crack")  # type: ignore[arg-type]
    assert read_labels(records) == []
    assert read_changes(records) == []
    with pytest.raises(RecordError, match="no such file"):
        add_label(tmp_path / "none.sqlite", 1, "anna", "bad", "crack")
    with pytest.raises(RecordError, match="no such file"):
        read_labels(tmp_path / "none.sqlite")


def test_labels_while_the_station_writes(records: Path) -> None:
    writer = RecordWriter(records)

    def label() -> None:
        for i in range(1, 51):
            add_label(records, 1 + i % 5, f"user {i % 3}", "good", "dust")

    threads = [threading.Thread(target=label) for _ in range(2)]
    for thread in threads:
        thread.start()
    for i in range(10, 110):
        writer.write(row(i))
    for thread in threads:
        thread.join()
    writer.close()
    assert len(read_labels(records)) == 100
    assert len(read_changes(records)) == 100, "one chain"
    assert len(list(read_records(records))) == 105


def test_filters(records: Path) -> None:
    def ids(**wanted: Any) -> list[int]:
        return [r.inspection_id for r in read_records(records, Filter(**wanted))]

    assert ids(labelled=False) == [1, 2, 3, 4, 5], "before any label"
    assert ids(labelled=True) == []
    add_label(records, 3, "anna", "bad", "crack")
    assert ids(labelled=True) == [3]
    assert ids(labelled=False, before=5) == [1, 2, 4]
    assert ids(min_score=0.2, max_score=0.4) == [2, 3, 4]
    assert ids(before=4, last=2) == [2, 3]
    assert ids(sampled=False) == [1, 2, 3, 4, 5]
    assert ids(results=("OK", "NG"), part_id=104) == [4]


def test_one_part_in_ten_waits_for_a_second_user(tmp_path: Path) -> None:
    records, pictures = tmp_path / "records.sqlite", tmp_path / "pictures"
    store, frame = PictureStore(pictures, 100), np.zeros((4, 4), np.uint8)
    writer = RecordWriter(records)
    for i in range(1, 98):
        picture = store.keep(i, datetime(2026, 1, 1, tzinfo=UTC), frame, None)
        writer.write(row(i, picture=picture))
    writer.close()

    def waiting(user: str) -> set[int]:
        found, count = read_queue(records, pictures, user, 200)
        assert len(found) == count
        return {r.inspection_id for r in found}

    assert len(waiting("anna")) == 97
    for i in range(1, 98):
        add_label(records, i, "anna", "good", "dust")
    assert waiting("anna") == set()
    twice = waiting("otto")
    assert len(twice) == 10
    assert len({i % 10 for i in twice}) > 4, "not every tenth part, which may be of one nest"
    for i in twice:
        add_label(records, i, "otto", "bad", "crack")
    assert waiting("otto") == waiting("eva") == set()


def test_the_queue_reads_no_parts_without_pictures(tmp_path: Path) -> None:
    RecordWriter(tmp_path / "records.sqlite").close()
    with reading(tmp_path / "records.sqlite") as connection:
        query = f"SELECT * FROM ({select_records(connection)}) AS i WHERE {queue._WAITING}"
        plan = connection.execute(f"EXPLAIN QUERY PLAN {query}", ["2026"]).fetchall()
    assert "USING INDEX by_picture" in str(plan)
