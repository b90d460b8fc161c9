"""Parts, labels, quality figures and exports, as the page asks for them."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from rdx_fast.bundle.versions import Version
from rdx_fast.hmi import export_api
from rdx_fast.station.records.changes import read_changes
from rdx_fast.station.records.labels import add_label
from rdx_fast.station.records.pictures import PictureStore
from rdx_fast.station.records.read import count_records, read_records
from rdx_fast.station.records.store import InspectionRecord, RecordError
from support.page import Client, Page, open_page
from support.station_records import START, a_record, write_records

SIZE, MAP = (48, 64), (12, 16)


def kept_parts(folder: Path) -> list[InspectionRecord]:
    """Six parts: OK, NG, OK of the sample, REVIEW, ERROR without a picture, NG of job 2."""
    store = PictureStore(folder / "pictures", budget_mb=10)

    def keep(number: int) -> str:
        relative = np.zeros(MAP, np.float32)
        relative[2, 3] = 0.5 * number
        return store.keep(number, START, np.full((*SIZE, 3), 9 * number, np.uint8), relative)

    return [
        a_record(1, score=0.1),
        a_record(2, "NG", score=3.0, picture=keep(2)),
        a_record(3, score=0.9, sampled=1, picture=keep(3)),
        a_record(4, "REVIEW", score=1.5, picture=keep(4)),
        a_record(5, "ERROR", score=None, error="CAMERA", detail="no frame"),
        a_record(6, "NG", score=4.0, job=2, picture=keep(6)),
    ]


@pytest.fixture
def records(page: Page) -> list[InspectionRecord]:
    found = kept_parts(page.folder)
    write_records(page.file.records.path, *found)
    return found


@pytest.fixture
def olga(page: Page, records: list[InspectionRecord]) -> Iterator[Client]:
    with page.client("olga") as client:
        yield client


def ids(answer: Any) -> list[int]:
    assert answer.status_code == 200, answer.text
    return [part["inspection_id"] for part in answer.json()["parts"]]


FOUND = {
    "": [6, 5, 4, 3, 2, 1],
    "part_id=3": [3],
    "job=2": [6],
    "result=NG&result=REVIEW": [6, 4, 2],
    "min_score=0.9&max_score=3": [4, 3, 2],
    "sampled=1": [3],
    "pictured=0": [5, 1],
    "labelled=1": [],
    "since=2026-03-02T06:00:04Z": [6, 5, 4],
    "since=2026-03-02T07:00:04%2B01:00&until=2026-03-02T06:00:06": [5, 4],
    "before=3": [2, 1],
}
NO_QUERIES = (
    *("result=GOOD", "since=yesterday", "limit=0", "limit=201", "job=x", "labelled=yes"),
    *("unknown=1", "min_score=nan", "since=0001-01-01T00:00:00%2B14:00", "before=1&before=2"),
)


def test_search(olga: Client) -> None:
    for query, expected in FOUND.items():
        assert ids(olga.get(f"/api/parts?{query}")) == expected, query


def test_queries_that_make_no_sense(olga: Client) -> None:
    for query in NO_QUERIES:
        for path in ("/api/parts", "/api/export"):
            answer = olga.get(f"{path}?{query}")
            assert (answer.status_code, answer.json()["code"]) == (400, "bad_request"), query


def test_search_by_pages(olga: Client) -> None:
    seen, before = [], None
    for _ in range(4):
        more = "" if before is None else f"&before={before}"
        answer = olga.get(f"/api/parts?limit=2{more}")
        seen += ids(answer)
        before = answer.json()["next"]
        if before is None:
            break
    assert seen == [6, 5, 4, 3, 2, 1]


def test_a_part_with_its_defects(olga: Client) -> None:
    found = olga.get("/api/parts/4").json()
    assert found["frame_size"] == list(SIZE)
    assert found["defects"] == [{"box": [8, 12, 4, 4], "area_px": 16.0, "peak": 2.0}]
    assert (found["part"]["has_map"], found["part"]["result"]) == (True, "REVIEW")
    bare = olga.get("/api/parts/5").json()
    assert (bare["frame_size"], bare["defects"], bare["part"]["detail"]) == (None, [], "no frame")
    assert olga.get("/api/parts/7").status_code == 404
    assert olga.get("/api/parts/999999999999999").status_code == 404


def test_pictures_of_a_part(olga: Client) -> None:
    whole = olga.get("/api/parts/4/frame")
    assert whole.headers["content-type"] == "image/png"
    with Image.open(io.BytesIO(whole.content)) as image:
        assert image.size == SIZE[::-1]
    small = olga.get("/api/parts/4/frame?width=32")
    assert small.headers["content-type"] == "image/jpeg"
    with Image.open(io.BytesIO(small.content)) as image:
        assert image.size == (32, 24)
    heat = olga.get("/api/parts/4/map")
    with Image.open(io.BytesIO(heat.content)) as image:
        assert (image.size, image.mode) == (MAP[::-1], "RGBA")
    assert "x-crop" not in heat.headers
    for path in ("5/frame", "5/map", "1/frame", "77/frame"):
        assert olga.get(f"/api/parts/{path}").status_code == 404
    for width in ("0", "15", "4097", "-3", "x"):
        assert olga.get(f"/api/parts/4/frame?width={width}").status_code == 400


def test_a_label_is_kept_and_seen(page: Page, olga: Client) -> None:
    body = {"verdict": "good", "reason": "dust", "comment": " blown\x1b\u202e off\n"}
    answer = olga.post("/api/parts/2/label", json=body)
    assert answer.status_code == 200, answer.text
    part = answer.json()["part"]
    assert part["agreed"] == "good"
    assert [(of["user"], of["comment"]) for of in part["labels"]] == [("olga", "blown off")]
    emil = page.client("emil")
    assert (
        emil.post("/api/parts/2/label", json={"verdict": "bad", "reason": "crack"}).json()["part"][
            "agreed"
        ]
        == "disputed"
    )
    assert ids(olga.get("/api/parts?labelled=1")) == [2]
    entries = [c for c in read_changes(page.file.records.path) if c.action == "label"]
    assert [c.user for c in entries] == ["olga", "emil"]


def test_labels_that_are_refused(olga: Client) -> None:
    good, bad = {"verdict": "good", "reason": "dust"}, {"verdict": "bad", "reason": "crack"}
    for part, body, status in (
        (1, good, 409),  # OK, and not of the sample
        (5, bad, 409),
        (9, bad, 404),
        (2, {**bad, "verdict": "ugly"}, 400),
        (2, {**bad, "reason": "dust"}, 400),  # a reason for good
        (2, {**bad, "comment": "x" * 1001}, 400),
        (2, {"verdict": "bad"}, 400),
    ):
        answer = olga.post(f"/api/parts/{part}/label", json=body)
        assert answer.status_code == status, (part, body)
    assert ids(olga.get("/api/parts?labelled=1")) == []


def test_the_queue(page: Page, olga: Client) -> None:
    def queue(client: Client, limit: int = 50) -> tuple[list[int], int]:
        answer = client.get(f"/api/queue?limit={limit}")
        return ids(answer), answer.json()["waiting"]

    assert queue(olga) == ([6, 4, 3, 2], 4)
    assert queue(olga, 1) == ([6], 4)
    olga.post("/api/parts/4/label", json={"verdict": "bad", "reason": "crack"})
    assert queue(olga) == ([6, 3, 2], 3)
    assert queue(page.client("emil")) == ([6, 3, 2], 3), "labelled once is enough"
    for kind in ("frame", "map"):  # as the oldest pictures go, to make room
        (page.folder / f"pictures/2026-03-02/0000000002_{kind}.png").unlink()
    assert queue(olga) == ([6, 3], 2)


def test_labels_of_others_are_seen_after_ones_own(tmp_path: Path) -> None:
    page = open_page(tmp_path, anonymous=True)
    write_records(page.file.records.path, *kept_parts(tmp_path))
    add_label(page.file.records.path, 2, "otto", "bad", "crack", "a crack, says the foreman")
    add_label(page.file.records.path, 1, "otto", "bad", "crack")
    olga, emil, anybody = page.client("olga"), page.client("emil"), page.client()

    def seen(client: Client, path: str) -> tuple[list[str], str | None]:
        answer = client.get(path).json()
        part = answer["part"] if "part" in answer else answer["parts"][0]
        assert part["labels_shown"] or not part["labels"]
        return [of["user"] for of in part["labels"]], part["agreed"]

    for client in (olga, emil):
        assert seen(client, "/api/parts/2") == ([], None)
        assert seen(client, "/api/parts/1") == (["otto"], "bad"), "it is not to be labelled"
    assert seen(anybody, "/api/parts/2") == ([], "bad")
    assert (
        seen(olga, "/api/parts?part_id=2") == seen(anybody, "/api/parts?part_id=2") == ([], "bad")
    )
    assert seen(emil, "/api/parts?part_id=2") == (["otto"], "bad")
    # A part that waits for a second user.
    second = next(i for i in range(7, 200) if i * 7919 % 97 < 10)
    picture = kept_parts(tmp_path)[1].picture
    write_records(page.file.records.path, a_record(second, "NG", picture=picture))
    add_label(page.file.records.path, second, "otto", "bad", "crack")
    assert seen(olga, "/api/queue?limit=1") == seen(anybody, "/api/queue?limit=1") == ([], None)
    body = {"verdict": "good", "reason": "dust"}
    told = olga.post(f"/api/parts/{second}/label", json=body).json()["part"]
    assert (told["agreed"], len(told["labels"])) == ("disputed", 2)
    assert seen(olga, f"/api/parts/{second}") == (["otto", "olga"], "disputed")
    assert seen(emil, f"/api/parts/{second}") == ([], None)


def test_quality_of_what_was_labelled(olga: Client) -> None:
    before = olga.get("/api/quality").json()
    assert (before["parts"], before["sampled_ok"], before["escape_rate"]) == (6, 1, None)
    for part, verdict, reason in ((3, "bad", "crack"), (2, "good", "dust"), (6, "bad", "crack")):
        body = {"verdict": verdict, "reason": reason}
        assert olga.post(f"/api/parts/{part}/label", json=body).status_code == 200
    found = olga.get("/api/quality").json()
    assert (found["escapes"], found["escape_rate"], found["escape_high"]) == (1, 1.0, 1.0)
    assert found["escape_low"] == pytest.approx(0.025)
    assert (found["rejects_labelled"], found["false_rejects"]) == (2, 1)
    of_two = olga.get("/api/quality?job=2&since=2026-03-02T06:00:00Z").json()
    assert (of_two["job"], of_two["parts"], of_two["false_reject_share"]) == (2, 1, 0.0)
    assert olga.get("/api/quality?since=x").status_code == 400


def test_quality_names_what_the_released_bundle_rejects_again(
    page: Page, olga: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    again = {
        "time": "2026-03-02T07:00:00+00:00",
        "again_rejected": [{"inspection_id": i, "verdict": "NG"} for i in (2, 4)],
    }
    # Its limits were changed since; what was rejected then is named all the same.
    version = Version(
        page.folder, "0" * 64, "part", "", "", "override", "released", again, False, ()
    )
    monkeypatch.setattr("rdx_fast.hmi.labels_api.list_versions", lambda bundle: [version])
    assert olga.get("/api/quality").json()["again_rejected"] == [], "nobody says they are good"
    for part in (2, 3):
        olga.post(f"/api/parts/{part}/label", json={"verdict": "good", "reason": "dust"})
    found = olga.get("/api/quality?job=1").json()
    assert found["again_rejected"] == [2]
    assert found["compared"] == [{"job": 1, "time": again["time"], "current": False}]
    assert olga.get("/api/quality?job=2").json()["again_rejected"] == []


def exported(client: Client, query: str) -> bytes:
    answer = client.get(f"/api/export?{query}")
    assert answer.status_code == 200, answer.text
    assert int(answer.headers["content-length"]) == len(answer.content)
    name = answer.headers["content-disposition"]
    assert name.startswith('attachment; filename="line-1-20')
    return answer.content


def test_exports(page: Page, olga: Client, records: list[InspectionRecord]) -> None:
    olga.post("/api/parts/2/label", json={"verdict": "good", "reason": "dust", "comment": "=1+1"})
    rows = list(csv.DictReader(io.StringIO(exported(olga, "format=csv").decode())))
    assert [int(row["inspection_id"]) for row in rows] == [1, 2, 3, 4, 5, 6]
    table = pq.read_table(io.BytesIO(exported(olga, "format=parquet&result=NG")))
    assert table["score"].to_pylist() == [3.0, 4.0]
    with zipfile.ZipFile(io.BytesIO(exported(olga, "format=zip&job=1"))) as archive:
        assert "labels.csv" not in archive.namelist(), "engineers get it"
    engineers = exported(page.client("emil"), "format=zip&job=1")
    with zipfile.ZipFile(io.BytesIO(engineers)) as archive:
        assert sorted(archive.namelist()) == [
            *(f"frames/{i:010d}_frame.png" for i in (2, 3, 4)),
            *("inspections.csv", "labels.csv"),
        ]
        (label,) = csv.DictReader(io.StringIO(archive.read("labels.csv").decode()))
        assert (label["user"], label["comment"]) == ("olga", "'=1+1"), "no formula"
        with Image.open(archive.open("frames/0000000003_frame.png")) as image:
            assert image.getpixel((0, 0)) == (27, 27, 27)
    assert olga.get("/api/export?format=xls").status_code == 400


def test_exports_have_limits(olga: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export_api, "MOST_ROWS", 5)
    assert olga.get("/api/export?job=1&check=1").json() == {"possible": True}
    assert olga.get("/api/export?check=1").status_code == 413
    answer = olga.get("/api/export")
    assert (answer.status_code, answer.json()["code"]) == (413, "export_too_large")
    assert olga.get("/api/export?job=1").status_code == 200
    monkeypatch.setattr(export_api, "MOST_ZIPPED_BYTES", 100)
    for check in ("", "&check=1"):
        assert olga.get(f"/api/export?format=zip{check}").status_code == 413
    monkeypatch.setattr(export_api, "MOST_ZIPPED", 3)
    assert "narrow" in olga.get("/api/export?format=zip").json()["error"]
    monkeypatch.setattr(export_api, "KEPT_FREE_BYTES", 10**18)
    answer = olga.get("/api/export?job=1")
    assert (answer.status_code, answer.json()["code"]) == (409, "export_no_room")


def asked(page: Page, path: str, headers: dict[str, str]) -> dict[str, Any]:
    """A request as a server passes it on."""
    target, _, query = path.partition("?")
    given = {"host": "127.0.0.1", **headers}
    return {
        **{"type": "http", "method": "GET", "path": target, "query_string": query.encode()},
        **{"headers": [(name.encode(), value.encode()) for name, value in given.items()]},
        **{"http_version": "1.1", "scheme": "http", "asgi": {"version": "3.0"}, "app": page.app},
        **{"client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80), "root_path": ""},
    }


async def answered(page: Page, path: str, leaves: asyncio.Event | None = None) -> tuple[int, bytes]:
    """Status and body of an answer to anybody, who may leave; status 0 if there was none."""
    status, body = 0, b""

    async def receive() -> dict[str, Any]:
        await (leaves or asyncio.Event()).wait()
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        nonlocal status, body
        status = message.get("status", status)
        body += message.get("body", b"")
        if leaves is not None and body and not leaves.is_set():
            leaves.set()
            await asyncio.sleep(60)  # as a connection on which nothing is taken

    await page.app(asked(page, path, {}), receive, send)  # type: ignore[arg-type]
    return status, body


@pytest.fixture
def exporting(tmp_path: Path) -> Page:
    """A page that anybody sees."""
    page = open_page(tmp_path, anonymous=True)
    write_records(page.file.records.path, *kept_parts(tmp_path))
    return page


def slowly(started: asyncio.Event, go_on: Event, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exports wait until they may go on, or are stopped."""
    write, loop = export_api._ExportApi._written, asyncio.get_running_loop()

    def written(api: Any, query: Any, stop: Callable[[], bool], labels: bool) -> Any:
        loop.call_soon_threadsafe(started.set)
        while not go_on.wait(0.01) and not stop():
            pass
        if stop():
            raise RecordError("stopped")
        return write(api, query, stop, labels)

    monkeypatch.setattr(export_api._ExportApi, "_written", written)


def test_one_export_at_a_time(exporting: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        started, go_on = asyncio.Event(), Event()
        with monkeypatch.context() as patched:
            slowly(started, go_on, patched)
            first = asyncio.create_task(answered(exporting, "/api/export"))
            await started.wait()
            status, body = await answered(exporting, "/api/export?job=2")
            assert (status, json.loads(body)["code"]) == (429, "export_busy")
            go_on.set()
            assert (await first)[0] == 200
        assert (await answered(exporting, "/api/export?job=2"))[0] == 200

    asyncio.run(run())


def test_an_export_ends_with_whom_it_is_for(
    exporting: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export_api, "_LOOK_S", 0.01)

    async def run() -> None:
        with monkeypatch.context() as patched:  # while it is written
            started, leaves = asyncio.Event(), asyncio.Event()
            slowly(started, Event(), patched)
            first = asyncio.create_task(answered(exporting, "/api/export", leaves))
            await started.wait()
            leaves.set()
            await asyncio.wait_for(first, 20)
        while_sent = answered(exporting, "/api/export", asyncio.Event())
        await asyncio.wait_for(while_sent, 20)
        assert (await answered(exporting, "/api/export"))[0] == 200
        with monkeypatch.context() as patched:  # or the server ends
            started = asyncio.Event()
            slowly(started, Event(), patched)
            last = asyncio.create_task(answered(exporting, "/api/export"))
            await started.wait()
            exporting.context.ending.set()
            status, body = await asyncio.wait_for(last, 20)
            assert (status, json.loads(body)["code"]) == (503, "ending")

    asyncio.run(run())


def test_queries_of_many_records_take_turns(
    exporting: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on, running = Event(), []

    def counted(*of: Any) -> dict[tuple[str, bool], int]:
        running.append(of)
        assert go_on.wait(20)
        return count_records(*of)

    monkeypatch.setattr("rdx_fast.hmi.labels_api.count_records", counted)
    monkeypatch.setattr("rdx_fast.hmi.data._QUERIES_WAITING", 5)

    async def run() -> None:
        asked = [asyncio.create_task(answered(exporting, "/api/quality")) for _ in range(7)]
        refused = await asyncio.gather(*asked[5:])
        assert [status for status, _ in refused] == [429, 429]
        assert (await answered(exporting, "/api/session"))[0] == 200
        assert len(running) <= 2
        go_on.set()
        assert [status for status, _ in await asyncio.gather(*asked[:5])] == [200] * 5

    asyncio.run(run())


def test_exports_leave_no_files(exporting: Page) -> None:
    folder = exporting.file.records.path.with_name("records.sqlite.exports")
    folder.mkdir()
    (folder / "left").write_text("by a process that was killed")
    with exporting.client() as client:
        assert not folder.exists()
        assert client.get("/api/export?format=zip").status_code == 200
        assert list(folder.iterdir()) == []


def test_reading_can_be_stopped(exporting: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rdx_fast.station.records.read._STEPS", 1)
    path = exporting.file.records.path
    with pytest.raises(RecordError, match="reading was stopped"):
        list(read_records(path, stop=lambda: True))
    with pytest.raises(RecordError, match="reading was stopped"):
        count_records(path, stop=lambda: True)
    assert len(list(read_records(path, stop=lambda: False))) == 6


def test_a_station_without_records_yet(page: Page) -> None:
    with page.client("olga") as olga:
        assert page.file.records.path.exists(), "it has the log of changes, with the login"
        assert olga.get("/api/parts").json() == {"parts": [], "next": None}
        assert olga.get("/api/queue").json() == {"parts": [], "waiting": 0}
        assert olga.get("/api/quality").json()["parts"] == 0
        for path in ("/api/parts/1", "/api/parts/1/frame", "/api/export"):
            assert olga.get(path).status_code == 404
        body = {"verdict": "good", "reason": "dust"}
        assert olga.post("/api/parts/1/label", json=body).status_code == 404


def test_the_stream_of_events_ends_with_the_session(tmp_path: Path) -> None:
    """Asked as a server asks, since a test client waits for the end of an answer."""
    page = open_page(tmp_path)
    write_records(page.file.records.path, *kept_parts(tmp_path))
    client = page.client("olga")
    cookie = "; ".join(f"{name}={value}" for name, value in client.cookies.items())
    scope = asked(page, "/api/live", {"cookie": cookie})
    sent: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    async def run() -> None:
        stays = asyncio.Event()

        async def receive() -> dict[str, Any]:
            await stays.wait()
            return {"type": "http.disconnect"}

        async with page.app.router.lifespan_context(page.app):
            answer = asyncio.create_task(page.app(scope, receive, sent.put))  # type: ignore[arg-type]
            start = await sent.get()
            assert start["status"] == 200
            headers = dict(start["headers"])
            assert headers[b"content-type"].startswith(b"text/event-stream")
            assert headers[b"cache-control"] == b"no-store"
            assert (await sent.get())["body"] == b"retry: 2000\n\n"
            assert (await sent.get())["body"].startswith(b"event: snapshot\ndata: {")
            page.clock.now += 24 * 3600
            write_records(page.file.records.path, a_record(7))
            await asyncio.wait_for(answer, 30)
        stays.set()

    asyncio.run(run())
