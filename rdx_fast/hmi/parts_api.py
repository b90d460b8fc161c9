"""Parts: search, pictures, and the live feed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from starlette.responses import Response, StreamingResponse

from rdx_fast.errors import ImageError
from rdx_fast.hmi.access import Access, ApiRoute, Call, get
from rdx_fast.hmi.data import StationData
from rdx_fast.hmi.part_forms import FrameQuery, SearchQuery
from rdx_fast.hmi.part_json import Shown, may_be_labelled
from rdx_fast.hmi.pictures import Defects, Picture
from rdx_fast.hmi.refusal import Refused, not_found
from rdx_fast.station.records.labels import Label
from rdx_fast.station.records.read import has_records, read_records
from rdx_fast.station.records.store import InspectionRecord
from rdx_fast.station.status_client import LiveFrame

_RETRY = b"retry: 2000\n\n"  # ms until a browser connects again


def routes(data: StationData) -> list[ApiRoute]:
    """Routes of parts."""
    api = _PartsApi(data)
    return [
        get("/api/live", Access.VIEW, api.live, renews=False),
        get("/api/parts", Access.VIEW, api.search, query=SearchQuery),
        get("/api/parts/{id:id}", Access.VIEW, api.part, renews=False),
        get("/api/parts/{id:id}/frame", Access.VIEW, api.frame, query=FrameQuery, renews=False),
        get("/api/parts/{id:id}/map", Access.VIEW, api.heat_map, renews=False),
    ]


class _PartsApi:
    def __init__(self, data: StationData) -> None:
        self._data = data

    async def live(self, call: Call) -> Response:
        """Events for a browser, until it goes away or its session ends."""
        feed = self._data.feed
        if feed.is_full:
            raise Refused(429, "too_many", "too many browsers listen already")

        async def events() -> AsyncIterator[bytes]:
            async with feed.subscribe() as subscriber:
                yield _RETRY
                while (event := await subscriber.next()) is not None and call.goes_on():
                    yield event

        return StreamingResponse(events(), media_type="text/event-stream")

    def search(self, call: Call, query: SearchQuery) -> object:
        """A page of parts, the newest first."""
        if not has_records(self._data.path):
            return {"parts": [], "next": None}
        # One more, to know whether there is another page.
        found = [*read_records(self._data.path, query.filter(query.before, query.limit + 1))]
        newest = found[::-1][: query.limit]
        more = len(found) > query.limit
        return {
            # Whoever searches does not label here, and engineers look for what is disputed.
            "parts": self._data.described(
                newest, lambda *_: Shown.LABELS if call.is_engineer else Shown.AGREED
            ),
            "next": newest[-1].inspection_id if more else None,
        }

    async def part(self, call: Call) -> object:
        """A part with the defects in its map."""
        record, live = await self._found(call)
        try:
            found = await self._data.draw(self._data.pictures.defects, record, live)
        except ImageError:
            found = None

        def shows(record: InspectionRecord, labels: list[Label]) -> Shown:
            if call.session is None:
                return Shown.AGREED
            has_labelled = any(of.user == call.user for of in labels)
            open_to_all = has_labelled or not may_be_labelled(record)
            return Shown.LABELS if open_to_all else Shown.NOTHING

        (part,) = await self._data.draw(self._data.described, [record], shows)
        return {"part": part, **_described(found)}

    async def frame(self, call: Call, query: FrameQuery) -> Response:
        """The part's frame."""
        record, live = await self._found(call)
        try:
            picture = await self._data.draw(self._data.pictures.frame, record, query.width, live)
        except ImageError as error:
            raise _unreadable(error) from error
        return _response(picture, f"frame of inspection {record.inspection_id}")

    async def heat_map(self, call: Call) -> Response:
        """The part's heat map, transparent where the map is low."""
        record, live = await self._found(call)
        try:
            picture = await self._data.draw(self._data.pictures.heat_map, record, live)
        except ImageError as error:
            raise _unreadable(error) from error
        return _response(picture, f"map of inspection {record.inspection_id}")

    async def _found(self, call: Call) -> tuple[InspectionRecord, LiveFrame | None]:
        """The record, and the live frame where none is stored."""
        record = await self._data.draw(self._data.record, call.path["id"])
        stored = await self._data.draw(self._data.pictures.frame_file, record)
        return record, None if stored else await self._data.live.of(record.inspection_id)


def _described(found: Defects | None) -> dict[str, Any]:
    if found is None:
        return {"frame_size": None, "defects": []}
    defects = [{"box": of.box_px, "area_px": of.area_px, "peak": of.peak} for of in found.regions]
    return {"frame_size": found.frame_size, "defects": defects}


def _response(picture: Picture | None, what: str) -> Response:
    if picture is None:
        raise not_found(f"{what}: it was not stored, or was deleted to make room")
    crop = picture.crop
    headers = {} if crop is None else {"X-Crop": ",".join(map(str, crop))}
    return Response(picture.content, headers=headers, media_type=picture.media_type)


def _unreadable(error: ImageError) -> Refused:
    return Refused(404, "unreadable", f"the stored picture cannot be read: {error.reason}")
