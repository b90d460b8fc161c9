"""What PLC, handshake and station say to each other."""

from __future__ import annotations

from dataclasses import dataclass

from rdx_fast.station.handshake.codes import ErrorCode, ResultCode
from rdx_fast.station.handshake.inspection import Inspection, Outcome


@dataclass(frozen=True, slots=True)
class Controls:
    """What the PLC writes. ``part_id``, ``job``, ``heartbeat``, ``deadline_ms``: 16 bits each; job
    0 leaves the job as it is, deadline 0 is the configuration's."""

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
    """Since the start: trigger edges, results acknowledged, results shown that were OK and that
    were not, triggers that came too early."""

    triggers: int = 0
    answered: int = 0
    passed: int = 0
    rejected: int = 0
    missed: int = 0


@dataclass(frozen=True, slots=True)
class Status:
    """What the PLC reads. ``result`` is data of the result shown, ``valid`` says that it may be
    taken; ``ok`` and ``ng`` follow from it. ``error``: the station's own alarm, not the part's."""

    online: bool = False
    trigger_ready: bool = False
    trigger_ack: bool = False
    busy: bool = False
    valid: bool = False
    missed_trigger: bool = False
    overrun: bool = False
    link_lost: bool = False
    record_alarm: bool = False
    error: ErrorCode = ErrorCode.NONE
    result: Inspection | None = None
    latency_s: float = 0.0
    heartbeat: int = 0
    active_job: int = 0
    waiting: int = 0
    counts: Counts = Counts()

    @property
    def outcome(self) -> Outcome | None:
        """Of the result shown."""
        return None if self.result is None else self.result.outcome

    @property
    def ok(self) -> bool:
        return self.result is not None and self.result.code is ResultCode.OK

    @property
    def ng(self) -> bool:
        return self.result is not None and self.result.code is not ResultCode.OK


@dataclass(frozen=True, slots=True)
class Inspect:
    """Take a picture and score it; answer with ``Handshake.finished``."""

    inspection: Inspection


@dataclass(frozen=True, slots=True)
class SelectJob:
    """Make the job the active one; answer with ``job_selected`` or ``job_failed``."""

    job: int


@dataclass(frozen=True, slots=True)
class GiveUp:
    """The engine's call hangs: go on without it, with an engine opened anew when the active job is
    selected next."""

    inspection_id: int


@dataclass(frozen=True, slots=True)
class WriteRecord:
    """Put on disk, in place of an earlier revision; answer with ``recorded``. An inspection
    that the PLC is never shown (overrun) wants no answer: its ``shown`` is false."""

    inspection: Inspection
    shown: bool = True


@dataclass(frozen=True, slots=True)
class Publish:
    """Show the PLC this, before any later one."""

    status: Status


@dataclass(frozen=True, slots=True)
class Taken:
    """The PLC has acknowledged a result."""

    inspection: Inspection
    after_s: float


Command = Inspect | SelectJob | GiveUp | WriteRecord | Publish | Taken
