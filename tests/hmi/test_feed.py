"""The live feed: what browsers are told of a station and its records."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rdx_fast.bundle.versions import manifest_sha256
from rdx_fast.hmi import feed as feed_module
from rdx_fast.hmi.feed import Feed, Subscriber
from rdx_fast.hmi.frame_views import FrameViews
from rdx_fast.hmi.live_frames import LiveFrames
from rdx_fast.hmi.pictures import Pictures
from rdx_fast.station.config import StationFile
from rdx_fast.station.records.labels import add_label
from rdx_fast.station.records.pictures import PictureStore
from rdx_fast.station.records.store import RecordWriter
from rdx_fast.station.status_client import LiveFrame, StatusError
from support.page import Clock, station_file
from support.small_bundle import write_bundle
from support.station_records import START, a_record, write_records

STATUS: dict[str, Any] = {
    **dict.fromkeys(("online", "trigger_ready", "plc_enable"), True),
    **dict.fromkeys(("busy", "link_lost", "record_alarm", "missed_trigger", "overrun"), False),
    **{"drift_cause": "", "error": "NONE", "error_detail": None, "heartbeat": 1},
    **{"active_job": 1, "waiting": 0, "last_id": 0, "started_at": "2026-03-02T06:00:00+00:00"},
    "counts": dict.fromkeys(("triggers", "answered", "passed", "rejected", "reviews", "missed"), 0),
    "jobs": {"1": {"bundle": "/part.rdx", "name": "part", "sha256": "0" * 64}},
}


class ScriptedStation:
    """Answers as a station's status socket does."""

    def __init__(self) -> None:
        self.away = False
        self.told = dict(STATUS)
        self.shown: LiveFrame | None = None
        self.fetched = 0

    def status(self) -> dict[str, Any]:
        if self.away:
            raise StatusError("the station does not answer")
        return dict(self.told)

    def frame(self) -> LiveFrame | None:
        if self.away:
            raise StatusError("the station does not answer")
        self.fetched += 1
        return self.shown


class World:
    """A feed that looks only when a test says so, with clocks that a test sets."""

    def __init__(self, folder: Path) -> None:
        self.file: StationFile = station_file(folder)
        self.path = self.file.records.path
        self.station, self.clock = ScriptedStation(), Clock()
        self.pictures = Pictures(folder / "pictures", FrameViews(self.file))
        self.live = LiveFrames(self.station, self.clock)  # type: ignore[arg-type]
        self.feed = Feed(
            self.file,
            self.station,  # type: ignore[arg-type]
            self.pictures,
            self.live,
            now=lambda: START + timedelta(seconds=self.clock.now),
            clock=self.clock,
        )

    def runs(self, test: Callable[[Subscriber], Coroutine[Any, Any, None]]) -> None:
        """Run a test with one browser that listens."""

        async def all_of_it() -> None:
            await self.feed.look_at_station()
            async with self.feed.subscribe() as browser:
                await test(browser)

        asyncio.run(all_of_it())

    async def look(self, browser: Subscriber) -> dict[str, Any]:
        """Events of one more look, by name."""
        await self.feed.look_at_station()
        await self.feed.look_at_records()
        return await waiting(browser)


def queued(browser: Subscriber) -> int:
    """Number of events that wait."""
    return browser._events.qsize()


async def waiting(browser: Subscriber) -> dict[str, Any]:
    """Events that wait, by name."""
    found = [parsed(await browser.next()) for _ in range(queued(browser))]
    assert len(dict(found)) == len(found)
    return dict(found)


def parsed(event: bytes | None) -> tuple[str, Any]:
    """An event as a browser reads it."""
    assert event is not None
    lines = event.decode().split("\n")
    assert lines[2:] == ["", ""], "one event of two lines"
    name, data = lines[:2]
    assert name.startswith("event: ")
    assert data.startswith("data: ")
    return name.removeprefix("event: "), json.loads(data.removeprefix("data: "))


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_a_browser_gets_a_snapshot_and_then_what_changes(world: World, tmp_path: Path) -> None:
    store = PictureStore(tmp_path / "pictures", budget_mb=10)
    kept = store.keep(2, START, np.zeros((8, 8), np.uint8), np.ones((4, 4), np.float32))
    write_records(
        world.path, a_record(1), a_record(2, "NG", picture=kept), a_record(3, "ERROR", score=None)
    )

    async def test(browser: Subscriber) -> None:
        (snapshot,) = (await waiting(browser)).values()
        assert [p["inspection_id"] for p in snapshot["recent"]] == [3, 2, 1]
        assert [p["inspection_id"] for p in snapshot["strip"]] == [2]
        assert snapshot["trend"] == [[1, 0.5, 1.0, 2.0, "OK"], [2, 0.5, 1.0, 2.0, "NG"]]
        assert [(c["parts"], c["OK"], c["NG"]) for c in snapshot["counts"]] == [(3, 1, 1)]
        assert snapshot["status"]["connected"]
        shown = snapshot["strip"][0]
        assert (shown["has_frame"], shown["has_map"], shown["agreed"]) == (True, True, None)
        assert await world.look(browser) == {}, "nothing has changed"
        write_records(world.path, a_record(4, score=float("inf")))
        world.clock.now += 3
        told = await world.look(browser)
        assert [(p["inspection_id"], p["score"]) for p in told["parts"]] == [(4, None)]
        assert told["counts"][0]["parts"] == 4
        add_label(world.path, 2, "olga", "bad", "crack")
        (part,) = (await world.look(browser))["parts"]
        assert (part["agreed"], part["labels"]) == ("bad", []), "anybody may listen"

    world.runs(test)


def test_no_event_is_lost_and_none_is_of_before_the_snapshot(world: World) -> None:
    """Browsers come while parts do: each sees every part once, in order."""

    write_records(world.path, *(a_record(i) for i in range(1, 9)))

    async def test(first: Subscriber) -> None:
        for number in range(9, 30):
            write_records(world.path, a_record(number))
            async with world.feed.subscribe() as browser:
                snapshot = parsed(await browser.next())[1]
                write_records(world.path, a_record(number, "LATE"))
                await world.feed.look_at_records()
                assert snapshot["recent"][0]["inspection_id"] == number
                ((name, parts),) = (await waiting(browser)).items()
                assert (name, [p["result"] for p in parts]) == ("parts", ["LATE"])

    world.runs(test)


def test_a_browser_that_is_too_slow_is_dropped(world: World) -> None:
    write_records(world.path, a_record(1))

    async def test(slow: Subscriber) -> None:
        async with world.feed.subscribe() as quick:
            number = 1
            await waiting(quick)
            while queued(slow) != 1 or number < 5:
                number += 1
                assert number < 1000
                write_records(world.path, a_record(number))
                await world.feed.look_at_records()
                await waiting(quick)
            assert await slow.next() is None
            write_records(world.path, a_record(number + 1))
            await world.feed.look_at_records()
            assert queued(slow) == 0, "it gets nothing more"
            assert queued(quick) == 1

    world.runs(test)


def test_the_station_goes_and_comes_back(world: World) -> None:
    async def test(browser: Subscriber) -> None:
        await waiting(browser)
        world.station.away = True
        world.clock.now += 60
        status = (await world.look(browser))["status"]
        assert not status["connected"]
        assert set(status["lamps"].values()) == {"off"}
        assert [a["code"] for a in status["alarms"]] == ["STATION_AWAY"]
        assert status["since"] == "2026-03-02T06:17:40+00:00"
        assert status["jobs"] == [{"id": 1, "name": "part"}]
        assert await world.look(browser) == {}
        world.clock.now += feed_module.STATUS_S
        assert list(await world.look(browser)) == ["status"], "a sign of life"
        world.station.away = False
        status = (await world.look(browser))["status"]
        assert (status["connected"], status["alarms"]) == (True, [])
        assert status["lamps"] == dict.fromkeys(
            ("camera", "plc", "disk", "heartbeat", "drift"), "ok"
        )

    world.runs(test)


@pytest.mark.parametrize(
    ("told", "lamp", "alarm"),
    [
        ({"error": "CAMERA_TIMEOUT", "error_detail": "no frame"}, "camera", (21, "no frame")),
        ({"link_lost": True}, "plc", (40, None)),
        ({"record_alarm": True}, "disk", (60, None)),
        ({"drift_cause": "brightness fell"}, "drift", (None, "brightness fell")),
    ],
)
def test_lamps_and_alarms(
    world: World, told: dict[str, Any], lamp: str, alarm: tuple[int | None, str | None]
) -> None:
    async def test(browser: Subscriber) -> None:
        await waiting(browser)
        world.station.told |= told
        status = (await world.look(browser))["status"]
        assert [name for name, state in status["lamps"].items() if state == "alarm"] == [lamp]
        assert [(a["number"], a["detail"]) for a in status["alarms"]] == [alarm]

    world.runs(test)


def test_a_heartbeat_that_stands_still(world: World) -> None:
    async def test(browser: Subscriber) -> None:
        await waiting(browser)
        world.clock.now += 2.9
        assert "status" not in await world.look(browser)
        world.clock.now += 0.2
        assert (await world.look(browser))["status"]["lamps"]["heartbeat"] == "alarm"
        world.station.told["heartbeat"] = 2
        assert (await world.look(browser))["status"]["lamps"]["heartbeat"] == "ok"

    world.runs(test)


def test_the_changeover_to_a_bundle_that_was_replaced(world: World) -> None:
    bundle = write_bundle(world.file.bundles[1])
    held = {"1": {**STATUS["jobs"]["1"], "sha256": manifest_sha256(bundle.path)}}

    async def test(browser: Subscriber) -> None:
        (snapshot,) = (await waiting(browser)).values()
        assert snapshot["status"]["job"]["changeover"]
        world.station.told["jobs"] = held
        status = (await world.look(browser))["status"]
        sha256 = held["1"]["sha256"]
        assert status["job"] == {"id": 1, "name": "part", "sha256": sha256, "changeover": False}

    world.runs(test)


def test_records_that_are_replaced_begin_with_a_snapshot(world: World) -> None:
    write_records(world.path, a_record(7))

    async def test(browser: Subscriber) -> None:
        await waiting(browser)
        world.path.unlink()
        told = await world.look(browser)
        assert told["snapshot"]["recent"] == []
        write_records(world.path, a_record(1))
        told = await world.look(browser)
        assert [p["inspection_id"] for p in told["snapshot"]["recent"]] == [1]
        world.path.write_bytes(b"not a database" * 100)
        assert "parts" not in await world.look(browser), "and no failure"

    world.runs(test)


def test_a_part_that_is_shown_has_a_frame_to_ask_for(world: World) -> None:
    write_records(world.path, a_record(1), a_record(2), a_record(3, "ERROR", score=None))
    world.station.told["last_id"] = 2

    async def test(browser: Subscriber) -> None:
        (snapshot,) = (await waiting(browser)).values()
        frames = [(p["inspection_id"], p["has_frame"]) for p in snapshot["recent"]]
        assert frames == [(3, False), (2, True), (1, False)]

    world.runs(test)


def live_frame(inspection_id: int) -> LiveFrame:
    return LiveFrame(inspection_id, np.zeros((4, 4), np.uint8), None, None, None)


def test_live_frames_are_fetched_once_for_all_browsers(world: World) -> None:
    world.station.shown = live_frame(5)

    async def test() -> None:
        found = await asyncio.gather(*(world.live.of(5) for _ in range(20)))
        assert all(of is world.station.shown for of in found)
        assert world.station.fetched == 1
        assert await world.live.of(4) is None, "the line is further"
        world.station.shown = live_frame(6)
        world.clock.now += 1
        assert (await world.live.of(6)) is world.station.shown
        assert (await world.live.of(5)) is not None, "still held"
        assert world.station.fetched == 2
        world.live.forget()
        world.station.away = True
        world.clock.now += 1
        world.live._clock = iter([0.0, 10.0, 10.0, 20.0, 20.0, 20.0, 20.0]).__next__
        assert await world.live.of(6) is None

    asyncio.run(test())


def test_what_is_held_of_live_frames_has_a_limit(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rdx_fast.hmi.live_frames._HELD_BYTES", 40)

    async def test() -> None:
        for number in range(1, 10):
            world.station.shown = live_frame(number)
            world.clock.now += 1
            await world.live.of(number)
        assert [of.inspection_id for of in world.live._held] == [8, 9]

    asyncio.run(test())


def test_the_feed_looks_by_itself_and_ends(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed_module, "EVERY_S", 0.001)
    monkeypatch.setattr(feed_module, "IDLE_S", 3600.0)  # it wakes when somebody listens
    writer = RecordWriter(world.path, sync=False)

    async def test() -> None:
        async with world.feed.running():
            async with world.feed.subscribe() as browser:
                assert parsed(await browser.next())[0] == "snapshot"
                for number in (1, 2, 3):
                    writer.write(a_record(number))
                    name, parts = parsed(await browser.next())
                    while name != "parts":
                        name, parts = parsed(await browser.next())
                    assert parts[-1]["inspection_id"] == number
            listening = world.feed.subscribe()
            browser = await listening.__aenter__()
        while await browser.next() is not None:  # the end comes, whatever comes before
            pass
        await listening.__aexit__(None, None, None)

    asyncio.run(test())
    writer.close()


def test_records_that_cannot_be_read_are_an_alarm(world: World) -> None:
    """What the page shows of parts is not current then, though the station answers."""
    write_records(world.path, a_record(1))

    async def test(browser: Subscriber) -> None:
        (snapshot,) = (await waiting(browser)).values()
        content = world.path.read_bytes()
        world.path.write_bytes(b"no database" * 1000)
        for suffix in ("-wal", "-shm"):
            world.path.with_name(world.path.name + suffix).unlink(missing_ok=True)
        await world.look(browser)
        await world.look(browser)
        assert world.feed._status["alarms"] == [], "they may be busy for a moment"
        world.clock.now += 3
        events = await world.look(browser)
        (alarm,) = events["status"]["alarms"]
        assert (alarm["code"], events["status"]["lamps"]["disk"]) == ("RECORDS_UNREADABLE", "alarm")
        assert str(world.path.parent) not in alarm["detail"]
        assert events.get("counts", snapshot["counts"]) == snapshot["counts"]
        world.path.write_bytes(content)
        await world.look(browser)
        events = await world.look(browser)
        assert events["status"]["alarms"] == []
        assert events["status"]["lamps"]["disk"] == "ok"

    world.runs(test)


def test_a_station_that_has_begun_has_no_frame_of_earlier_parts(world: World) -> None:
    """Its own have one, also the first, of which the page has not been told yet."""
    later = START + timedelta(minutes=1)
    world.station.told["started_at"] = later.isoformat(timespec="seconds")
    own = a_record(3, triggered_at=later.isoformat(timespec="microseconds"))
    write_records(world.path, a_record(1), a_record(2, "NG"), own)

    async def test(browser: Subscriber) -> None:
        (snapshot,) = (await waiting(browser)).values()
        frames = {part["inspection_id"]: part["has_frame"] for part in snapshot["recent"]}
        assert frames == {3: True, 2: False, 1: False}

    world.runs(test)


def test_a_status_that_is_told_during_a_snapshot_follows_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    feed, snapshot = world.feed, world.feed._snapshot

    def slow(status: dict[str, Any]) -> bytes:
        feed._status = {**status, "alarms": [{"code": "CAMERA", "number": 1, "detail": None}]}
        return snapshot(status)

    monkeypatch.setattr(feed, "_snapshot", slow)

    async def test(browser: Subscriber) -> None:
        events = await waiting(browser)
        assert [*events] == ["snapshot", "status"]
        assert (events["snapshot"]["status"]["alarms"], len(events["status"]["alarms"])) == ([], 1)

    world.runs(test)
