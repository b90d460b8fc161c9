"""The times and the room that the handshake keeps to."""

from __future__ import annotations

from dataclasses import dataclass

from rdx_fast.station.handshake.codes import WORD


@dataclass(frozen=True, slots=True)
class HandshakeConfig:
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
