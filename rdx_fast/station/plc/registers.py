"""The Modbus register map: one table for reading, writing and documentation."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rdx_fast.station.handshake.codes import WORD, ErrorCode, ResultCode
from rdx_fast.station.handshake.signals import Controls, Status

PLC_START, PLC_COUNT = 0, 10
STATION_START, STATION_COUNT = 16, 17
TOTAL = STATION_START + STATION_COUNT

CONTROL_BITS = ("enable", "trigger", "ack", "reset", "offline")
STATUS_BITS = (
    "online",
    "trigger_ready",
    "trigger_ack",
    "busy",
    "valid",
    "ok",
    "ng",
    "missed_trigger",
    "overrun",
    "link_lost",
    "record_alarm",
    "review",
    "drift",
)


@dataclass(frozen=True, slots=True)
class Register:
    """One value in the register map.

    Attributes:
        address: address of the first holding register, counted from 0 as in the protocol
        name: name of the value
        type: "bits", "uint16", "uint32" or "float32"
        meaning: description
        words: returns the registers for a status, unsigned, most significant word first; None for
            values that the PLC writes
    """

    address: int
    name: str
    type: str
    meaning: str
    words: Callable[[Status], Sequence[int]] | None = None

    @property
    def writer(self) -> str:
        """Who writes it: "PLC" or "station"."""
        return "PLC" if self.words is None else "station"


def _float32(value: float) -> tuple[int, int]:
    # struct cannot pack a float64 beyond float32's range.
    high, low = struct.unpack(">HH", struct.pack(">f", min(value, 3.4e38)))
    return high, low


def _double_word(value: int) -> tuple[int, int]:
    return value >> 16 & WORD, value & WORD


def _bits(status: Status) -> int:
    return sum(getattr(status, name) << bit for bit, name in enumerate(STATUS_BITS))


def _named(names: Sequence[str]) -> str:
    return ", ".join(f"{bit} {name}" for bit, name in enumerate(names))


_RESULTS = ", ".join(f"{code.value} {code.name}" for code in ResultCode)
_REVIEW = 'REVIEW is shown as 2, unless the configuration says review = "review" or "ok"'

MAP: tuple[Register, ...] = (
    Register(0, "control", "bits", _named(CONTROL_BITS)),
    Register(1, "part_id", "uint16", "id of the part to inspect, repeated in its result"),
    Register(2, "job", "uint16", "job to inspect with; 0 leaves the job unchanged"),
    Register(3, "heartbeat", "uint16", "counter; change it at shorter intervals than watchdog_ms"),
    Register(4, "deadline", "uint16", "ms allowed from trigger to result; 0 for the job's"),
    Register(16, "status", "bits", _named(STATUS_BITS), lambda s: (_bits(s),)),
    Register(
        17,
        "part_id",
        "uint16",
        "id of the inspected part",
        lambda s: (s.result.part_id if s.result else 0,),
    ),
    Register(18, "result", "uint16", f"{_RESULTS}; {_REVIEW}", lambda s: (s.code,)),
    Register(
        19,
        "score",
        "float32",
        "anomaly score; high word first",
        lambda s: _float32((s.outcome and s.outcome.score) or 0.0),
    ),
    Register(
        21,
        "defect_area",
        "uint16",
        "map pixels above the OK limits of their regions; 65535 means 65535 or more",
        lambda s: (min((s.outcome and s.outcome.area_px) or 0, WORD),),
    ),
    Register(
        22,
        "latency",
        "uint16",
        "time from trigger to valid in units of 10 microseconds; 65535 means 0.65 s or more",
        lambda s: (min(round(s.latency_s * 1e5), WORD) if s.result else 0,),
    ),
    Register(
        23,
        "error",
        "uint16",
        "error code of the result; 0 for OK, REVIEW and NG",
        lambda s: (s.outcome.error if s.outcome else 0,),
    ),
    Register(24, "heartbeat", "uint16", "changes while the station runs", lambda s: (s.heartbeat,)),
    Register(25, "active_job", "uint16", "id of the active job", lambda s: (s.active_job & WORD,)),
    Register(26, "alarm", "uint16", "last error code, until reset", lambda s: (s.error,)),
    Register(
        27,
        "missed",
        "uint16",
        "triggers that came too early; counts wrap from 65535 to 0, also in 30 to 32",
        lambda s: (s.counts.missed & WORD,),
    ),
    Register(
        28,
        "inspection_id",
        "uint32",
        "id of the inspection, key of its record; high word first",
        lambda s: _double_word(s.result.inspection_id if s.result else 0),
    ),
    Register(30, "passed", "uint16", "results shown as OK", lambda s: (s.counts.passed & WORD,)),
    Register(
        31,
        "rejected",
        "uint16",
        "results shown as anything else",
        lambda s: (s.counts.rejected & WORD,),
    ),
    Register(
        32,
        "reviews",
        "uint16",
        "results that were REVIEW, which count in 30 or 31 too",
        lambda s: (s.counts.reviews & WORD,),
    ),
)
ERRORS: tuple[tuple[int, str, str], ...] = tuple(
    (code.value, code.name, meaning)
    for code, meaning in {
        ErrorCode.ENGINE: "the engine failed, or gave a score that is not finite",
        ErrorCode.ENGINE_HUNG: "an inspection did not finish in time; the engine was reopened",
        ErrorCode.CAMERA: "the camera failed, or does not take the parameters of the job",
        ErrorCode.CAMERA_TIMEOUT: "no frame arrived in time",
        ErrorCode.FRAME_BAD: "the frame is incomplete or unreadable",
        ErrorCode.FRAME_SIZE: "the frame does not have the expected size",
        ErrorCode.FRAME_DROPPED: "frames were lost: this frame may show another part",
        ErrorCode.JOB_UNKNOWN: "the job is not in the configuration",
        ErrorCode.JOB_BROKEN: "the job's bundle is missing or broken",
        ErrorCode.LINK_LOST: "the PLC's heartbeat stopped",
        ErrorCode.MISSED_TRIGGER: "trigger while the previous part was being inspected",
        ErrorCode.OVERRUN: "trigger while the result queue was full; the part has no result",
        ErrorCode.OFFLINE: "the station is offline, or the PLC has not set enable",
        ErrorCode.DEADLINE: "the result missed its deadline (result 4)",
        ErrorCode.RECORD: "a record or picture could not be written (alarm; the result is valid)",
    }.items()
)


def read_controls(words: Sequence[int]) -> Controls:
    """Decode the controls that the PLC has written.

    Args:
        words: registers 0 to 4 at least, 16 bits each
    """
    bits = {name: bool(words[0] >> bit & 1) for bit, name in enumerate(CONTROL_BITS)}
    return Controls(
        **bits, part_id=words[1], job=words[2], heartbeat=words[3], deadline_ms=words[4]
    )


def write_controls(controls: Controls) -> list[int]:
    """Encode controls, for a PLC written in Python.

    Args:
        controls: the controls to write

    Returns:
        Registers 0 to 4, 16 bits each.
    """
    control = sum(getattr(controls, name) << bit for bit, name in enumerate(CONTROL_BITS))
    return [control, controls.part_id, controls.job, controls.heartbeat, controls.deadline_ms]


def write_status(status: Status) -> list[int]:
    """Encode a status.

    Args:
        status: the station's status

    Returns:
        Registers 16 to 32, 16 bits each; unused ones are 0.
    """
    words = [0] * STATION_COUNT
    for register in MAP:
        if register.words is not None:
            values = register.words(status)
            start = register.address - STATION_START
            words[start : start + len(values)] = values
    return words


def value(words: Sequence[int], name: str) -> int | float:
    """Decode a value that the station writes.

    Args:
        words: registers 16 to 32, 16 bits each
        name: name of the value
    """
    register = next(r for r in MAP if r.name == name and r.words is not None)
    start = register.address - STATION_START
    if register.type == "float32":
        return struct.unpack(">f", struct.pack(">HH", *words[start : start + 2]))[0]
    if register.type == "uint32":
        return words[start] << 16 | words[start + 1]
    return words[start]


def is_set(words: Sequence[int], bit: str) -> bool:
    """Decode a bit of the status.

    Args:
        words: registers 16 to 32, 16 bits each
        bit: name of the bit, one of ``STATUS_BITS``
    """
    return bool(words[0] >> STATUS_BITS.index(bit) & 1)
