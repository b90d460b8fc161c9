"""Which labelled parts are never trained on: drawn by hashes, so that it never changes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection
from datetime import datetime, timedelta
from pathlib import Path

from rdx_fast.station.records.read import reading

HOLD_OUT = 0.25
FOR_LIMITS = 0.5  # of what is held out; the rest is to compare by
_SAME_PART = timedelta(days=1)  # after which a part id may be another part's


def is_held_out(first: int) -> bool:
    """Whether a part is kept for calibration and comparison.

    It depends on the inspection alone, so that what was held out once is never trained on; about
    one part in four is.

    Args:
        first: the first inspection of the part, see ``first_inspections``
    """
    return _share("inspection", first) < HOLD_OUT


def is_for_limits(first: int) -> bool:
    """Of a part that is held out, whether it is for calibration; else it is for the comparison, of
    which the limits must not know. Arguments: see ``is_held_out``."""
    return _share("limits", first) < FOR_LIMITS


def first_inspections(records: Path, job: int, part_ids: Collection[int]) -> dict[int, int]:
    """By inspection, the first inspection of the same part.

    A part that was inspected again within a day of the first time has the same id, other than 0:
    pictures of it must not be trained on and compared by.

    Args:
        records: the SQLite file of the records
        job: id of the job
        part_ids: of the parts

    Raises:
        RecordError: the file is missing or is not a records file
    """
    found: dict[int, int] = {}
    query = (
        "SELECT part_id, inspection_id, triggered_at FROM inspections WHERE job = ? AND "
        "part_id != 0 AND part_id IN (SELECT value FROM json_each(?)) "
        "ORDER BY part_id, inspection_id"
    )
    last, first, since = 0, 0, datetime.min
    with reading(records) as connection:
        for part, number, time in connection.execute(query, (job, json.dumps(sorted(part_ids)))):
            triggered = datetime.fromisoformat(time)
            if part != last or triggered - since > _SAME_PART:
                last, first, since = part, number, triggered
            found[number] = first
    return found


def _share(salt: str, number: int) -> float:
    """A number from 0 to 1 that a salt and an id determine."""
    digest = hashlib.sha256(f"{salt} {number}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
