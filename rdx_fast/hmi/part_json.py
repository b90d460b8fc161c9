"""A part as the page gets it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from enum import Enum
from typing import Any

from rdx_fast.hmi.pictures import Pictures
from rdx_fast.station.records.labels import Label, agreed, newest
from rdx_fast.station.records.store import InspectionRecord


class Shown(Enum):
    """What is shown of a part's labels."""

    LABELS = 2  # all of them
    AGREED = 1  # what they say together
    NOTHING = 0  # so that whoever is to label the part is not led by them


def part_json(
    record: InspectionRecord,
    labels: Sequence[Label],
    pictures: Pictures,
    shown_id: int | None = None,
    shown: Shown = Shown.AGREED,
) -> dict[str, Any]:
    """A part as JSON can state it.

    Args:
        record: its record
        labels: all of it, the oldest first
        pictures: where its pictures are stored
        shown_id: id of the inspection that the station shows; None if it is away. This part and
            later ones have a frame that is not stored
        shown: what is shown of the labels; "labels_shown" states whether all are
    """
    fields = {name: finite(value) for name, value in asdict(record).items()}
    live = shown_id is not None and record.inspection_id >= shown_id and record.score is not None
    return {
        **fields,
        "labels": [
            {
                "user": label.user,
                "time": label.time,
                "verdict": label.verdict,
                "reason": label.reason,
                "comment": label.comment,
            }
            for label in (newest(labels) if shown is Shown.LABELS else ())
        ],
        "labels_shown": shown is Shown.LABELS,
        "agreed": None if shown is Shown.NOTHING else agreed(labels),
        "has_frame": live or pictures.frame_file(record) is not None,
        "has_map": live or pictures.map_file(record) is not None,
    }


def may_be_labelled(record: InspectionRecord) -> bool:
    """Whether people label a part: those that are rejected, and those of the random sample."""
    return record.result in ("REVIEW", "NG") or bool(record.sampled)


def finite(value: Any) -> Any:
    """JSON has no infinity, which a database may hold."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
