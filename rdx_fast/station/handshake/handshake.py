"""The handshake between PLC and station: a state machine without I/O and without a clock.

Every input method takes the time in seconds of a monotonic clock and returns the commands to
execute, in order. The protocol follows industrial vision sensors: trigger and acknowledge, results
held until they are acknowledged, and a bounded queue.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from rdx_fast.station.handshake.codes import WORD, ErrorCode, ResultCode
from rdx_fast.station.handshake.config import HandshakeConfig
from rdx_fast.station.handshake.inspection import Inspection, Outcome
from rdx_fast.station.handshake.results import Alarms, ResultQueue
from rdx_fast.station.handshake.signals import (
    Command,
    Controls,
    GiveUp,
    Inspect,
    Publish,
    SelectJob,
    Status,
    WriteRecord,
)


@dataclass(slots=True)
class _Job:
    active: int = 0
    wanted: int = 0
    error: ErrorCode = ErrorCode.NONE
    detail: str = ""
    being_selected: int = 0


@dataclass(slots=True)
class Handshake:
    """The state machine between PLC and station.

    Not thread-safe: the caller must pass one input at a time, with times that never decrease.
    Every input method returns the commands to execute, in order.

    These invariants always hold:

    - OK and NG are never both set.
    - A part is OK only if it was inspected in time with the requested job, and its verdict is OK,
      or REVIEW where the configuration lets that pass.
    - Data are published before ``valid`` is set.
    - Every acknowledged trigger edge is answered exactly once, in order.
    - A result is recorded before it is shown, unless recording failed and the alarm is set.

    Attributes:
        config: times and queue size
        jobs: ids of the configured jobs
        next_id: id of the next inspection
        deadlines_ms: time allowed from trigger to result by job, where it is not ``config``'s
    """

    config: HandshakeConfig
    jobs: frozenset[int]
    next_id: int = 1
    deadlines_ms: dict[int, float] = field(default_factory=dict)
    _online: bool = False
    _controls: Controls | None = None
    _trigger_ack: bool = False
    _engine_busy: tuple[int, float] | None = None
    _alive: float = 0.0
    _link_lost: bool = False
    _beat: float = 0.0
    _heartbeat: int = 0
    _alarms: Alarms = field(default_factory=Alarms)
    _job: _Job = field(default_factory=_Job)
    _published: Status = field(default_factory=Status)
    _out: list[Command] = field(default_factory=list)
    _results: ResultQueue = field(init=False)

    def __post_init__(self) -> None:
        self._results = ResultQueue(self.config, self._alarms, self._out)

    # Inputs

    def go_online(self, job: int, now: float) -> list[Command]:
        """Go online: the station is ready to inspect.

        Args:
            job: id of the active job
            now: time in seconds
        """
        self._online = True
        self._job.active = self._job.wanted = job
        self._beat = now
        return self._commands(now)

    def go_offline(self, now: float) -> list[Command]:
        """Go offline: every undecided inspection becomes ERROR.

        Args:
            now: time in seconds
        """
        self._online = False
        self._results.fail_undecided(ErrorCode.OFFLINE, "the station went offline", now)
        return self._commands(now)

    def write(self, controls: Controls, now: float) -> list[Command]:
        """The PLC has written its controls. The first write after a start makes no edges.

        Args:
            controls: all control bits and values, as they are after the write
            now: time in seconds
        """
        before, self._controls = self._controls, controls
        if before is None or controls.heartbeat != before.heartbeat or not before.enable:
            self._alive = now
            self._link_lost = False
        if before is None:
            before = replace(controls, job=0, offline=False)
        if controls.offline and not before.offline:
            self._results.fail_undecided(ErrorCode.OFFLINE, "the PLC took the station offline", now)
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
        """Trigger by a call instead of the control bits; ``enable`` is not needed.

        Args:
            part_id: the PLC's id of the part, 16 bits
            deadline_ms: time allowed from trigger to result in ms; 0 for the job's
            job: job to inspect with; 0 for the active one
            now: time in seconds
        """
        if job not in (0, self._job.wanted):
            self._select(job)
        self._trigger(part_id, deadline_ms, True, now)
        return self._commands(now)

    def acknowledge(self, now: float) -> list[Command]:
        """Acknowledge the shown result by a call instead of the control bits.

        Args:
            now: time in seconds
        """
        self._take(now)
        return self._commands(now)

    def reset(self, now: float) -> list[Command]:
        """Clear flags and alarms by a call instead of the control bits. Results stay.

        Args:
            now: time in seconds
        """
        self._reset()
        return self._commands(now)

    def select_job(self, job: int, now: float) -> list[Command]:
        """Request a job by a call instead of the register.

        Args:
            job: id of the job
            now: time in seconds
        """
        self._select(job)
        return self._commands(now)

    def job_selected(self, job: int, now: float, deadline_ms: float | None = None) -> list[Command]:
        """The command ``SelectJob`` succeeded.

        Args:
            job: id of the job, which is active now
            now: time in seconds
            deadline_ms: time that its parts are allowed from now on, in ms; None for no change
        """
        self._selection_over(now)
        if deadline_ms is not None:
            self.deadlines_ms = {**self.deadlines_ms, job: deadline_ms}
        self._job.active = job
        if job == self._job.wanted:
            self._job.error, self._job.detail = ErrorCode.NONE, ""
        return self._commands(now)

    def job_failed(self, job: int, error: ErrorCode, detail: str, now: float) -> list[Command]:
        """The command ``SelectJob`` failed.

        The active job stays active; parts triggered for the failed one are errors.

        Args:
            job: id of the job
            error: error code of those parts
            detail: the error in words
            now: time in seconds
        """
        self._selection_over(now)
        if job == self._job.wanted:
            self._job.error, self._job.detail = error, detail
        self._alarms.error = error
        return self._commands(now)

    def finished(self, inspection_id: int, outcome: Outcome, now: float) -> list[Command]:
        """The command ``Inspect`` is done.

        Without effect for an inspection that was aborted or is decided already.

        Args:
            inspection_id: id of the inspection
            outcome: what the inspector found
            now: time in seconds
        """
        if self._engine_busy is not None and self._engine_busy[0] == inspection_id:
            self._engine_busy = None
        self._results.finish(inspection_id, outcome, now)
        return self._commands(now)

    def recorded(
        self, inspection_id: int, revision: int, succeeded: bool, now: float
    ) -> list[Command]:
        """The command ``WriteRecord`` is done or has failed.

        Args:
            inspection_id: id of the inspection
            revision: revision of the inspection that was recorded
            succeeded: whether the records work
            now: time in seconds
        """
        self._results.recorded(inspection_id, revision, succeeded)
        return self._commands(now)

    def records_failing(self, failing: bool, now: float) -> list[Command]:
        """Report between results whether records or pictures can be written.

        Args:
            failing: True if any cannot be written; False once everything is on disk
            now: time in seconds
        """
        if failing and not self._alarms.record_alarm:
            self._alarms.error = ErrorCode.RECORD
        self._alarms.record_alarm = failing
        return self._commands(now)

    def drifted(self, cause: str, now: float) -> list[Command]:
        """Report a change of the line. It is shown until reset; parts are inspected as before.

        Args:
            cause: what has changed, in words
            now: time in seconds
        """
        self._alarms.drift_cause = cause
        return self._commands(now)

    def tick(self, now: float) -> list[Command]:
        """Let time pass. Call this at the latest at ``next_tick``.

        Args:
            now: time in seconds
        """
        return self._commands(now)

    def next_tick(self) -> float:
        """The latest time of the next call of ``tick``, in seconds."""
        config = self.config
        times = [self._beat + config.heartbeat_ms / 1000, *self._results.times()]
        if self._watched():
            times.append(self._alive + config.watchdog_ms / 1000)
        if self._engine_busy is not None:
            times.append(self._engine_busy[1] + self._hang_s())
        return min(times)

    @property
    def status(self) -> Status:
        """The status that was published last."""
        return self._published

    @property
    def requested_job(self) -> int:
        """Id of the job that parts are triggered for, which need not be active yet."""
        return self._job.wanted

    @property
    def controls(self) -> Controls | None:
        """The controls that the PLC wrote last; None before the first."""
        return self._controls

    def allowed_ms(self, deadline_ms: int, job: int) -> float:
        """Time allowed from trigger to result in ms: the PLC's, else the job's, else the station's.

        Args:
            deadline_ms: as for ``trigger``
            job: as for ``trigger``
        """
        of_job = self.deadlines_ms.get(job or self._job.wanted, self.config.deadline_ms)
        return deadline_ms or of_job

    # Transitions

    def _trigger(self, part_id: int, deadline_ms: int, enabled: bool, now: float) -> bool:
        """Accept or refuse a trigger. Returns whether it will be answered."""
        self._alarms.count("triggers")
        allowed = self.allowed_ms(deadline_ms, self._job.wanted) / 1000
        inspection = Inspection(
            inspection_id=self.next_id,
            part_id=part_id,
            job=self._job.wanted,
            triggered=now,
            deadline=now + allowed,
        )
        self.next_id += 1
        if self._results.room == 0:
            # No room for an answer: not acknowledged, so the PLC knows that none will come.
            self._alarms.overrun = True
            self._alarms.error = ErrorCode.OVERRUN
            self._alarms.count("missed")
            detail = "results were not acknowledged in time"
            lost = inspection.decide(Outcome(ResultCode.ERROR, ErrorCode.OVERRUN, detail), now)
            self._out.append(WriteRecord(lost, shown=False))
            return False
        self._results.add(inspection)
        refusal = self._refusal(enabled)
        if refusal is not None:
            error, detail = refusal
            self._results.decide(inspection, Outcome(ResultCode.ERROR, error, detail), now)
        else:
            self._engine_busy = (inspection.inspection_id, now)
            self._out.append(Inspect(inspection))
        return True

    def _refusal(self, enabled: bool) -> tuple[ErrorCode, str] | None:
        """Why the part cannot be inspected now, or None."""
        if not self._online or (self._controls is not None and self._controls.offline):
            return ErrorCode.OFFLINE, "the station is offline"
        if not enabled:
            return ErrorCode.OFFLINE, "the PLC has not set enable"
        if self._link_lost:
            return ErrorCode.LINK_LOST, "the PLC's heartbeat has stopped"
        if self._job.error is not ErrorCode.NONE:
            return self._job.error, self._job.detail
        if self._engine_busy is not None:
            self._alarms.missed_trigger = True
            self._alarms.count("missed")
            return ErrorCode.MISSED_TRIGGER, "the previous part was still being inspected"
        return None

    def _select(self, job: int) -> None:
        self._job.wanted = job
        if job in self.jobs:
            self._job.error, self._job.detail = ErrorCode.NONE, ""
            self._job.being_selected += 1
            self._out.append(SelectJob(job))
        else:
            known = ", ".join(map(str, sorted(self.jobs)))
            self._job.error = self._alarms.error = ErrorCode.JOB_UNKNOWN
            self._job.detail = f"job {job} is not configured: configured are {known}"

    def _take(self, now: float) -> None:
        if self._results.take(now):
            self._publish()  # no result, before the next one

    def _reset(self) -> None:
        self._alarms.reset()
        if self._job.error is not ErrorCode.NONE:
            self._select(self._job.wanted)  # it may have been repaired

    def _selection_over(self, now: float) -> None:
        self._job.being_selected = max(0, self._job.being_selected - 1)
        if self._engine_busy is not None:
            # Time spent loading a job does not count as hanging.
            self._engine_busy = (self._engine_busy[0], now)

    def _hang_s(self) -> float:
        config = self.config
        return (config.job_ms if self._job.being_selected else config.hang_ms) / 1000

    def _watched(self) -> bool:
        enabled = self._controls is not None and self._controls.enable
        return enabled and self.config.watchdog_ms > 0 and not self._link_lost

    def _let_time_pass(self, now: float) -> None:
        config = self.config
        if self._watched() and now >= self._alive + config.watchdog_ms / 1000:
            self._link_lost = True
            self._alarms.error = ErrorCode.LINK_LOST
            self._results.fail_undecided(
                ErrorCode.LINK_LOST, "the PLC's heartbeat has stopped", now
            )
        if self._engine_busy is not None:
            inspection_id, since = self._engine_busy
            if now >= since + self._hang_s():
                self._engine_busy = None
                self._alarms.error = ErrorCode.ENGINE_HUNG
                if self._job.being_selected:
                    self._job.error = ErrorCode.JOB_BROKEN
                    self._job.detail = f"job {self._job.wanted} did not load in time"
                self._out.append(GiveUp(inspection_id))
                self._job.being_selected = 1
                self._out.append(SelectJob(self._job.active))
        self._results.let_time_pass(now)
        if now >= self._beat + config.heartbeat_ms / 1000:
            self._beat = now
            self._heartbeat = (self._heartbeat + 1) & WORD

    def _show_next(self, now: float) -> None:
        """Show the oldest result once it is recorded and the PLC has cleared ``ack``."""
        acknowledging = self._controls is not None and self._controls.ack
        if not acknowledging and self._results.bring_next(now):
            self._publish()  # the data, before valid is set
            self._results.valid = True

    def _commands(self, now: float) -> list[Command]:
        self._let_time_pass(now)
        self._show_next(now)
        self._publish()
        out = self._out.copy()
        self._out.clear()
        return out

    def _publish(self) -> None:
        controls = self._controls
        triggered = controls is not None and controls.trigger
        offline = controls is not None and controls.offline
        online = self._online and not offline
        alarms, results = self._alarms, self._results
        status = Status(
            online=online,
            trigger_ready=(
                online
                and not triggered
                and not self._link_lost
                and self._engine_busy is None
                and results.room > 0
            ),
            trigger_ack=self._trigger_ack,
            busy=self._engine_busy is not None,
            valid=results.valid,
            missed_trigger=alarms.missed_trigger,
            overrun=alarms.overrun,
            link_lost=self._link_lost,
            record_alarm=alarms.record_alarm or bool(results.overdue),
            drift_cause=alarms.drift_cause,
            error=alarms.error,
            result=results.shown,
            review_as=self.config.review_as,
            latency_s=results.latency_s,
            heartbeat=self._heartbeat,
            active_job=self._job.active,
            waiting=len(results.pending),
            counts=alarms.counts,
        )
        if status != self._published:
            self._published = status
            self._out.append(Publish(status))
