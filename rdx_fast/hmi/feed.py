"""The live feed: looks at the station and its records, and tells all browsers what has changed."""

from __future__ import annotations

import asyncio
import json
import logging
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Any

from rdx_fast.hmi.live_frames import LiveFrames
from rdx_fast.hmi.part_json import LiveParts, finite, part_json
from rdx_fast.hmi.pictures import Pictures
from rdx_fast.hmi.record_tail import RecordTail
from rdx_fast.hmi.shifts import ShiftCounts
from rdx_fast.hmi.station_state import StationState
from rdx_fast.station.config import StationFile
from rdx_fast.station.records.labels import Label
from rdx_fast.station.records.store import InspectionRecord
from rdx_fast.station.status_client import StatusClient, StatusError
from rdx_fast.wording import without_folders

log = logging.getLogger(__name__)

EVERY_S = 0.25  # time between two looks while a browser listens
IDLE_S = 2.0  # likewise while none does
STATUS_S = 5.0  # longest time between two events "status"
COUNTS_S = 2.0  # shortest time between two events "counts"
RECENT, TREND = 20, 200  # parts of a snapshot
_PARTS_AT_ONCE = 200  # of one event, the newest
_WAITING = 64  # events that a slow browser may be behind
MOST_SUBSCRIBERS = 64
_FAILING_S = 2.0  # time after which records that cannot be read are an alarm: they may be busy


class Subscriber:
    """One browser's queue of events. Made by ``Feed.subscribe``."""

    def __init__(self) -> None:
        self._events: asyncio.Queue[bytes | None] = asyncio.Queue(_WAITING)

    def put(self, event: bytes) -> bool:
        """Queue an event. Whether there was room; if not, the connection ends, and the browser
        that was too slow connects again and gets a new snapshot."""
        if self._events.full():
            self.end()
            return False
        self._events.put_nowait(event)
        return True

    def end(self) -> None:
        """Drop what waits and end the connection."""
        while not self._events.empty():
            self._events.get_nowait()
        self._events.put_nowait(None)

    async def next(self) -> bytes | None:
        """The next event; None at the end."""
        return await self._events.get()


class Feed:
    """Looks at station and records in the background, once for all browsers.

    All methods are called in one event loop; reading is done in two threads, one for the station
    and one for the records, so that a station that does not answer delays no parts.

    Args:
        file: the station's configuration, with a table ``[hmi]``
        station: asks the station; None if it tells no status
        pictures: where pictures are stored
        live: frames of the station
        now: returns the present time, with a time zone. Tests replace it
        clock: returns seconds, never going back. Tests replace it

    Attributes:
        live_parts: whose frames the station shows; None if it is away
    """

    def __init__(
        self,
        file: StationFile,
        station: StatusClient | None,
        pictures: Pictures,
        live: LiveFrames,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        assert file.hmi is not None
        self._station, self._pictures, self._live, self._clock = station, pictures, live, clock
        self._state = StationState(file, now, clock)
        self._shifts = ShiftCounts(file.hmi.shift_starts)
        self._tail = RecordTail(file.records.path, self._shifts, now)
        self._records_thread = ThreadPoolExecutor(1, "records")
        self._status_thread = ThreadPoolExecutor(1, "status")
        self._subscribers: set[Subscriber] = set()
        self._awake = asyncio.Event()
        self._looking = asyncio.Lock()
        self._status: dict[str, Any] = {}
        self.live_parts: LiveParts | None = None
        self._counts: list[dict[str, Any]] = []
        self._status_told = self._counts_told = -1e9
        self._failing, self._failing_since = "", 0.0

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Look in the background inside the ``async with``."""
        await self.look_at_station()
        tasks = [
            asyncio.create_task(self._repeat(look))
            for look in (self.look_at_station, self.look_at_records)
        ]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            for task in tasks:
                with suppress(asyncio.CancelledError):
                    await task
            self.end()
            await self._in_records_thread(self._tail.close)
            self._records_thread.shutdown()
            self._status_thread.shutdown()

    def end(self) -> None:
        """End the streams of all browsers."""
        for subscriber in self._subscribers:
            subscriber.end()

    @property
    def is_full(self) -> bool:
        """Whether as many browsers listen as may."""
        return len(self._subscribers) >= MOST_SUBSCRIBERS

    @asynccontextmanager
    async def subscribe(self) -> AsyncIterator[Subscriber]:
        """Events of one browser inside the ``async with``, the first of which is a snapshot."""
        subscriber = Subscriber()
        async with self._looking:
            await self._look()
            told = self._status
            snapshot = await self._in_records_thread(self._snapshot, told)
            # With no await in between: no event is lost, none comes twice.
            subscriber.put(snapshot)
            self._subscribers.add(subscriber)
            if self._status is not told:  # which was told while the snapshot was made
                subscriber.put(_event("status", self._status))
        self._awake.set()
        try:
            yield subscriber
        finally:
            self._subscribers.discard(subscriber)

    async def _repeat(self, look: Callable[[], Any]) -> None:
        while True:
            try:
                await look()
            except Exception:
                log.exception("a look at the station or its records failed")
            await self._pause(EVERY_S if self._subscribers else IDLE_S)

    async def _pause(self, seconds: float) -> None:
        """Wait; if nobody listened, no longer than until somebody does."""
        self._awake.clear()
        if self._subscribers:
            await asyncio.sleep(seconds)
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._awake.wait()

    # Station

    async def look_at_station(self) -> None:
        """Ask for the status, and tell it if it has changed."""
        status, trouble = None, "the configuration has no table [status]: add one, to both"
        if self._station is not None:
            loop = asyncio.get_running_loop()
            try:
                status = await loop.run_in_executor(self._status_thread, self._station.status)
            except StatusError as error:
                trouble = without_folders(str(error))
        self.live_parts = None
        if status is not None:
            self.live_parts = LiveParts(status["last_id"], status["started_at"])
        unreadable = ""
        if self._failing and self._clock() - self._failing_since > _FAILING_S:
            unreadable = without_folders(self._failing)
        before, self._status = self._status, self._state.describe(status, trouble, unreadable)
        late = self._clock() - self._status_told
        # Counts change with every part: not worth an event each.
        told = {**before, "counts": None} == {**self._status, "counts": None}
        if (
            not told
            or late >= STATUS_S
            or (before["counts"] != self._status["counts"] and late > 1)
        ):
            self._status_told = self._clock()
            self._tell("status", self._status)

    # Records

    async def look_at_records(self) -> None:
        """Read what has changed in the records, and tell it."""
        async with self._looking:
            await self._look()

    async def _look(self) -> None:
        parts, snapshot, counts = await self._in_records_thread(self._read)
        if snapshot is not None:
            self._live.forget()
            self._send(snapshot)
        elif parts is not None:
            self._send(parts)
        if counts != self._counts and self._clock() - self._counts_told >= COUNTS_S:
            self._counts, self._counts_told = counts, self._clock()
            self._tell("counts", counts)

    async def _in_records_thread(self, function: Callable[..., Any], *given: Any) -> Any:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._records_thread, function, *given)

    def _read(self) -> tuple[bytes | None, bytes | None, list[dict[str, Any]]]:
        """In the records' thread: events of new parts, or of other records, and the counts."""
        try:
            update = self._tail.look()
            # A station that has inspected parts has a file of records.
            inspected = self.live_parts is not None and self.live_parts.first_id > 0
            missing = inspected and not self._tail.follows
            self._fails(f"{self._tail.path.name} is missing" if missing else "")
        except (sqlite3.Error, OSError) as error:
            self._fails(str(error))
            return None, None, self._counts
        counts = self._shifts.told()
        if update is None or not self._subscribers:
            anew = update is not None and update.anew
            return None, self._snapshot(self._status) if anew else None, counts
        if update.anew:
            return None, self._snapshot(self._status), counts
        records = update.records[-_PARTS_AT_ONCE:]
        parts = self._parts(records, update.labels) if records else None
        return None if parts is None else _event("parts", parts), None, counts

    def _fails(self, trouble: str) -> None:
        if trouble and not self._failing:
            log.warning("the records cannot be read: %s", trouble)
            self._failing_since = self._clock()
        self._failing = trouble

    def _parts(
        self, records: Iterable[InspectionRecord], labels: dict[int, list[Label]]
    ) -> list[dict[str, Any]]:
        return [
            part_json(of, labels.get(of.inspection_id, []), self._pictures, self.live_parts)
            for of in records
        ]

    def _snapshot(self, status: dict[str, Any]) -> bytes:
        """In the records' thread."""
        rows = [*self._tail.rows.values()]
        recent, strip = rows[: -RECENT - 1 : -1], self._tail.strip
        labels = self._tail.labels_of({row.inspection_id for row in [*recent, *strip]})
        trend = [
            [of.inspection_id, *map(finite, (of.score, of.threshold, of.ng_above)), of.result]
            for of in rows
            if of.score is not None
        ]
        return _event(
            "snapshot",
            {
                "status": status,
                "recent": self._parts(recent, labels),
                "strip": self._parts(strip, labels),
                "trend": trend[-TREND:],
                "counts": self._shifts.told(),
            },
        )

    # Events

    def _tell(self, name: str, content: Any) -> None:
        if self._subscribers:
            self._send(_event(name, content))

    def _send(self, event: bytes) -> None:
        for subscriber in [*self._subscribers]:
            if not subscriber.put(event):
                self._subscribers.discard(subscriber)


def _event(name: str, content: Any) -> bytes:
    """A server-sent event. JSON has its line breaks escaped, so that it is one line."""
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return f"event: {name}\ndata: {text}\n\n".encode()
