"""Signals between PLC, handshake and station: controls, status and commands."""

from __future__ import annotations

from dataclasses import dataclass

from rdx_fast.station.handshake.codes import ErrorCode, ResultCode
from rdx_fast.station.handshake.inspection import Inspection, Outcome


@dataclass(frozen=True, slots=True)
class Controls:
    """The values that the PLC writes. Numbers have 16 bits.

    ``trigger``, ``ack`` and ``reset`` act on their rising edges.

    Attributes:
        enable: triggers are allowed and the PLC's heartbeat is supervised
        trigger: inspect the part ``part_id``
        ack: the shown result was read
        reset: clear flags and alarm, and load a failed job again
        offline: take the station offline while set
        part_id: id of the part, repeated in its result
        job: job to inspect with; 0 leaves the job unchanged
        heartbeat: a counter that the PLC changes regularly
        deadline_ms: time allowed from trigger to result in ms; 0 for the job's, or else the
            station's
    """

    enable: bool = False
    trigger: bool = False
    ack: bool = False
    reset: bool = False
    offline: bool = False
    part_id: int = 0
    job: int = 0
    heartbeat: int = 0
    deadline_ms: int = 0


@dataclass(frozen=True, slots=True)
class Counts:
    """Counts since the start.

    Attributes:
        triggers: trigger edges received
        answered: results acknowledged
        passed: results shown as OK
        rejected: results shown as anything else
        reviews: results that were REVIEW, which count as passed or rejected too
        missed: triggers that came too early to be inspected
    """

    triggers: int = 0
    answered: int = 0
    passed: int = 0
    rejected: int = 0
    reviews: int = 0
    missed: int = 0


@dataclass(frozen=True, slots=True)
class Status:
    """The values that the PLC reads.

    Attributes:
        online: the station accepts triggers
        trigger_ready: a trigger would start an inspection now
        trigger_ack: the trigger was accepted and will be answered
        busy: a part is being inspected
        valid: ``result`` is complete and may be read
        missed_trigger: a trigger came while the previous part was being inspected; until reset
        overrun: a trigger came while the result queue was full; until reset
        link_lost: the PLC's heartbeat has stopped
        record_alarm: records or pictures cannot be written
        drift_cause: what has changed on the line, in words; empty for nothing, until reset
        error: the station's last error, until reset; the part's own error is in ``result``
        result: the inspection shown; None while there is none
        review_as: the code that stands for REVIEW in ``code``
        latency_s: from its trigger until it was shown, in seconds
        heartbeat: a counter that changes while the station runs, 16 bits
        active_job: id of the active job
        waiting: inspections not yet shown
        counts: counts since the start
    """

    online: bool = False
    trigger_ready: bool = False
    trigger_ack: bool = False
    busy: bool = False
    valid: bool = False
    missed_trigger: bool = False
    overrun: bool = False
    link_lost: bool = False
    record_alarm: bool = False
    drift_cause: str = ""
    error: ErrorCode = ErrorCode.NONE
    result: Inspection | None = None
    review_as: ResultCode = ResultCode.NG
    latency_s: float = 0.0
    heartbeat: int = 0
    active_job: int = 0
    waiting: int = 0
    counts: Counts = Counts()

    @property
    def drift(self) -> bool:
        """Whether brightness, sharpness or scores have changed; until reset."""
        return bool(self.drift_cause)

    @property
    def outcome(self) -> Outcome | None:
        """Outcome of the shown result; None while there is none."""
        return None if self.result is None else self.result.outcome

    @property
    def code(self) -> ResultCode:
        """Code of the shown result as a PLC reads it; ``NONE`` while there is none."""
        code = ResultCode.NONE if self.result is None else self.result.code
        return code.told(self.review_as)

    @property
    def ok(self) -> bool:
        """Whether the result is shown as OK."""
        return self.code is ResultCode.OK

    @property
    def ng(self) -> bool:
        """Whether the result is shown as anything but OK: NG, REVIEW, ERROR or LATE."""
        return self.result is not None and not self.ok

    @property
    def review(self) -> bool:
        """Whether the result is REVIEW, whatever ``code`` shows."""
        return self.result is not None and self.result.code is ResultCode.REVIEW


@dataclass(frozen=True, slots=True)
class Inspect:
    """Grab a frame and score it; answer with ``Handshake.finished``.

    Attributes:
        inspection: the open inspection
    """

    inspection: Inspection


@dataclass(frozen=True, slots=True)
class SelectJob:
    """Make a job the active one; answer with ``Handshake.job_selected`` or ``job_failed``.

    Attributes:
        job: id of the job
    """

    job: int


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Abort an inspection whose engine call hangs.

    The engine is opened again when the active job is selected next.

    Attributes:
        inspection_id: id of the inspection
    """

    inspection_id: int


@dataclass(frozen=True, slots=True)
class WriteRecord:
    """Write an inspection to disk; answer with ``Handshake.recorded``.

    Attributes:
        inspection: the decided inspection, which replaces an earlier revision
        shown: False for an inspection that the PLC is never shown (overrun); it needs no answer
    """

    inspection: Inspection
    shown: bool = True


@dataclass(frozen=True, slots=True)
class Publish:
    """Let the PLC read a status, before any later one.

    Attributes:
        status: the new status
    """

    status: Status


@dataclass(frozen=True, slots=True)
class Taken:
    """The PLC has acknowledged a result.

    Attributes:
        inspection: the inspection
        after_s: from its trigger until the acknowledgement, in seconds
    """

    inspection: Inspection
    after_s: float


Command = Inspect | SelectJob | GiveUp | WriteRecord | Publish | Taken
