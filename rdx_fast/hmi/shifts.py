"""Counts of parts by shift and job."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, time, timedelta
from typing import Any

from rdx_fast.station.handshake.codes import ResultCode

RESULTS = tuple(code.name for code in ResultCode if code)


def shift_start(moment: datetime, starts: tuple[time, ...]) -> datetime:
    """When the shift of a moment began.

    Args:
        moment: with a time zone
        starts: local times at which shifts begin, at least one

    Returns:
        The start in local time, with its time zone. A time that the clocks skip in spring is the
        one that they show instead.
    """
    day = moment.astimezone().date()
    # Compared as moments: when clocks are set back, local times come twice.
    found = [
        datetime.combine(day - timedelta(days=ago), start).astimezone()
        for ago in (0, 1, 2)
        for start in starts
    ]
    return max(start for start in found if start <= moment)


class ShiftCounts:
    """Counts of the current and the previous shift. Used by one thread.

    Args:
        starts: local times at which shifts begin, at least one
    """

    def __init__(self, starts: tuple[time, ...]) -> None:
        self._starts = starts
        self._counts: Counter[tuple[datetime, int, str]] = Counter()
        self._current: datetime | None = None

    def at(self, now: datetime) -> tuple[str, str]:
        """Starts of the previous and of the current shift, as text as in the records.

        Counts of earlier shifts are dropped.

        Args:
            now: the present time, with a time zone
        """
        current = shift_start(now, self._starts)
        previous = shift_start(current - timedelta(microseconds=1), self._starts)
        if current != self._current:
            self._current, self._previous = current, previous
            self._texts = _as_text(previous), _as_text(current)
            kept = {key: n for key, n in self._counts.items() if key[0] >= previous}
            self._counts = Counter(kept)
        return self._texts

    def clear(self) -> None:
        """Begin anew."""
        self._counts.clear()

    def add(self, triggered_at: str, job: int, result: str, parts: int = 1) -> None:
        """Count parts. Call ``at`` before.

        Args:
            triggered_at: when they were triggered, or any time of their shift, as in the records
            job: id of the job
            result: "OK", "REVIEW", "NG", "ERROR" or "LATE"
            parts: how many; below 0 takes away
        """
        previous, current = self._texts
        if triggered_at < previous:
            return  # of a shift that is not counted any more
        # A clock that was set back leaves parts of the future: they are of the current shift.
        assert self._current is not None
        shift = self._current if triggered_at >= current else self._previous
        self._counts[shift, job, result] += parts

    def told(self) -> list[dict[str, Any]]:
        """The counts for the page, the current shift first, by job. "now" marks its rows: as long
        as it has no part, the first rows are those of the previous one."""
        assert self._current is not None
        of: dict[tuple[datetime, int], dict[str, int]] = {}
        for (shift, job, result), parts in self._counts.items():
            of.setdefault((shift, job), dict.fromkeys(RESULTS, 0))[result] += parts
        return [
            {
                "shift": shift.isoformat(),
                "now": shift == self._current,
                "job": job,
                **_with_yield(counts),
            }
            for shift in (self._current, self._previous)
            for (at, job), counts in sorted(of.items())
            if at == shift and any(counts.values())
        ]


def _with_yield(counts: dict[str, int]) -> dict[str, Any]:
    parts = sum(counts.values())
    return {"parts": parts, **counts, "yield": counts["OK"] / parts if parts else None}


def _as_text(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="microseconds")
