"""The way of a verdict to the PLC: made, recorded, shown in its turn, and taken."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from rdx_fast.station.handshake.config import HandshakeConfig
from rdx_fast.station.handshake.signals import (
    Command,
    Counts,
    ErrorCode,
    Finding,
    Record,
    ResultCode,
    Taken,
    Verdict,
)

_INSPECTED = (ResultCode.OK, ResultCode.NG)


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
class Pending:
    """A verdict that the PLC has not been shown."""

    verdict: Verdict
    recorded: bool = False

    @property
    def decided(self) -> bool:
        return self.verdict.code is not ResultCode.NONE


@dataclass(slots=True)
class ResultQueue:
    """The part of the handshake that begins with an accepted trigger. Commands are added to
    ``out``. ``shown``: the verdict that the PLC sees, which is not to be taken before ``valid``."""

    config: HandshakeConfig
    alarms: Alarms
    out: list[Command]
    pending: deque[Pending] = field(default_factory=deque)
    shown: Verdict | None = None
    valid: bool = False
    latency_s: float = 0.0
    overdue: set[tuple[int, int]] = field(default_factory=set)  # shown before they were on disk

    @property
    def room(self) -> int:
        """For how many more parts."""
        return self.config.queue - len(self.pending) - (self.shown is not None)

    def add(self, part: Verdict) -> Pending:
        """A part that will be answered."""
        pending = Pending(part)
        self.pending.append(pending)
        return pending

    def decide(
        self, pending: Pending, code: ResultCode, error: ErrorCode, detail: str, now: float
    ) -> None:
        """Once more if it is decided already; then it is to be recorded once more too."""
        verdict = pending.verdict
        if code in _INSPECTED and now > verdict.deadline:
            code, error, detail = ResultCode.LATE, ErrorCode.DEADLINE, "the deadline has passed"
        if code is ResultCode.ERROR:
            self.alarms.error = error
        pending.verdict = replace(
            verdict,
            code=code,
            error=error,
            detail=detail,
            decided=now,
            revision=verdict.revision + 1,
        )
        pending.recorded = False
        self.out.append(Record(pending.verdict))

    def finish(self, inspection_id: int, finding: Finding, now: float) -> None:
        """Decide by what an inspection found, unless the part is decided already."""
        for pending in self.pending:
            if pending.verdict.inspection_id == inspection_id and not pending.decided:
                if finding.is_anomalous is None:
                    self.decide(pending, ResultCode.ERROR, finding.error, finding.detail, now)
                else:
                    pending.verdict = replace(
                        pending.verdict, score=finding.score, area_px=finding.area_px
                    )
                    code = ResultCode.NG if finding.is_anomalous else ResultCode.OK
                    self.decide(pending, code, ErrorCode.NONE, "", now)

    def fail_undecided(self, error: ErrorCode, detail: str, now: float) -> None:
        for pending in self.pending:
            if not pending.decided:
                self.decide(pending, ResultCode.ERROR, error, detail, now)

    def recorded(self, inspection_id: int, revision: int, succeeded: bool) -> None:
        """A verdict is on disk, or could not be put there: then it is shown with the alarm."""
        for pending in self.pending:
            verdict = pending.verdict
            if (verdict.inspection_id, verdict.revision) == (inspection_id, revision):
                pending.recorded = True
        self.overdue.discard((inspection_id, revision))
        self.alarms.record_alarm = not succeeded
        if not succeeded:
            self.alarms.error = ErrorCode.RECORD

    def let_time_pass(self, now: float) -> None:
        """What is not made, not on disk, or not asked for by its deadline is late; what is not on
        disk long after is shown all the same, with the alarm."""
        for pending in self.pending:
            if now < pending.verdict.deadline:
                continue
            if not pending.decided or pending.verdict.code in _INSPECTED:
                detail = "the deadline has passed"
                self.decide(pending, ResultCode.LATE, ErrorCode.DEADLINE, detail, now)
            elif not pending.recorded and now >= self._record_limit(pending):
                pending.recorded = True
                self.overdue.add((pending.verdict.inspection_id, pending.verdict.revision))
                self.alarms.error = ErrorCode.RECORD

    def times(self) -> Iterator[float]:
        """When ``let_time_pass`` will have something to do."""
        for pending in self.pending:
            if not pending.decided or pending.verdict.code in _INSPECTED:
                yield pending.verdict.deadline
            elif not pending.recorded:
                yield self._record_limit(pending)

    def bring_next(self, now: float) -> bool:
        """Put the oldest verdict where the PLC sees it, not valid yet, if it is recorded and none
        is there. Whether it was done."""
        if self.shown is not None or not self.pending or not self.pending[0].recorded:
            return False
        verdict = self.pending.popleft().verdict
        self.latency_s = now - verdict.triggered
        self.shown = verdict
        self.alarms.count("passed" if verdict.code is ResultCode.OK else "rejected")
        return True

    def take(self, now: float) -> bool:
        """The PLC has seen the verdict shown. Whether there was one."""
        if self.shown is None or not self.valid:
            return False
        self.alarms.count("answered")
        self.out.append(Taken(self.shown, now - self.shown.triggered))
        self.shown, self.valid = None, False
        return True

    def _record_limit(self, pending: Pending) -> float:
        verdict = pending.verdict
        return max(verdict.deadline, verdict.decided) + self.config.record_ms / 1000
