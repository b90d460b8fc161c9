"""What the routes of parts, pictures, labels and exports share."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import ParamSpec, TypeVar

from rdx_fast.hmi.context import Context
from rdx_fast.hmi.feed import Feed
from rdx_fast.hmi.frame_views import FrameViews
from rdx_fast.hmi.live_frames import LiveFrames
from rdx_fast.hmi.part_json import Shown, part_json
from rdx_fast.hmi.pictures import Pictures
from rdx_fast.hmi.refusal import Refused, not_found
from rdx_fast.station.records.labels import Label, read_labels
from rdx_fast.station.records.read import Filter, has_records, read_records
from rdx_fast.station.records.store import InspectionRecord

_PICTURES_AT_ONCE = 2  # decoded and encoded: each takes a core, and memory for a frame
_EXPORTS_AT_ONCE = 1
_QUERIES_AT_ONCE = 2  # of many records: each takes a core
_QUERIES_WAITING = 32

Arguments = ParamSpec("Arguments")
Returned = TypeVar("Returned")


class StationData:
    """A station's records, pictures and live feed.

    Args:
        context: what all routes share; the feed becomes one of its services

    Attributes:
        path: the SQLite file of the records
        pictures: stored pictures
        live: frames of the station
        feed: the live feed
        ending: set when the server is told to end
        exports_folder: where exports are written; nothing else is there
    """

    def __init__(self, context: Context) -> None:
        records = context.file.records
        self.path = records.path
        self.pictures = Pictures(records.pictures, FrameViews(context.file))
        self.live = LiveFrames(context.station)
        self.feed = Feed(context.file, context.station, self.pictures, self.live)
        self._drawing = ThreadPoolExecutor(_PICTURES_AT_ONCE, "pictures")
        self._querying = ThreadPoolExecutor(_QUERIES_AT_ONCE, "queries")
        self._queries = 0
        self._exporting = ThreadPoolExecutor(_EXPORTS_AT_ONCE, "exports")
        self.ending = context.ending
        # Beside the records: a folder of the system may be in memory.
        self.exports_folder = records.path.with_name(f"{records.path.name}.exports")
        context.services.append(self._running)
        context.endings.append(self.feed.end)

    @asynccontextmanager
    async def _running(self) -> AsyncIterator[None]:
        # What a process left that was killed.
        shutil.rmtree(self.exports_folder, ignore_errors=True)
        async with self.feed.running():
            yield
        self._drawing.shutdown(cancel_futures=True)
        self._querying.shutdown(cancel_futures=True)
        self._exporting.shutdown(cancel_futures=True)

    async def draw(
        self,
        function: Callable[Arguments, Returned],
        *given: Arguments.args,
        **named: Arguments.kwargs,
    ) -> Returned:
        """Call a function that decodes or encodes pictures, a few at once."""
        return await _call(self._drawing, lambda: function(*given, **named))

    async def query(
        self,
        function: Callable[Arguments, Returned],
        *given: Arguments.args,
        **named: Arguments.kwargs,
    ) -> Returned:
        """Call a function that may read many records, a few at once, so that other answers need not
        wait for threads. Raises ``Refused`` if too many wait."""
        if self._queries >= _QUERIES_WAITING:
            raise Refused(429, "busy", "too many queries wait: try again", {"Retry-After": "2"})
        self._queries += 1
        try:
            return await _call(self._querying, lambda: function(*given, **named))
        finally:
            self._queries -= 1

    async def export(
        self,
        function: Callable[Arguments, Returned],
        *given: Arguments.args,
        **named: Arguments.kwargs,
    ) -> Returned:
        """Call a function that exports, one at a time."""
        return await _call(self._exporting, lambda: function(*given, **named))

    def record(self, inspection_id: int) -> InspectionRecord:
        """The record of an inspection. Raises ``Refused`` if there is none."""
        wanted = Filter(before=inspection_id + 1, last=1)
        found = list(read_records(self.path, wanted)) if has_records(self.path) else []
        if not found or found[0].inspection_id != inspection_id:
            raise not_found(f"inspection {inspection_id}")
        return found[0]

    def described(
        self,
        records: list[InspectionRecord],
        shows: Callable[[InspectionRecord, list[Label]], Shown],
    ) -> list[dict[str, object]]:
        """Parts as the page gets them, in the given order.

        Args:
            records: their records
            shows: of a part and its labels, what is shown of these
        """
        if not records:
            return []
        labels = read_labels(self.path, [of.inspection_id for of in records])
        by_part: dict[int, list[Label]] = {of.inspection_id: [] for of in records}
        for label in labels:
            by_part[label.inspection_id].append(label)
        live = self.feed.live_parts
        found = [(of, by_part[of.inspection_id]) for of in records]
        return [
            part_json(of, labels, self.pictures, live, shows(of, labels)) for of, labels in found
        ]


async def _call(pool: ThreadPoolExecutor, function: Callable[[], Returned]) -> Returned:
    return await asyncio.get_running_loop().run_in_executor(pool, function)
