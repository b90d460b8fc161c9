"""Parts that wait for a label."""

from __future__ import annotations

from pathlib import Path

from rdx_fast.station.records.read import reading, select_records
from rdx_fast.station.records.store import InspectionRecord, has_table

_WAITING = "picture >= ? AND (result IN ('REVIEW', 'NG') OR (result = 'OK' AND sampled = 1))"
# One part in ten waits for a second user too. The choice has no period of a line, such as of ten
# nests of a mould.
_UNLABELLED = (
    " AND inspection_id NOT IN (SELECT inspection_id FROM labels WHERE user = ?)"
    " AND (SELECT count(DISTINCT user) FROM labels AS l WHERE l.inspection_id = i.inspection_id)"
    " < 1 + (inspection_id * 7919 % 97 < 10)"
)


def read_queue(
    path: Path, pictures: Path, user: str, limit: int
) -> tuple[list[InspectionRecord], int]:
    """Read the parts that wait for a user's label.

    These are parts with the result REVIEW or NG, or OK and of the random sample, with a picture,
    that nobody has labelled. One in ten waits for a second user's label too, so that it is known
    how far people agree.

    Args:
        path: the SQLite file of the records
        pictures: folder of the pictures, the oldest of which are deleted to make room
        user: who will label them
        limit: at most so many parts

    Returns:
        The newest of these parts, newest first, and how many there are.

    Raises:
        RecordError: the file is missing or is not a records file
    """
    with reading(path) as connection:
        where, values = _WAITING, [_oldest(pictures)]
        if has_table(connection, "labels"):
            where, values = _WAITING + _UNLABELLED, [*values, user]
        query = f"FROM ({select_records(connection)}) AS i WHERE {where}"
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
