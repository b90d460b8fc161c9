"""Times and queue size of the handshake, and what a PLC is told of REVIEW."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from rdx_fast.station.handshake.codes import WORD, ResultCode

Review = Literal["ng", "review", "ok"]


@dataclass(frozen=True, slots=True)
class HandshakeConfig:
    """The table ``[handshake]``. All times are in ms.

    Attributes:
        queue: most results that the PLC has not acknowledged, including the shown one and the
            inspection in progress
        deadline_ms: time allowed from trigger to result, 1 to 65535, if the PLC sends 0 and the job
            states none
        review: what the PLC is told of a part whose verdict is REVIEW: "ng" (code 2), "review" (its
            own code 5) or "ok" (code 1, so that the part passes). The status bit ``review`` is set
            and the record says REVIEW in each case
        watchdog_ms: longest time that the PLC's heartbeat may stay unchanged while ``enable`` is
            set; 0 for no watchdog
        heartbeat_ms: interval at which the station's heartbeat changes
        hang_ms: time after which an unfinished inspection is aborted and the engine is reopened
        job_ms: the same limit while a job is being loaded
        record_ms: longest time past the deadline that a result waits to be on disk; it is then
            shown with the alarm

    Raises:
        ValueError: a value is out of range
    """

    queue: int = 8
    deadline_ms: int = 1000
    watchdog_ms: int = 2000
    heartbeat_ms: int = 250
    hang_ms: int = 5000
    job_ms: int = 60_000
    record_ms: int = 1000
    review: Review = "ng"

    def __post_init__(self) -> None:
        for name in ("queue", "deadline_ms", "heartbeat_ms", "hang_ms", "job_ms", "record_ms"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, wanted at least 1")
        if self.watchdog_ms < 0:
            raise ValueError(f"watchdog_ms is {self.watchdog_ms}, wanted 0 (no watchdog) or more")
        if self.deadline_ms > WORD:
            raise ValueError(f"deadline_ms is {self.deadline_ms}, wanted at most {WORD}")
        if self.review not in get_args(Review):
            raise ValueError(f"review is {self.review!r}, wanted one of {get_args(Review)}")

    @property
    def review_as(self) -> ResultCode:
        """The code that a PLC is told for REVIEW: NG, REVIEW or OK."""
        return ResultCode[self.review.upper()]
