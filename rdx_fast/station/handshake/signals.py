"""What PLC, handshake and station say to each other."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

WORD = 0xFFFF


class ResultCode(IntEnum):
    """What a part is told to be. All but OK mean reject."""

    NONE = 0
    OK = 1
    NG = 2
    ERROR = 3
    LATE = 4


class ErrorCode(IntEnum):
    """Why a part was not inspected, or why the station raises an alarm."""

    NONE = 0
    ENGINE = 10
    ENGINE_HUNG = 11
    CAMERA = 20
    CAMERA_TIMEOUT = 21
    FRAME_BAD = 22
    FRAME_SIZE = 23
    FRAME_DROPPED = 24
    JOB_UNKNOWN = 30
    JOB_BROKEN = 31
    LINK_LOST = 40
    MISSED_TRIGGER = 41
    OVERRUN = 42
    OFFLINE = 43
    DEADLINE = 50
    RECORD = 60


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
class Finding:
    """What came of an inspection: a verdict with its ``score`` and ``area_px`` (map pixels above
    the threshold), or an ``error``; ``detail`` says more to people."""

    is_anomalous: bool | None
    score: float = 0.0
    area_px: int = 0
    error: ErrorCode = ErrorCode.NONE
    detail: str = ""

    def __post_init__(self) -> None:
        if (self.is_anomalous is None) != (self.error is not ErrorCode.NONE):
            raise ValueError("a finding has a verdict or an error, and not both")


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer to one trigger. Times are those of the inputs; ``revision`` counts its changes."""

    inspection_id: int
    part_id: int
    job: int
    triggered: float
    deadline: float
    code: ResultCode = ResultCode.NONE
    error: ErrorCode = ErrorCode.NONE
    detail: str = ""
    score: float = 0.0
    area_px: int = 0
    decided: float = 0.0
    revision: int = 0


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
    result: Verdict | None = None
    latency_s: float = 0.0
    heartbeat: int = 0
    active_job: int = 0
    waiting: int = 0
    counts: Counts = Counts()

    @property
    def ok(self) -> bool:
        return self.result is not None and self.result.code is ResultCode.OK

    @property
    def ng(self) -> bool:
        return self.result is not None and self.result.code is not ResultCode.OK


@dataclass(frozen=True, slots=True)
class Inspect:
    """Take a picture and score it; answer with ``Handshake.finished``."""

    part: Verdict


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
class Record:
    """Put on disk, in place of an earlier revision; answer with ``recorded``. A verdict that the
    PLC was never shown (overrun) wants no answer: its ``shown`` is false."""

    verdict: Verdict
    shown: bool = True


@dataclass(frozen=True, slots=True)
class Publish:
    """Show the PLC this, before any later one."""

    status: Status


@dataclass(frozen=True, slots=True)
class Taken:
    """The PLC has acknowledged a result."""

    verdict: Verdict
    after_s: float


Command = Inspect | SelectJob | GiveUp | Record | Publish | Taken
