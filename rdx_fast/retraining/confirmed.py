"""Inspected parts of which people said what they really are, with their stored pictures."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from rdx_fast.errors import RdxError, listed
from rdx_fast.images import find_bad_images
from rdx_fast.kernels.resize_normalize import Pixels
from rdx_fast.limits.limits import OK, VERDICTS
from rdx_fast.retraining.hold_out import first_inspections, is_for_limits, is_held_out
from rdx_fast.station.records.labels import Agreed, Label, agreed, read_labels
from rdx_fast.station.records.read import Filter, read_records
from rdx_fast.station.records.store import InspectionRecord

_MAY_LACK = 20  # one part of so many: the labelled ones stand for all the same


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
        first: the first inspection of the same part, see ``first_inspections``
    """

    inspection_id: int
    path: Path
    bad: bool
    sampled: bool
    first: int

    @property
    def held_out(self) -> bool:
        """Whether it is never trained on, see ``is_held_out``."""
        return is_held_out(self.first)

    @property
    def for_limits(self) -> bool:
        """Whether limits may come from it, see ``is_for_limits``. Others would not do: parts that
        were rejected have higher scores than good parts have."""
        return self.sampled and not self.bad and self.held_out and is_for_limits(self.first)


@dataclass(frozen=True, slots=True)
class SampleLabels:
    """How much of the random sample is labelled.

    It counts parts whose frames are stored, up to the newest label of any part.

    Attributes:
        ok: parts with the result OK
        ok_labelled: those of them on whose label all users agree
        rejected: parts with the result REVIEW or NG
        rejected_labelled: those of them on whose label all users agree
        disputed: inspections of parts, whatever their result, on whose label users disagree
    """

    ok: int = 0
    ok_labelled: int = 0
    rejected: int = 0
    rejected_labelled: int = 0
    disputed: tuple[int, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether the labelled parts stand for all: those that were rejected are often labelled
        first, and limits of these alone would be too high. A part that is disputed may lack among
        few, too, since no further label need settle it."""
        few = min(1, len(self.disputed))
        return all(
            of - labelled <= max(few, of // _MAY_LACK)
            for labelled, of in (
                (self.ok_labelled, self.ok),
                (self.rejected_labelled, self.rejected),
            )
        )

    def told(self) -> str:
        """The counts, and what is to be done, in words."""
        told = [
            f"{self.ok_labelled} of {self.ok} parts with the result OK and "
            f"{self.rejected_labelled} of {self.rejected} with REVIEW or NG have labels that agree"
        ]
        disputed, agreeing = len(self.disputed), self.ok_labelled + self.rejected_labelled
        if without := self.ok + self.rejected - agreeing - disputed:
            told.append(f"{without} without labels: label all")
        if disputed:
            named = ", ".join(map(str, self.disputed[:10])) + (", ..." if disputed > 10 else "")
            told.append(
                f"1 is disputed: settle it (inspection {named})"
                if disputed == 1
                else f"{disputed} are disputed: settle them (inspections {named})"
            )
        return "; ".join(told)


@dataclass(frozen=True, slots=True)
class Confirmed:
    """The labelled parts of a job, by ascending inspection id.

    Attributes:
        frames: those that are really good or really bad, with their pictures
        disputed: inspections of which users say different things; these are not used
        missing: inspections that were labelled and have no stored frame any more, likewise
        missing_since: time of the oldest of these, ISO 8601, UTC; "" without any
        of_others: inspections with another bundle under the id of the job, likewise: they are of
            another product
        other_bundles: names of these bundles
        unusable: inspections that were labelled and cannot be used, and why; likewise
        labels: what the labels of each labelled inspection say together
        sample: how much of the random sample is labelled
    """

    frames: tuple[ConfirmedFrame, ...]
    disputed: tuple[int, ...]
    missing: tuple[int, ...]
    missing_since: str
    of_others: tuple[int, ...]
    other_bundles: tuple[str, ...]
    unusable: Mapping[int, str]
    labels: Mapping[int, Agreed]
    sample: SampleLabels

    @property
    def to_train_on(self) -> list[ConfirmedFrame]:
        """Good parts outside the hold-out."""
        return [frame for frame in self.frames if not frame.bad and not frame.held_out]

    def checked(self, check: Callable[[Pixels], object]) -> Confirmed:
        """Decode every frame, and move those that cannot be used to ``unusable``.

        Args:
            check: called with each frame; raises ``ValueError`` for one that must not be used
        """
        errors = find_bad_images([frame.path for frame in self.frames], check)
        reasons = {error.path: error.reason for error in errors}
        bad = {f.inspection_id: reasons[f.path] for f in self.frames if f.path in reasons}
        return self.without(bad)

    def without(self, unusable: Mapping[int, str]) -> Confirmed:
        """The same with some frames moved to ``unusable``."""
        kept = tuple(frame for frame in self.frames if frame.inspection_id not in unusable)
        return replace(self, frames=kept, unusable={**self.unusable, **unusable})

    def told(self) -> list[str]:
        """What is not used, in words."""
        told = []
        if self.disputed:
            told.append(
                f"not used: {len(self.disputed)} labelled parts whose labels contradict each "
                f"other, inspection{listed(self.disputed)}"
            )
        if self.missing:
            told.append(
                f"not used: {len(self.missing)} labelled parts whose stored frame is gone, the "
                f"oldest of {self.missing_since[:10]} (see [records] pictures_mb)"
            )
        if self.of_others:
            told.append(
                f"not used: {len(self.of_others)} labelled parts that were inspected with another "
                f"bundle under the id of this job, {', '.join(self.other_bundles)}, "
                f"inspection{listed(self.of_others)}"
            )
        if self.unusable:
            reasons = [f"{number}: {reason}" for number, reason in self.unusable.items()]
            told.append(
                f"not used: {len(reasons)} labelled parts that cannot be used, "
                f"inspection{listed(reasons)}"
            )
        return told


@dataclass(slots=True)
class _Found:
    """What is found while records are read; see ``Confirmed``."""

    records: list[tuple[InspectionRecord, Path, bool]] = field(default_factory=list)
    disputed: list[int] = field(default_factory=list)
    missing: list[InspectionRecord] = field(default_factory=list)
    of_others: list[InspectionRecord] = field(default_factory=list)
    unusable: dict[int, str] = field(default_factory=dict)


def confirmed_frames(
    records: Path,
    pictures: Path,
    job: int,
    bundle: str,
    keep: Callable[[Path], Path | None] = lambda path: path,
) -> Confirmed:
    """Read what people said of the parts of a job.

    Args:
        records: the SQLite file of the records
        pictures: folder of the stored pictures
        job: id of the job
        bundle: name of the job's bundle; parts that were inspected with another are not used
        keep: called with each frame that can be used; returns where it stays, None if it is gone

    Raises:
        RecordError: the file is missing or is not a records file
    """
    by_part: dict[int, list[Label]] = defaultdict(list)
    for label in read_labels(records):
        by_part[label.inspection_id].append(label)
    said = {part: verdict for part, labels in by_part.items() if (verdict := agreed(labels))}
    found = _Found()
    newest = ""
    for record in read_records(records, Filter(job=job, labelled=True)):
        number = record.inspection_id
        if number not in said:  # labelled after the labels were read
            continue
        if record.bundle != bundle:
            found.of_others.append(record)
            continue
        newest = max(newest, *(label.time for label in by_part[number]))
        path = _frame_of(record, pictures)
        if said[number] == "disputed":
            found.disputed.append(number)
        elif record.result not in VERDICTS:
            found.unusable[number] = f"its result is {record.result}"
        elif path is None or (kept := keep(path)) is None:
            found.missing.append(record)
        else:
            found.records.append((record, kept, said[number] == "bad"))
    first = first_inspections(records, job, {record.part_id for record, *_ in found.records})
    return Confirmed(
        frames=tuple(
            ConfirmedFrame(
                record.inspection_id,
                path,
                bad,
                record.sampled == 1,
                first.get(record.inspection_id, record.inspection_id),
            )
            for record, path, bad in found.records
        ),
        disputed=tuple(found.disputed),
        missing=tuple(record.inspection_id for record in found.missing),
        missing_since=min((record.triggered_at for record in found.missing), default=""),
        of_others=tuple(record.inspection_id for record in found.of_others),
        other_bundles=tuple(sorted({str(record.bundle) for record in found.of_others})),
        unusable=found.unusable,
        labels=said,
        sample=_labels_of_sample(records, pictures, job, bundle, said, newest),
    )


def _labels_of_sample(
    records: Path,
    pictures: Path,
    job: int,
    bundle: str,
    said: Mapping[int, Agreed],
    newest: str,
) -> SampleLabels:
    """How much of the random sample of a job is labelled, up to the time of the newest label."""
    there: dict[bool, list[bool]] = {True: [], False: []}
    disputed = []
    wanted = Filter(job=job, sampled=True, pictured=True, results=VERDICTS, until=newest)
    for record in read_records(records, wanted):
        if record.bundle == bundle and _frame_of(record, pictures) is not None:
            verdict = said.get(record.inspection_id)
            there[record.result == OK].append(verdict in ("good", "bad"))
            if verdict == "disputed":
                disputed.append(record.inspection_id)
    ok, rejected = there[True], there[False]
    return SampleLabels(len(ok), sum(ok), len(rejected), sum(rejected), tuple(disputed))


def no_longer_good(confirmed: Confirmed, trained_on: Collection[int]) -> list[int]:
    """Those of the inspections that a network was trained on that are not labelled good now."""
    return sorted(number for number in trained_on if confirmed.labels.get(number) != "good")


def _frame_of(record: InspectionRecord, pictures: Path) -> Path | None:
    if record.picture is None:
        return None
    path = pictures / f"{record.picture}_frame.png"
    return path if path.is_file() else None
