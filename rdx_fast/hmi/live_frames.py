"""Frames that a running station holds, fetched at most a few times a second for all browsers."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable

from rdx_fast.station.status_client import LiveFrame, StatusClient, StatusError

EVERY_S = 0.4  # shortest time between two frames that are fetched
_PATIENCE_S = 1.0  # for a part that is decided and is shown soon
_HELD_BYTES = 64_000_000


class LiveFrames:
    """Shares the frames that the station shows. Used in one event loop.

    Args:
        station: asks the station; None if it tells no status
        clock: returns seconds, never going back
    """

    def __init__(
        self, station: StatusClient | None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._station, self._clock = station, clock
        self._turn = asyncio.Lock()
        self._held: deque[LiveFrame] = deque()  # the newest last
        self._fetched = -EVERY_S

    async def of(self, inspection_id: int) -> LiveFrame | None:
        """The frame of an inspection, if the station shows it, will in a moment, or did when
        frames were fetched last; None otherwise.

        Args:
            inspection_id: of a recent part
        """
        until = self._clock() + _PATIENCE_S
        while True:
            async with self._turn:
                if (found := self._find(inspection_id)) or self._station is None:
                    return found
                if self._held and self._held[-1].inspection_id > inspection_id:
                    return None  # the line is further
                wait = self._fetched + EVERY_S - self._clock()
                if wait <= 0:
                    await self._fetch()
                    continue
            if self._clock() + wait > until:
                return None
            await asyncio.sleep(wait)

    def forget(self) -> None:
        """Forget what was fetched: the records are of another file, with ids of their own."""
        self._held.clear()

    def _find(self, inspection_id: int) -> LiveFrame | None:
        return next((of for of in self._held if of.inspection_id == inspection_id), None)

    async def _fetch(self) -> None:
        assert self._station is not None
        self._fetched = self._clock()
        try:
            frame = await asyncio.to_thread(self._station.frame)
        except StatusError:
            frame = None
        if frame is None:
            return
        if not self._held or frame.inspection_id != self._held[-1].inspection_id:
            self._held.append(frame)
        while len(self._held) > 1 and sum(map(_size, self._held)) > _HELD_BYTES:
            self._held.popleft()


def _size(frame: LiveFrame) -> int:
    return frame.frame.nbytes + (0 if frame.relative is None else frame.relative.nbytes)
