"""The handshake among what it asks for; what must hold at all times (see ``test_handshake``)."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from rdx_fast.station.handshake.codes import ErrorCode, ResultCode
from rdx_fast.station.handshake.config import HandshakeConfig
from rdx_fast.station.handshake.handshake import Handshake
from rdx_fast.station.handshake.inspection import Inspection, Outcome
from rdx_fast.station.handshake.signals import (
    Command,
    Controls,
    GiveUp,
    Inspect,
    Publish,
    SelectJob,
    Status,
    Taken,
    WriteRecord,
)

STEP = 0.01
NEVER = 10**9
RULES = HandshakeConfig(
    queue=2,
    deadline_ms=20,
    watchdog_ms=30,
    heartbeat_ms=NEVER,
    hang_ms=40,
    job_ms=50,
    record_ms=10,
)
GOOD = Outcome(ResultCode.OK, score=0.5)
UNSURE = Outcome(ResultCode.REVIEW, score=0.9, area_px=1, p_value=0.01)
BAD = Outcome(ResultCode.NG, score=2.0, area_px=9)
FAILED = Outcome(ResultCode.ERROR, ErrorCode.ENGINE, "broken")


@dataclass
class World:
    """The handshake among what it asks for: it remembers what was asked and not answered, and
    checks each command as it comes."""

    handshake: Handshake = field(default_factory=lambda: Handshake(RULES, frozenset({1, 2})))
    now: float = 100.0
    controls: Controls = field(default_factory=Controls)
    inspecting: list[Inspection] = field(default_factory=list)
    given_up: list[Inspection] = field(default_factory=list)
    recording: list[Inspection] = field(default_factory=list)
    selecting: list[int] = field(default_factory=list)
    recorded: dict[int, Inspection] = field(default_factory=dict)
    unwritten: dict[int, Inspection] = field(default_factory=dict)
    may_pass: set[int] = field(default_factory=set)
    accepted: set[int] = field(default_factory=set)
    refused: set[int] = field(default_factory=set)
    shown: list[int] = field(default_factory=list)
    reviews: int = 0
    last: Status = field(default_factory=Status)

    def do(self, commands: list[Command]) -> None:
        for command in commands:
            match command:
                case Inspect(part):
                    assert not self.inspecting, "one inspection at a time"
                    self.inspecting.append(part)
                    self.accepted.add(part.inspection_id)
                case WriteRecord(inspection, shown):
                    assert inspection.outcome is not None
                    assert (inspection.code is ResultCode.ERROR) <= (
                        inspection.outcome.error is not ErrorCode.NONE
                    )
                    (self.accepted if shown else self.refused).add(inspection.inspection_id)
                    if shown:
                        self.recording.append(inspection)
                case GiveUp(inspection_id):
                    (hung,) = self.inspecting
                    assert hung.inspection_id == inspection_id
                    self.given_up.append(self.inspecting.pop())
                    self.selecting.clear()  # with the thread that hangs
                case SelectJob(job):
                    self.selecting.append(job)
                case Taken(inspection):
                    assert inspection.inspection_id == self.shown[-1]
                case Publish(status):
                    self.check(status)
                    self.last = status
        assert self.handshake.status == self.last
        assert self.handshake.next_tick() > self.now, "the timer would spin"

    def check(self, status: Status) -> None:
        assert not (status.ok and status.ng)
        assert status.valid <= (status.result is not None)
        assert (status.ok or status.ng) == (status.result is not None)
        assert status.ok == (status.code is ResultCode.OK)
        assert status.trigger_ready <= status.online
        assert status.waiting + (status.result is not None) <= RULES.queue
        result = status.result
        if result is None:
            assert not status.review
            assert status.code is ResultCode.NONE
            return
        assert status.review == (result.code is ResultCode.REVIEW)
        if status.review:
            assert status.code.name == self.handshake.config.review.upper()
        else:
            assert status.code is result.code
        if status.valid and not self.last.valid:
            assert self.last.result == result, "data are written before valid"
        if result.inspection_id not in self.shown:
            assert not self.last.valid, "a result is held until it is acknowledged"
            assert not status.valid, "data come first"
            assert result.inspection_id in self.accepted
            assert not self.shown or result.inspection_id > self.shown[-1], "in order, once"
            self.shown.append(result.inspection_id)
            self.reviews += status.review
            if status.ok:
                assert result.inspection_id in self.may_pass, "OK without an inspection"
            if status.ok or status.review:
                assert self.now < result.deadline, "OK or REVIEW after the deadline"
            if self.recorded.get(result.inspection_id) != result:
                assert status.record_alarm, "shown, and not on disk"
                assert not status.ok or result.inspection_id in self.unwritten

    # What the world does

    def write(self, **changes: Any) -> None:
        self.controls = replace(self.controls, **changes)
        self.do(self.handshake.write(self.controls, self.now))

    def finish(self, outcome: Outcome) -> None:
        part = self.inspecting.pop()
        passing = (GOOD, UNSURE) if self.handshake.config.review == "ok" else (GOOD,)
        if outcome in passing and self.now <= part.deadline:
            self.may_pass.add(part.inspection_id)
        self.do(self.handshake.finished(part.inspection_id, outcome, self.now))

    def finish_given_up(self) -> None:
        part = self.given_up.pop(0)
        self.do(self.handshake.finished(part.inspection_id, GOOD, self.now))

    def record(self, succeeded: bool) -> None:
        written = self.recording.pop(0)
        self.unwritten[written.inspection_id] = written
        if succeeded:  # and with it what the disk did not take before
            self.recorded |= self.unwritten
            self.unwritten.clear()
        done = (written.inspection_id, written.revision, succeeded)
        self.do(self.handshake.recorded(*done, self.now))

    def flush(self) -> None:
        """The disk has room again, and takes what waited."""
        self.recorded |= self.unwritten
        self.unwritten.clear()
        self.do(self.handshake.records_failing(False, self.now))

    def select(self, succeeded: bool) -> None:
        job = self.selecting.pop(0)
        if succeeded:
            self.do(self.handshake.job_selected(job, self.now))
        else:
            broken = ErrorCode.JOB_BROKEN
            self.do(self.handshake.job_failed(job, broken, "broken", self.now))

    def pass_time(self, seconds: float = STEP) -> None:
        self.now = round(self.now + seconds, 9)
        self.do(self.handshake.tick(self.now))

    def finish_everything(self) -> None:
        """With a PLC that asks for nothing more, every accepted part gets its answer."""
        self.write(trigger=False, ack=False)
        for _ in range(40):
            if self.selecting:
                self.select(True)
            if self.inspecting:
                self.finish(GOOD)
            if self.recording:
                self.record(True)
            self.write(ack=not self.controls.ack, heartbeat=self.controls.heartbeat ^ 1)
        assert self.shown == sorted(self.accepted), "each accepted part is answered exactly once"
        counts = self.handshake.status.counts
        assert counts.passed + counts.rejected == len(self.shown)
        assert counts.reviews == self.reviews
        assert not self.refused & self.accepted
