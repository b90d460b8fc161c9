"""A part as the page gets it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from enum import Enum
from typing import Any, NamedTuple

from rdx_fast.hmi.pictures import Pictures
from rdx_fast.station.records.labels import Label, agreed, newest
from rdx_fast.station.records.store import InspectionRecord


class Shown(Enum):
    """What is shown of a part's labels."""

    LABELS = 2  # all of them
    AGREED = 1  # what they say together
    NOTHING = 0  # so that whoever is to label the part is not led by them


class LiveParts(NamedTuple):
    """Parts whose frames the station shows, or will in a moment, stored or not.

    Attributes:
        first_id: id of the inspection that it showed last; 0 for none yet
        since: when it was started, UTC as in the records
    """

    first_id: int
    since: str

    def have(self, record: InspectionRecord) -> bool:
        """Whether a part is one of them."""
        later = record.inspection_id >= self.first_id and record.triggered_at >= self.since
        return later and record.score is not None


def part_json(
    record: InspectionRecord,
    labels: Sequence[Label],
    pictures: Pictures,
    live_parts: LiveParts | None = None,
    shown: Shown = Shown.AGREED,
) -> dict[str, Any]:
    """A part as JSON can state it.

    Args:
        record: its record
        labels: all of it, the oldest first
        pictures: where its pictures are stored
        live_parts: what the station shows; None if it is away
        shown: what is shown of the labels; "labels_shown" states whether all are
    """
    fields = {name: finite(value) for name, value in asdict(record).items()}
    live = live_parts is not None and live_parts.have(record)
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
