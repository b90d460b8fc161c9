"""The handshake between PLC and station: a state machine without input, output or clock.

Every input carries the time (seconds of a monotonic clock) and returns what is to be done, in
order. The practice is that of industrial vision sensors: trigger and acknowledge, results held
until they are taken, then a bounded queue.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace

from rdx_fast.line.signals import (
    WORD,
    Command,
    Controls,
    Counts,
    ErrorCode,
    Finding,
    GiveUp,
    Inspect,
    Publish,
    Record,
    ResultCode,
    SelectJob,
    Status,
    Taken,
    Verdict,
)


@dataclass(frozen=True, slots=True)
class Rules:
    """``queue``: results that may wait for the PLC, the one shown and the one being made among
    them. ``deadline_ms``: from trigger to result, where the PLC gives none. ``watchdog_ms``: how
    long the PLC's heartbeat may stand still while it enables the station, 0 for ever. ``hang_ms``:
    after this an inspection is given up for lost, ``job_ms``: likewise while a job is loaded.
    ``record_ms``: how long past the deadline a verdict waits to be on disk."""

    queue: int = 8
    deadline_ms: int = 1000
    watchdog_ms: int = 2000
    heartbeat_ms: int = 250
    hang_ms: int = 5000
    job_ms: int = 60_000
    record_ms: int = 1000

    def __post_init__(self) -> None:
        for name in ("queue", "deadline_ms", "heartbeat_ms", "hang_ms", "job_ms", "record_ms"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, wanted at least 1")
        if self.watchdog_ms < 0:
            raise ValueError(f"watchdog_ms is {self.watchdog_ms}, wanted 0 (none) or more")
        if self.deadline_ms > WORD:
            raise ValueError(f"deadline_ms is {self.deadline_ms}, wanted at most {WORD}")


@dataclass(slots=True)
class _Pending:
    """A verdict on its way to the PLC: made, recorded, then shown."""

    verdict: Verdict
    recorded: bool = False

    @property
    def decided(self) -> bool:
        return self.verdict.code is not ResultCode.NONE


@dataclass(slots=True)
class _Flags:
    missed_trigger: bool = False
    overrun: bool = False
    record_alarm: bool = False
    error: ErrorCode = ErrorCode.NONE


@dataclass(slots=True)
class _Job:
    active: int = 0
    wanted: int = 0
    error: ErrorCode = ErrorCode.NONE
    detail: str = ""
    being_selected: int = 0


@dataclass(slots=True)
class Handshake:
    """See the module. ``jobs``: the ids that the station knows; ``next_id``: the first inspection's
    id. Not thread-safe: the caller sees to one input at a time, with times that never go back.

    What holds at all times: OK and NG are never both set; OK only for a part that was inspected, in
    time, by the job that was asked for; data are published before ``valid``; every trigger edge
    that is acknowledged is answered exactly once, in order; what is shown was recorded first,
    unless the record failed and the alarm stands."""

    rules: Rules
    jobs: frozenset[int]
    next_id: int = 1
    _online: bool = False
    _controls: Controls | None = None
    _pending: deque[_Pending] = field(default_factory=deque)
    _shown: Verdict | None = None
    _valid: bool = False
    _trigger_ack: bool = False
    _engine_busy: tuple[int, float] | None = None
    _alive: float = 0.0
    _link_lost: bool = False
    _beat: float = 0.0
    _heartbeat: int = 0
    _latency_s: float = 0.0
    _overdue: set[tuple[int, int]] = field(default_factory=set)  # shown before they were on disk
    _flags: _Flags = field(default_factory=_Flags)
    _counts: Counts = field(default_factory=Counts)
    _job: _Job = field(default_factory=_Job)
    _published: Status = field(default_factory=Status)
    _out: list[Command] = field(default_factory=list)

    # Inputs

    def go_online(self, job: int, now: float) -> list[Command]:
        """The station is ready to inspect, with ``job`` selected."""
        self._online = True
        self._job.active = self._job.wanted = job
        self._beat = now
        return self._commands(now)

    def go_offline(self, now: float) -> list[Command]:
        """No more inspections; what is not decided becomes an error."""
        self._online = False
        self._fail_undecided(ErrorCode.OFFLINE, "the station went offline", now)
        return self._commands(now)

    def write(self, controls: Controls, now: float) -> list[Command]:
        """The PLC has written its controls; the first write after a start makes no edges."""
        before, self._controls = self._controls, controls
        if before is None or controls.heartbeat != before.heartbeat or not before.enable:
            self._alive = now
            self._link_lost = False
        if before is None:
            before = replace(controls, job=0, offline=False)
        if controls.offline and not before.offline:
            self._fail_undecided(ErrorCode.OFFLINE, "the PLC took the station offline", now)
        if controls.reset and not before.reset:
            self._reset()
        if controls.job not in (before.job, 0):
            self._select(controls.job)
        if controls.ack and not before.ack:
            self._take(now)
        if controls.trigger and not before.trigger:
            self._trigger_ack = self._trigger(
                controls.part_id, controls.deadline_ms, controls.enable, now
            )
        elif not controls.trigger:
            self._trigger_ack = False
        return self._commands(now)

    def trigger(self, part_id: int, deadline_ms: int, job: int, now: float) -> list[Command]:
        """A trigger by a call instead of by register, where there is no bit to be enabled."""
        if job not in (0, self._job.wanted):
            self._select(job)
        self._trigger(part_id, deadline_ms, True, now)
        return self._commands(now)

    def acknowledge(self, now: float) -> list[Command]:
        """The shown result has been taken, by a call."""
        self._take(now)
        return self._commands(now)

    def reset(self, now: float) -> list[Command]:
        """Clear flags and alarms, by a call. Results stay."""
        self._reset()
        return self._commands(now)

    def select_job(self, job: int, now: float) -> list[Command]:
        """Ask for a job by a call."""
        self._select(job)
        return self._commands(now)

    def job_selected(self, job: int, now: float) -> list[Command]:
        """``SelectJob`` succeeded."""
        self._selection_over(now)
        self._job.active = job
        if job == self._job.wanted:
            self._job.error, self._job.detail = ErrorCode.NONE, ""
        return self._commands(now)

    def job_failed(self, job: int, error: ErrorCode, detail: str, now: float) -> list[Command]:
        """``SelectJob`` failed: the job that was active stays, and parts of this one are errors."""
        self._selection_over(now)
        if job == self._job.wanted:
            self._job.error, self._job.detail = error, detail
        self._flags.error = error
        return self._commands(now)

    def finished(self, inspection_id: int, finding: Finding, now: float) -> list[Command]:
        """``Inspect`` is over. What was given up for lost, or decided already, changes nothing."""
        if self._engine_busy is not None and self._engine_busy[0] == inspection_id:
            self._engine_busy = None
        for pending in self._pending:
            if pending.verdict.inspection_id == inspection_id and not pending.decided:
                if finding.is_anomalous is None:
                    self._decide(pending, ResultCode.ERROR, finding.error, finding.detail, now)
                else:
                    pending.verdict = replace(
                        pending.verdict, score=finding.score, area_px=finding.area_px
                    )
                    code = ResultCode.NG if finding.is_anomalous else ResultCode.OK
                    self._decide(pending, code, ErrorCode.NONE, "", now)
        return self._commands(now)

    def recorded(
        self, inspection_id: int, revision: int, succeeded: bool, now: float
    ) -> list[Command]:
        """``Record`` is on disk, or could not be put there."""
        for pending in self._pending:
            verdict = pending.verdict
            if (verdict.inspection_id, verdict.revision) == (inspection_id, revision):
                pending.recorded = True
        self._overdue.discard((inspection_id, revision))
        self._flags.record_alarm = not succeeded
        if not succeeded:
            self._flags.error = ErrorCode.RECORD
        return self._commands(now)

    def tick(self, now: float) -> list[Command]:
        """Time has passed."""
        return self._commands(now)

    def next_tick(self) -> float:
        """When ``tick`` is wanted at the latest."""
        rules = self.rules
        times = [self._beat + rules.heartbeat_ms / 1000]
        if self._watched():
            times.append(self._alive + rules.watchdog_ms / 1000)
        if self._engine_busy is not None:
            times.append(self._engine_busy[1] + self._hang_s())
        for pending in self._pending:
            if not pending.decided or pending.verdict.code in (ResultCode.OK, ResultCode.NG):
                times.append(pending.verdict.deadline)
            elif not pending.recorded:
                times.append(self._record_limit(pending))
        return min(times)

    @property
    def status(self) -> Status:
        """What was published last."""
        return self._published

    # Rules

    def _trigger(self, part_id: int, deadline_ms: int, enabled: bool, now: float) -> bool:
        """Whether there will be an answer."""
        self._count("triggers")
        allowed = (deadline_ms or self.rules.deadline_ms) / 1000
        part = Verdict(
            inspection_id=self.next_id,
            part_id=part_id,
            job=self._job.wanted,
            triggered=now,
            deadline=now + allowed,
        )
        self.next_id += 1
        pending = _Pending(part)
        if self._room() == 0:
            # No place for an answer: not even acknowledged, so the PLC knows that it has none.
            self._flags.overrun = True
            self._flags.error = ErrorCode.OVERRUN
            self._count("missed")
            lost = replace(
                part,
                code=ResultCode.ERROR,
                error=ErrorCode.OVERRUN,
                detail="results were not acknowledged in time",
                decided=now,
            )
            self._out.append(Record(lost, shown=False))
            return False
        self._pending.append(pending)
        refusal = self._refusal(enabled)
        if refusal is not None:
            error, detail = refusal
            self._decide(pending, ResultCode.ERROR, error, detail, now)
        else:
            self._engine_busy = (part.inspection_id, now)
            self._out.append(Inspect(part))
        return True

    def _refusal(self, enabled: bool) -> tuple[ErrorCode, str] | None:
        """Why a trigger cannot be obeyed now."""
        if not self._online or (self._controls is not None and self._controls.offline):
            return ErrorCode.OFFLINE, "the station is offline"
        if not enabled:
            return ErrorCode.OFFLINE, "the PLC has not set enable"
        if self._link_lost:
            return ErrorCode.LINK_LOST, "the PLC's heartbeat stands still"
        if self._job.error is not ErrorCode.NONE:
            return self._job.error, self._job.detail
        if self._engine_busy is not None:
            self._flags.missed_trigger = True
            self._count("missed")
            return ErrorCode.MISSED_TRIGGER, "the part before was still being inspected"
        return None

    def _count(self, what: str) -> None:
        self._counts = replace(self._counts, **{what: getattr(self._counts, what) + 1})

    def _room(self) -> int:
        return self.rules.queue - len(self._pending) - (self._shown is not None)

    def _select(self, job: int) -> None:
        self._job.wanted = job
        if job in self.jobs:
            self._job.error, self._job.detail = ErrorCode.NONE, ""
            self._job.being_selected += 1
            self._out.append(SelectJob(job))
        else:
            known = ", ".join(map(str, sorted(self.jobs)))
            self._job.error = self._flags.error = ErrorCode.JOB_UNKNOWN
            self._job.detail = f"job {job} is not configured: known are {known}"

    def _take(self, now: float) -> None:
        if self._shown is not None and self._valid:
            self._count("answered")
            self._out.append(Taken(self._shown, now - self._shown.triggered))
            self._shown, self._valid = None, False
            self._publish()  # nothing, before the next one

    def _reset(self) -> None:
        self._flags = _Flags(record_alarm=self._flags.record_alarm)
        if self._job.error is not ErrorCode.NONE:
            self._select(self._job.wanted)  # it may have been mended

    def _selection_over(self, now: float) -> None:
        self._job.being_selected = max(0, self._job.being_selected - 1)
        if self._engine_busy is not None:
            self._engine_busy = (self._engine_busy[0], now)  # loading a job is no hanging

    def _hang_s(self) -> float:
        rules = self.rules
        return (rules.job_ms if self._job.being_selected else rules.hang_ms) / 1000

    def _decide(
        self, pending: _Pending, code: ResultCode, error: ErrorCode, detail: str, now: float
    ) -> None:
        verdict = pending.verdict
        if code in (ResultCode.OK, ResultCode.NG) and now > verdict.deadline:
            code, error, detail = ResultCode.LATE, ErrorCode.DEADLINE, "the deadline has passed"
        if code is ResultCode.ERROR:
            self._flags.error = error
        pending.verdict = replace(
            verdict,
            code=code,
            error=error,
            detail=detail,
            decided=now,
            revision=verdict.revision + 1,
        )
        pending.recorded = False
        self._out.append(Record(pending.verdict))

    def _fail_undecided(self, error: ErrorCode, detail: str, now: float) -> None:
        for pending in self._pending:
            if not pending.decided:
                self._decide(pending, ResultCode.ERROR, error, detail, now)

    def _watched(self) -> bool:
        enabled = self._controls is not None and self._controls.enable
        return enabled and self.rules.watchdog_ms > 0 and not self._link_lost

    def _let_time_pass(self, now: float) -> None:
        rules = self.rules
        if self._watched() and now >= self._alive + rules.watchdog_ms / 1000:
            self._link_lost = True
            self._flags.error = ErrorCode.LINK_LOST
            self._fail_undecided(ErrorCode.LINK_LOST, "the PLC's heartbeat stands still", now)
        if self._engine_busy is not None:
            inspection_id, since = self._engine_busy
            if now >= since + self._hang_s():
                self._engine_busy = None
                self._flags.error = ErrorCode.ENGINE_HUNG
                if self._job.being_selected:
                    self._job.error = ErrorCode.JOB_BROKEN
                    self._job.detail = f"job {self._job.wanted} did not load in time"
                self._out.append(GiveUp(inspection_id))
                self._job.being_selected = 1
                self._out.append(SelectJob(self._job.active))
        for pending in self._pending:
            code = pending.verdict.code
            if now < pending.verdict.deadline:
                continue
            if not pending.decided or code in (ResultCode.OK, ResultCode.NG):
                # Not made, not on disk, or not asked for in time.
                detail = "the deadline has passed"
                self._decide(pending, ResultCode.LATE, ErrorCode.DEADLINE, detail, now)
            elif not pending.recorded and now >= self._record_limit(pending):
                pending.recorded = True
                self._overdue.add((pending.verdict.inspection_id, pending.verdict.revision))
                self._flags.error = ErrorCode.RECORD
        if now >= self._beat + rules.heartbeat_ms / 1000:
            self._beat = now
            self._heartbeat = (self._heartbeat + 1) & WORD

    def _record_limit(self, pending: _Pending) -> float:
        verdict = pending.verdict
        return max(verdict.deadline, verdict.decided) + self.rules.record_ms / 1000

    def _show_next(self, now: float) -> None:
        """The oldest verdict, once it is recorded and the PLC has lowered its acknowledgement."""
        acknowledging = self._controls is not None and self._controls.ack
        if self._shown is not None or acknowledging or not self._pending:
            return
        if self._pending[0].recorded:
            verdict = self._pending.popleft().verdict
            self._latency_s = now - verdict.triggered
            self._shown = verdict
            if verdict.code is ResultCode.OK:
                self._count("passed")
            else:
                self._count("rejected")
            self._publish()  # the data, before they are valid
            self._valid = True

    def _commands(self, now: float) -> list[Command]:
        self._let_time_pass(now)
        self._show_next(now)
        self._publish()
        out, self._out = self._out, []
        return out

    def _publish(self) -> None:
        controls = self._controls
        triggered = controls is not None and controls.trigger
        offline = controls is not None and controls.offline
        online = self._online and not offline
        flags = self._flags
        status = Status(
            online=online,
            trigger_ready=(
                online
                and not triggered
                and not self._link_lost
                and self._engine_busy is None
                and self._room() > 0
            ),
            trigger_ack=self._trigger_ack,
            busy=self._engine_busy is not None,
            valid=self._valid,
            missed_trigger=flags.missed_trigger,
            overrun=flags.overrun,
            link_lost=self._link_lost,
            record_alarm=flags.record_alarm or bool(self._overdue),
            error=flags.error,
            result=self._shown,
            latency_s=self._latency_s,
            heartbeat=self._heartbeat,
            active_job=self._job.active,
            waiting=len(self._pending),
            counts=self._counts,
        )
        if status != self._published:
            self._published = status
            self._out.append(Publish(status))
