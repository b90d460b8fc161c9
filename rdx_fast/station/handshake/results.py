"""The way of an outcome to the PLC: decided, recorded, shown in its turn, and acknowledged."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from rdx_fast.station.handshake.codes import ErrorCode, ResultCode
from rdx_fast.station.handshake.config import HandshakeConfig
from rdx_fast.station.handshake.inspection import Inspection, Outcome
from rdx_fast.station.handshake.signals import Command, Counts, Taken, WriteRecord


@dataclass(slots=True)
class Alarms:
    """What the PLC is told besides results: flags that stand until it resets them, and counts."""

    missed_trigger: bool = False
    overrun: bool = False
    record_alarm: bool = False
    error: ErrorCode = ErrorCode.NONE
    counts: Counts = field(default_factory=Counts)

    def count(self, what: str) -> None:
        self.counts = replace(self.counts, **{what: getattr(self.counts, what) + 1})

    def reset(self) -> None:
        """The record's alarm stays until the disk is back."""
        self.missed_trigger = self.overrun = False
        self.error = ErrorCode.NONE


@dataclass(slots=True)
class ResultQueue:
    """Inspections from the accepted trigger to the PLC's acknowledgement. Commands are added to
    ``out``.

    Attributes:
        config: the times and the room
        alarms: what the PLC is told besides results
        out: commands for the station
        pending: inspections that the PLC has not been shown, in order, by their id
        ready: ids of those that may be shown: on disk, or waited for too long
        overdue: id and revision of records that were not on disk when they were shown
        shown: the inspection that the PLC sees, which is not to be taken before ``valid``
        valid: whether the PLC may take it
        latency_s: from its trigger until it was shown, in seconds
    """

    config: HandshakeConfig
    alarms: Alarms
    out: list[Command]
    pending: dict[int, Inspection] = field(default_factory=dict)
    ready: set[int] = field(default_factory=set)
    overdue: set[tuple[int, int]] = field(default_factory=set)
    shown: Inspection | None = None
    valid: bool = False
    latency_s: float = 0.0

    @property
    def room(self) -> int:
        """For how many more parts."""
        return self.config.queue - len(self.pending) - (self.shown is not None)

    def add(self, inspection: Inspection) -> None:
        """A part that will be answered."""
        self.pending[inspection.inspection_id] = inspection

    def decide(self, inspection: Inspection, outcome: Outcome, now: float) -> None:
        """Once more if it is decided already; then it is to be recorded once more too."""
        self._decided(inspection.decide(outcome, now))

    def _decided(self, inspection: Inspection) -> None:
        assert inspection.outcome is not None
        if inspection.code is ResultCode.ERROR:
            self.alarms.error = inspection.outcome.error
        self.pending[inspection.inspection_id] = inspection
        self.ready.discard(inspection.inspection_id)
        self.out.append(WriteRecord(inspection))

    def finish(self, inspection_id: int, outcome: Outcome, now: float) -> None:
        """Decide by what the engine found, unless the part is decided already."""
        inspection = self.pending.get(inspection_id)
        if inspection is not None and inspection.outcome is None:
            self.decide(inspection, outcome, now)

    def fail_undecided(self, error: ErrorCode, detail: str, now: float) -> None:
        for inspection in list(self.pending.values()):
            if inspection.outcome is None:
                self.decide(inspection, Outcome(ResultCode.ERROR, error, detail), now)

    def recorded(self, inspection_id: int, revision: int, succeeded: bool) -> None:
        """A row is on disk, or could not be put there: then it is shown with the alarm."""
        inspection = self.pending.get(inspection_id)
        if inspection is not None and inspection.revision == revision:
            self.ready.add(inspection_id)
        self.overdue.discard((inspection_id, revision))
        self.alarms.record_alarm = not succeeded
        if not succeeded:
            self.alarms.error = ErrorCode.RECORD

    def let_time_pass(self, now: float) -> None:
        """What is not made, not on disk, or not asked for by its deadline is late; what is not on
        disk long after is shown all the same, with the alarm."""
        for inspection_id, inspection in list(self.pending.items()):
            if now < inspection.deadline:
                continue
            if inspection.outcome is None or inspection.outcome.inspected:
                self._decided(inspection.miss_deadline(now))
            elif inspection_id not in self.ready and now >= self._record_limit(inspection):
                self.ready.add(inspection_id)
                self.overdue.add((inspection_id, inspection.revision))
                self.alarms.error = ErrorCode.RECORD

    def times(self) -> Iterator[float]:
        """When ``let_time_pass`` will have something to do."""
        for inspection_id, inspection in self.pending.items():
            if inspection.outcome is None or inspection.outcome.inspected:
                yield inspection.deadline
            elif inspection_id not in self.ready:
                yield self._record_limit(inspection)

    def bring_next(self, now: float) -> bool:
        """Put the oldest inspection, if it is ready and none is there, where the PLC sees it, not
        valid yet. Whether it was done."""
        oldest = next(iter(self.pending), None)
        if self.shown is not None or oldest not in self.ready:
            return False
        self.ready.remove(oldest)
        self.shown = self.pending.pop(oldest)
        self.latency_s = now - self.shown.triggered
        self.alarms.count("passed" if self.shown.code is ResultCode.OK else "rejected")
        return True

    def take(self, now: float) -> bool:
        """The PLC has seen the result shown. Whether there was one."""
        if self.shown is None or not self.valid:
            return False
        self.alarms.count("answered")
        self.out.append(Taken(self.shown, now - self.shown.triggered))
        self.shown, self.valid = None, False
        return True

    def _record_limit(self, inspection: Inspection) -> float:
        return max(inspection.deadline, inspection.decided) + self.config.record_ms / 1000
