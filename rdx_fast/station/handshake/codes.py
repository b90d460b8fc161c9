"""Codes of results and errors, as the PLC and the records use them."""

from __future__ import annotations

from enum import IntEnum

WORD = 0xFFFF


class ResultCode(IntEnum):
    """Result of an inspection. Every code except OK means reject.

    Attributes:
        NONE: no result yet
        OK: good part
        NG: anomalous part
        ERROR: the part was not inspected
        LATE: the result missed its deadline
        REVIEW: the score is between the limits of OK and NG: a person should decide
    """

    NONE = 0
    OK = 1
    NG = 2
    ERROR = 3
    LATE = 4
    REVIEW = 5

    def told(self, review_as: ResultCode) -> ResultCode:
        """What a PLC is told: the code itself, and for REVIEW what the configuration says.

        Args:
            review_as: the code that stands for REVIEW: NG, REVIEW or OK
        """
        return review_as if self is ResultCode.REVIEW else self


class ErrorCode(IntEnum):
    """Why a part was not inspected, or why the station raises an alarm.

    The meanings are in ``ERRORS`` of ``rdx_fast.station.plc.registers``.
    """

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
