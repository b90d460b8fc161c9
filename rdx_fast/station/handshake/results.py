"""The queue of results: decided, recorded, shown to the PLC in order, and acknowledged."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from rdx_fast.station.handshake.codes import ErrorCode, ResultCode
from rdx_fast.station.handshake.config import HandshakeConfig
from rdx_fast.station.handshake.inspection import Inspection, Outcome
from rdx_fast.station.handshake.signals import Command, Counts, Taken, WriteRecord


@dataclass(slots=True)
class Alarms:
    """Flags and counts that the PLC reads besides results.

    Attributes:
        missed_trigger: a trigger came while the previous part was being inspected; until reset
        overrun: a trigger came while the result queue was full; until reset
        record_alarm: records or pictures cannot be written; until they can
        drift_cause: what has changed on the line, in words; until reset
        error: code of the last error; until reset
        counts: counts since the start
    """

    missed_trigger: bool = False
    overrun: bool = False
    record_alarm: bool = False
    drift_cause: str = ""
    error: ErrorCode = ErrorCode.NONE
    counts: Counts = field(default_factory=Counts)

    def count(self, what: str) -> None:
        """Increment a count.

        Args:
            what: name of a field of ``Counts``
        """
        self.counts = replace(self.counts, **{what: getattr(self.counts, what) + 1})

    def reset(self) -> None:
        """Clear the flags and the error. ``record_alarm`` stays until the disk works again."""
        self.missed_trigger = self.overrun = False
        self.drift_cause = ""
        self.error = ErrorCode.NONE


@dataclass(slots=True)
class ResultQueue:
    """Holds inspections from the accepted trigger to the PLC's acknowledgement.

    Commands for the station are appended to ``out``. The argument ``now`` of the methods is the
    time in seconds of the handshake's clock.

    Attributes:
        config: times and queue size
        alarms: flags and counts that the PLC reads besides results
        out: commands for the station
        pending: inspections not yet shown to the PLC, in order, by id
        ready: ids of pending inspections that may be shown: on disk, or overdue
        overdue: id and revision of records that were not on disk in time
        shown: the inspection that the PLC sees; it must not be read before ``valid`` is set
        valid: whether the PLC may read and acknowledge it
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
        """How many more parts can be accepted."""
        return self.config.queue - len(self.pending) - (self.shown is not None)

    def add(self, inspection: Inspection) -> None:
        """Accept an inspection, which will be answered.

        Args:
            inspection: the open inspection
        """
        self.pending[inspection.inspection_id] = inspection

    def decide(self, inspection: Inspection, outcome: Outcome, now: float) -> None:
        """Set or replace the outcome of an inspection, and have it recorded (again).

        Args:
            inspection: an accepted inspection
            outcome: the outcome
            now: time in seconds
        """
        self._decided(inspection.decide(outcome, now))

    def _decided(self, inspection: Inspection) -> None:
        assert inspection.outcome is not None
        if inspection.code is ResultCode.ERROR:
            self.alarms.error = inspection.outcome.error
        self.pending[inspection.inspection_id] = inspection
        self.ready.discard(inspection.inspection_id)
        self.out.append(WriteRecord(inspection))

    def finish(self, inspection_id: int, outcome: Outcome, now: float) -> None:
        """Set the outcome that the inspector found, unless the part is decided already.

        Args:
            inspection_id: id of the inspection
            outcome: the outcome
            now: time in seconds
        """
        inspection = self.pending.get(inspection_id)
        if inspection is not None and inspection.outcome is None:
            self.decide(inspection, outcome, now)

    def fail_undecided(self, error: ErrorCode, detail: str, now: float) -> None:
        """Set the outcome ERROR for every undecided inspection.

        Args:
            error: error code
            detail: the error in words
            now: time in seconds
        """
        for inspection in list(self.pending.values()):
            if inspection.outcome is None:
                self.decide(inspection, Outcome(ResultCode.ERROR, error, detail), now)

    def recorded(self, inspection_id: int, revision: int, succeeded: bool) -> None:
        """A row is on disk, or writing it failed: the result is then shown with the alarm.

        Args:
            inspection_id: id of the inspection
            revision: revision of the inspection that was recorded
            succeeded: whether the records work
        """
        inspection = self.pending.get(inspection_id)
        if inspection is not None and inspection.revision == revision:
            self.ready.add(inspection_id)
        self.overdue.discard((inspection_id, revision))
        self.alarms.record_alarm = not succeeded
        if not succeeded:
            self.alarms.error = ErrorCode.RECORD

    def let_time_pass(self, now: float) -> None:
        """Apply the time limits.

        A result that is not decided, on disk and shown by its deadline becomes LATE. If it is not
        on disk ``record_ms`` later, it is shown nevertheless, with the alarm.
        """
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
        """Times at which ``let_time_pass`` has something to do, in seconds."""
        for inspection_id, inspection in self.pending.items():
            if inspection.outcome is None or inspection.outcome.inspected:
                yield inspection.deadline
            elif inspection_id not in self.ready:
                yield self._record_limit(inspection)

    def bring_next(self, now: float) -> bool:
        """Show the oldest inspection, not yet valid, if it is ready and no other one is shown.

        Returns:
            Whether an inspection was moved to ``shown``.
        """
        oldest = next(iter(self.pending), None)
        if self.shown is not None or oldest not in self.ready:
            return False
        self.ready.remove(oldest)
        self.shown = self.pending.pop(oldest)
        self.latency_s = now - self.shown.triggered
        told = self.shown.code.told(self.config.review_as)
        self.alarms.count("passed" if told is ResultCode.OK else "rejected")
        if self.shown.code is ResultCode.REVIEW:
            self.alarms.count("reviews")
        return True

    def take(self, now: float) -> bool:
        """The PLC has acknowledged the shown result.

        Returns:
            Whether there was a valid result.
        """
        if self.shown is None or not self.valid:
            return False
        self.alarms.count("answered")
        self.out.append(Taken(self.shown, now - self.shown.triggered))
        self.shown, self.valid = None, False
        return True

    def _record_limit(self, inspection: Inspection) -> float:
        return max(inspection.deadline, inspection.decided) + self.config.record_ms / 1000
