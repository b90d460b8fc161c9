"""What people say of inspected parts, in the file of the records. Labels are only ever added."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

from rdx_fast.station.records.changes import add_change, writing
from rdx_fast.station.records.read import reading
from rdx_fast.station.records.store import RecordError, has_table

_SCHEMA = """
CREATE TABLE IF NOT EXISTS labels (
    label_id INTEGER PRIMARY KEY,
    inspection_id INTEGER NOT NULL,
    user TEXT NOT NULL,
    time TEXT NOT NULL,
    verdict TEXT NOT NULL CHECK (verdict IN ('good', 'bad')),
    reason TEXT NOT NULL,
    comment TEXT NOT NULL
) STRICT
"""
_INDEX = "CREATE INDEX IF NOT EXISTS labels_by_inspection ON labels (inspection_id)"

Verdict = Literal["good", "bad"]
Agreed = Literal["good", "bad", "disputed"]


@dataclass(frozen=True, slots=True)
class Label:
    """What a person says of a part. Of each user, the newest label of a part counts.

    Attributes:
        label_id: id of the label, counted up
        inspection_id: the inspection
        user: who says it
        time: UTC, ISO 8601
        verdict: "good" or "bad": what the part really is
        reason: why, one of those that the page offers
        comment: in the user's words; may be empty
    """

    label_id: int
    inspection_id: int
    user: str
    time: str
    verdict: Verdict
    reason: str
    comment: str


_COLUMNS = ", ".join(f.name for f in fields(Label))


def add_label(
    path: Path, inspection_id: int, user: str, verdict: Verdict, reason: str, comment: str = ""
) -> Label:
    """Add a label, and enter it among the changes.

    Args:
        path: the SQLite file of the records
        inspection_id: the inspection
        user: who says it
        verdict: "good" or "bad"
        reason: why
        comment: in the user's words

    Raises:
        RecordError: there is no such inspection, or the label cannot be written
        ValueError: the verdict is another one
    """
    if verdict not in ("good", "bad"):
        raise ValueError(f"the verdict is {verdict!r}, wanted 'good' or 'bad'")
    if not path.is_file():
        raise RecordError(f"{path}: no such file: give the records file of a station")
    with writing(path, f"the label of inspection {inspection_id}") as connection:
        run = connection.execute
        run(_SCHEMA)
        run(_INDEX)
        part = run("SELECT result FROM inspections WHERE inspection_id = ?", (inspection_id,))
        found = part.fetchone()
        if found is None:
            raise RecordError(f"{path}: there is no inspection {inspection_id}")
        said = run(
            "SELECT verdict, reason, comment FROM labels WHERE inspection_id = ? AND user = ? "
            "ORDER BY label_id DESC LIMIT 1",
            (inspection_id, user),
        ).fetchone()
        before = dict(zip(("verdict", "reason", "comment"), said, strict=True)) if said else {}
        after = {"verdict": verdict, "reason": reason, "comment": comment}
        facts = {"inspection_id": inspection_id, "result": found[0], **after}
        change = add_change(connection, user, "label", before, facts)
        values = (inspection_id, user, change.time, verdict, reason, comment)
        row = run(
            "INSERT INTO labels (inspection_id, user, time, verdict, reason, comment) "
            "VALUES (?, ?, ?, ?, ?, ?)",
            values,
        )
        assert row.lastrowid is not None
        return Label(row.lastrowid, inspection_id, user, change.time, verdict, reason, comment)


def read_labels(path: Path, inspection_ids: Collection[int] | None = None) -> list[Label]:
    """Read labels, the oldest first.

    Args:
        path: the SQLite file of the records
        inspection_ids: only those of these inspections; None for all

    Raises:
        RecordError: the file is missing or is not a records file
    """
    with reading(path) as connection:
        return labels_in(connection, inspection_ids)


def labels_in(
    connection: sqlite3.Connection, inspection_ids: Collection[int] | None = None
) -> list[Label]:
    """As ``read_labels``, in an opened file. Raises ``sqlite3.Error`` if it cannot be read."""
    if not has_table(connection, "labels"):
        return []
    query, values = f"SELECT {_COLUMNS} FROM labels", []
    if inspection_ids is not None:
        query += " WHERE inspection_id IN (SELECT value FROM json_each(?))"
        values = [json.dumps(sorted(inspection_ids))]
    return [Label(*row) for row in connection.execute(f"{query} ORDER BY label_id", values)]


def newest(labels: Iterable[Label]) -> list[Label]:
    """Of each user and inspection the label that counts, the oldest first."""
    last = {(label.inspection_id, label.user): label for label in labels}
    return sorted(last.values(), key=lambda label: label.label_id)


def first(labels: Iterable[Label]) -> list[Label]:
    """Of each user and inspection the label that was given first, the oldest first.

    Args:
        labels: the oldest first
    """
    given: dict[tuple[int, str], Label] = {}
    for label in labels:
        given.setdefault((label.inspection_id, label.user), label)
    return list(given.values())


def agreed(labels: Iterable[Label]) -> Agreed | None:
    """What the labels of one inspection say together.

    Args:
        labels: of one inspection, the oldest first

    Returns:
        "good" or "bad" where all users say so, "disputed" where they differ, None without labels.
    """
    verdicts = {label.verdict for label in newest(labels)}
    if len(verdicts) > 1:
        return "disputed"
    return verdicts.pop() if verdicts else None
