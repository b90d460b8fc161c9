"""Parts that wait for a label."""

from __future__ import annotations

from pathlib import Path

from rdx_fast.station.records.labels import has_labels
from rdx_fast.station.records.store import InspectionRecord, reading, select_records

_WAITING = (
    "picture >= ? AND (result IN ('REVIEW', 'NG') OR (result = 'OK' AND sampled = 1)) "
    "AND inspection_id NOT IN (SELECT inspection_id FROM {labels})"
)


def read_queue(
    path: Path, pictures: Path, user: str, limit: int
) -> tuple[list[InspectionRecord], int]:
    """Read the parts that wait for a user's label: with the result REVIEW or NG, or OK and of the
    random sample, with a picture, and without a label of this user.

    Args:
        path: the SQLite file of the records
        pictures: folder of the pictures, the oldest of which are deleted to make room
        user: whose own labels count; others may have labelled a part already
        limit: at most so many parts

    Returns:
        The newest of these parts, newest first, and how many there are.

    Raises:
        RecordError: the file is missing or is not a records file
    """
    with reading(path) as connection:
        own, values = "(SELECT 0 AS inspection_id WHERE FALSE)", [_oldest(pictures)]
        if has_labels(connection):
            own, values = "labels WHERE user = ?", [*values, user]
        query = f"FROM ({select_records(connection)}) WHERE {_WAITING.format(labels=own)}"
        (waiting,) = connection.execute(f"SELECT count(*) {query}", values).fetchone()
        rows = connection.execute(
            f"SELECT * {query} ORDER BY inspection_id DESC LIMIT ?", [*values, limit]
        )
        return [InspectionRecord(*row) for row in rows], waiting


def _oldest(pictures: Path) -> str:
    """The oldest picture that is kept, by name, as records state it; above all names for none.

    Names begin with the day and end with the id of the inspection, so that they sort by time.
    """
    for day in sorted(pictures.glob("????-??-??")):
        if names := [path.name for path in day.glob("*_frame.png")]:
            return f"{day.name}/{min(names).removesuffix('_frame.png')}"
    return "~"
