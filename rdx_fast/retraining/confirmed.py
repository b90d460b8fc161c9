"""Inspected parts of which people said what they really are, with their stored pictures."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from rdx_fast.errors import RdxError, listed
from rdx_fast.station.records.labels import Label, agreed, read_labels
from rdx_fast.station.records.read import Filter, read_records
from rdx_fast.station.records.store import InspectionRecord

HOLD_OUT = 0.25


class RetrainError(RdxError):
    """A job's network cannot be trained again as it is configured."""


@dataclass(frozen=True, slots=True)
class ConfirmedFrame:
    """A part on whose label all users agree.

    Attributes:
        inspection_id: its inspection
        path: the stored frame
        bad: whether it is really bad
        sampled: whether it is of the random sample of all parts
    """

    inspection_id: int
    path: Path
    bad: bool
    sampled: bool

    @property
    def held_out(self) -> bool:
        """Whether it is never trained on, see ``is_held_out``."""
        return is_held_out(self.inspection_id)


@dataclass(frozen=True, slots=True)
class Confirmed:
    """The labelled parts of a job, by ascending inspection id.

    Attributes:
        frames: those that are really good or really bad, with their pictures
        disputed: inspections of which users say different things; these are not used
        missing: inspections that were labelled and have no stored frame any more, likewise
    """

    frames: tuple[ConfirmedFrame, ...]
    disputed: tuple[int, ...]
    missing: tuple[int, ...]

    @property
    def to_train_on(self) -> list[ConfirmedFrame]:
        """Good parts outside the hold-out."""
        return [frame for frame in self.frames if not frame.bad and not frame.held_out]

    @property
    def to_calibrate_on(self) -> list[ConfirmedFrame]:
        """Good parts of the random sample inside the hold-out. Others would not do: parts that were
        rejected have higher scores than good parts have."""
        return [f for f in self.frames if not f.bad and f.held_out and f.sampled]

    def told(self) -> list[str]:
        """What is not used, in words."""
        kinds = {
            "whose labels contradict each other": self.disputed,
            "whose stored frame is gone (see [records] pictures_mb)": self.missing,
        }
        return [
            f"not used: {len(ids)} labelled parts {which}, inspection{listed(ids)}"
            for which, ids in kinds.items()
            if ids
        ]


def is_held_out(inspection_id: int) -> bool:
    """Whether the frame of an inspection is kept for calibration and comparison.

    It depends on the id alone, so that a frame that was held out once is never trained on; about
    one in four is.
    """
    digest = hashlib.sha256(f"inspection {inspection_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big") < HOLD_OUT * 2**64


def confirmed_frames(records: Path, pictures: Path, job: int) -> Confirmed:
    """Read what people said of the parts of a job.

    Args:
        records: the SQLite file of the records
        pictures: folder of the stored pictures
        job: id of the job

    Raises:
        RecordError: the file is missing or is not a records file
    """
    said: dict[int, list[Label]] = defaultdict(list)
    for label in read_labels(records):
        said[label.inspection_id].append(label)
    frames, disputed, missing = [], [], []
    for record in read_records(records, Filter(job=job, labelled=True)):
        verdict = agreed(said.get(record.inspection_id, ()))
        if verdict is None:  # labelled after the labels were read
            continue
        path = _frame_of(record, pictures)
        if verdict == "disputed":
            disputed.append(record.inspection_id)
        elif path is None:
            missing.append(record.inspection_id)
        else:
            bad, sampled = verdict == "bad", record.sampled == 1
            frames.append(ConfirmedFrame(record.inspection_id, path, bad, sampled))
    return Confirmed(tuple(frames), tuple(disputed), tuple(missing))


def _frame_of(record: InspectionRecord, pictures: Path) -> Path | None:
    if record.picture is None:
        return None
    path = pictures / f"{record.picture}_frame.png"
    return path if path.is_file() else None
