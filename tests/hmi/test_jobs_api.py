"""Jobs on the page: limits, regions, release, changeover, and the log of changes."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from PIL import Image

from rdx_fast.bundle.bundle import Bundle, open_bundle
from rdx_fast.bundle.bundle_history import bundle_history, verify_bundle
from rdx_fast.bundle.changes import override_limits
from rdx_fast.bundle.history import Change
from rdx_fast.bundle.versions import list_versions, manifest_sha256, new_candidate, release
from rdx_fast.errors import BundleError, CalibrationError
from rdx_fast.hmi.calibration import Calibration, calibrate_apart
from rdx_fast.hmi.tasks import Task
from rdx_fast.limits.promise import Wish
from rdx_fast.recipe.recipe import FrameSpec, InspectionRecipe, RegionSpec
from rdx_fast.station.interfaces import StatusConfig
from rdx_fast.station.records.changes import read_changes
from rdx_fast.station.records.store import RecordWriter
from rdx_fast.station.status_client import StatusError
from support.page import PASSWORDS, Page, open_page
from support.small_bundle import THRESHOLDS, limits_of, write_bundle
from support.small_network import SIZE

LIMITS = {"region": "all", "executed": "fp32", "ok_below": 1.2, "ng_above": 1.6, "reason": "lamp"}
LEFT = [[0, 0], [SIZE[1] // 2, 0], [SIZE[1] // 2, SIZE[0]], [0, SIZE[0]]]


@pytest.fixture
def page(page: Page) -> Page:
    write_bundle(page.folder / "part.rdx")
    RecordWriter(page.file.records.path).close()
    return page


def entries(page: Page, action: str) -> list[tuple[str, dict[str, Any], dict[str, Any]]]:
    changes = read_changes(page.file.records.path)
    return [(c.user, c.before, c.after) for c in changes if c.action == action]


def good_images(folder: Path, count: int) -> None:
    folder.mkdir()
    random = np.random.default_rng(0)
    for i in range(count):
        pixels = random.integers(0, 256, (*SIZE, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")


def ended(get: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What the page shows of a job when its task has ended."""
    for _ in range(2000):
        found = get()
        if found["running"] is None or found["running"]["error"] is not None:
            return found
        time.sleep(0.02)
    pytest.fail("the task does not end")


def test_a_job(page: Page) -> None:
    client = page.client("olga")
    found = client.get("/api/jobs/1").json()
    limit = THRESHOLDS["add"]
    assert (found["job"], found["bundle"], found["stale"]) == (1, "part.rdx", [])
    assert [(of["ok_below"], of["ng_above"]) for of in found["limits"]] == [(limit, limit)]
    assert found["recipe"] == {"frame_size": None, "crop": None, "regions": []}
    assert [of["action"] for of in found["history"]] == ["export"]
    assert [of["state"] for of in found["versions"]] == ["released"]
    assert (found["open_sha256"], found["running"]) == (None, None)
    assert client.get("/api/jobs/2").status_code == 404
    assert str(page.folder) not in client.get("/api/jobs/1").text  # the page tells no paths


def test_limits_are_released_at_once(page: Page) -> None:
    path = page.folder / "part.rdx"
    before = manifest_sha256(path)
    found = page.client("emil").post("/api/jobs/1/limits", json=LIMITS).json()
    (limits,) = found["limits"]
    assert (limits["ok_below"], limits["ng_above"]) == (1.2, 1.6)
    origin = {"text": "lamp", "promised": None}
    assert limits["origin"] == {"ok": origin, "ng": origin}
    assert [of["state"] for of in found["versions"]] == ["released", "previous"]
    assert found["versions"][1]["sha256"] == before
    last = verify_bundle(open_bundle(path))[-1]
    assert (last.action, last.user) == ("override", "emil")
    ((user, old, new),) = entries(page, "limits")
    assert user == "emil"
    assert (old["ok_below"], old["ng_above"]) == (THRESHOLDS["add"],) * 2
    assert new == {**LIMITS, "job": 1, "sha256": manifest_sha256(path)}


def test_a_limit_that_stays_keeps_its_origin(page: Page) -> None:
    form = LIMITS | {"ok_below": THRESHOLDS["add"]}
    page.client("emil").post("/api/jobs/1/limits", json=form)
    (execution,) = open_bundle(page.folder / "part.rdx").manifest.executions
    assert execution.limits[0].ok_below.reason == "a test"
    assert execution.limits[0].ng_above.reason == "lamp"


@pytest.mark.parametrize(
    ("wrong", "status"),
    [
        ({"region": "lid"}, 409),
        ({"executed": "int8"}, 409),
        ({"ok_below": 2.0}, 400),
        ({"ok_below": 0}, 400),
        ({"reason": " "}, 400),
        ({"ok_below": THRESHOLDS["add"], "ng_above": THRESHOLDS["add"]}, 409),
    ],
)
def test_limits_that_cannot_be(page: Page, wrong: dict[str, Any], status: int) -> None:
    answer = page.client("emil").post("/api/jobs/1/limits", json=LIMITS | wrong)
    assert answer.status_code == status
    assert len(list_versions(page.folder / "part.rdx")) == 1
    assert entries(page, "limits") == []


def test_release_and_back(page: Page) -> None:
    client, path = page.client("emil"), page.folder / "part.rdx"
    first = manifest_sha256(path)
    client.post("/api/jobs/1/limits", json=LIMITS)
    second = manifest_sha256(path)
    assert client.post("/api/jobs/1/release", json={"sha256": first}).status_code == 200
    assert manifest_sha256(path) == first
    assert entries(page, "release") == [
        ("emil", {"job": 1, "sha256": second}, {"job": 1, "sha256": first})
    ]
    assert client.post("/api/jobs/1/release", json={"sha256": "0" * 64}).status_code == 409
    assert client.post("/api/jobs/1/release", json={"sha256": "../x"}).status_code == 400


def test_a_candidate_is_discarded(page: Page) -> None:
    client, path = page.client("emil"), page.folder / "part.rdx"
    with new_candidate(path) as copy:
        override_limits(open_bundle(copy), "a test", ng_above=3.0, user="emil")
    candidate = list_versions(path)[1]
    assert candidate.state == "candidate"
    form = {"sha256": candidate.sha256}
    found = client.post("/api/jobs/1/discard", json=form).json()
    assert [of["state"] for of in found["versions"]] == ["released"]
    assert not candidate.path.exists()
    removed = {"job": 1, "removed": [candidate.sha256]}
    assert entries(page, "release") == [("emil", {"job": 1}, removed)]
    assert client.post("/api/jobs/1/discard", json=form).status_code == 409
    client.post("/api/jobs/1/limits", json=LIMITS)
    for version in list_versions(path):
        answer = client.post("/api/jobs/1/discard", json={"sha256": version.sha256})
        assert (answer.status_code, answer.json()["code"]) == (409, "no_candidate")
    assert len(list_versions(path)) == 2


def test_a_job_is_shown_while_a_version_is_released(
    page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = page.folder / "part.rdx"
    client = page.client("emil")
    client.post("/api/jobs/1/limits", json=LIMITS)
    previous = list_versions(path)[1]
    released: list[str] = []

    def releasing(bundle: Bundle) -> list[Change]:
        if not released:  # its files are no longer in the folder from now on
            released.append(release(path, previous.sha256).sha256)
        return bundle_history(bundle)

    monkeypatch.setattr("rdx_fast.hmi.job_view.bundle_history", releasing)
    found = client.get("/api/jobs/1").json()
    assert found["versions"][0]["sha256"] == previous.sha256
    assert found["limits"][0]["ng_above"] == THRESHOLDS["add"]
    assert [of["action"] for of in found["history"]] == ["export"]


def test_a_job_without_its_history(page: Page) -> None:
    (page.folder / "part.rdx" / "history-0.jsonl").unlink()
    for user in ("olga", "emil"):
        answer = page.client(user).get("/api/jobs/1")
        assert (answer.status_code, "history-0.jsonl" in answer.text) == (409, True)
        assert (str(page.folder) in answer.text) == (user == "emil"), "engineers mend it"


def test_regions_are_calibrated_in_the_background(page: Page) -> None:
    good_images(page.folder / "calibration", 9)
    client, path = page.client("emil"), page.folder / "part.rdx"
    form = {
        "regions": [{"name": "left", "kind": "include", "polygon": LEFT}],
        "false_reject": 0.1,
    }
    begun = client.post("/api/jobs/1/regions", json=form).json()["running"]
    assert (begun["task"], begun["user"], begun["error"]) == ("regions", "emil", None)
    found = ended(lambda: client.get("/api/jobs/1").json())
    assert found["running"] is None
    assert found["recipe"]["regions"] == []  # until somebody releases it
    (candidate,) = [of for of in found["versions"] if of["state"] == "candidate"]
    assert candidate["action"] == "calibrate"
    ((_, old, new),) = entries(page, "regions")
    assert (old["regions"], new["sha256"]) == ([], candidate["sha256"])
    assert old["sha256"] == found["versions"][0]["sha256"]
    released = client.post("/api/jobs/1/release", json={"sha256": candidate["sha256"]}).json()
    assert released["recipe"]["frame_size"] == list(SIZE)
    assert released["recipe"]["regions"] == [{"name": "left", "kind": "include", "polygon": LEFT}]
    assert [of["region"] for of in released["limits"]] == ["left"]
    assert released["stale"] == []
    manifest = open_bundle(path).manifest
    assert manifest.executions[0].limits[0].ok_below.good_images == 9


def test_one_task_of_a_job_at_a_time(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    good_images(page.folder / "calibration", 9)
    client = page.client("emil")
    form = {"regions": [], "false_reject": 0.1}
    page.context.tasks._tasks[1] = running = Task("regions", "emil")
    answer = client.post("/api/jobs/1/regions", json=form)
    assert answer.status_code == 409
    assert "emil has begun regions of job 1" in answer.json()["error"]
    running.running = False
    monkeypatch.setattr("rdx_fast.hmi.jobs_api.calibrate_apart", lambda *_: 1 / 0)
    client.post("/api/jobs/1/regions", json=form)
    found = ended(lambda: client.get("/api/jobs/1").json())
    assert found["running"]["error"] == "it failed: the log of the page's server says why"
    assert [of["state"] for of in found["versions"]] == ["released"]


@pytest.mark.parametrize(
    ("regions", "status", "text"),
    [
        ([{"name": "a", "kind": "include", "polygon": [[0, 0], [1, 1]]}], 400, "2 corners"),
        ([{"name": "a", "kind": "include", "polygon": [[0, 0], [9, 0], [9, 1e6]]}], 400, "outside"),
        ([{"name": "a", "kind": "include", "keep": True}], 400, "none of this name"),
        ([{"name": "a", "kind": "include"}], 400, "either a polygon or keep"),
        ([{"name": "a", "kind": "include", "polygon": LEFT}] * 2, 400, "may occur once"),
        (
            [
                {"name": "a", "kind": "include", "polygon": LEFT},
                {"name": "b", "kind": "ignore", "polygon": LEFT},
            ],
            409,
            "no pixel to inspect",
        ),
        ([{"name": "a", "kind": "include", "polygon": [[0, 0]] * 201}], 400, "more than 200"),
    ],
)
def test_regions_that_cannot_be(
    page: Page, regions: list[dict[str, Any]], status: int, text: str
) -> None:
    good_images(page.folder / "calibration", 9)
    form = {"regions": regions, "false_reject": 0.1}
    answer = page.client("emil").post("/api/jobs/1/regions", json=form)
    assert answer.status_code == status
    assert text in answer.json()["error"]


def test_too_few_images_are_refused_at_once(page: Page) -> None:
    client = page.client("emil")
    assert client.post("/api/jobs/1/regions", json={"regions": []}).status_code == 409
    good_images(page.folder / "calibration", 9)
    answer = client.post("/api/jobs/1/regions", json={"regions": []})
    assert (answer.status_code, answer.json()["code"]) == (409, "promise")
    assert answer.json()["facts"] == {"good": 9, "best": "0.1", "needed": 199}


def test_kept_masks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = open_page(tmp_path)
    mask = np.zeros(SIZE, np.uint8)
    mask[:, : SIZE[1] // 2] = 255
    recipe = InspectionRecipe(FrameSpec(*SIZE), (RegionSpec("left", mask="left.png"),))
    limits = (limits_of("left", 1.4),)
    write_bundle(tmp_path / "part.rdx", recipe=recipe, limits=limits, masks={"left.png": mask})
    RecordWriter(page.file.records.path).close()
    good_images(tmp_path / "calibration", 9)
    monkeypatch.setattr("rdx_fast.hmi.jobs_api.calibrate_apart", lambda *_: None)
    client = page.client("emil")
    kept = {"name": "left", "kind": "include"}
    assert client.get("/api/jobs/1").json()["recipe"]["regions"] == [kept | {"mask": True}]
    form = {"regions": [kept | {"keep": True}], "false_reject": 0.2}
    client.post("/api/jobs/1/regions", json=form)
    found = ended(lambda: client.get("/api/jobs/1").json())
    (candidate,) = [of for of in found["versions"] if of["state"] == "candidate"]
    path = next((tmp_path / "part.rdx.versions").glob("candidate-*"))
    copied = open_bundle(path)
    assert manifest_sha256(path) == candidate["sha256"]
    assert (copied.mask(copied.manifest.recipe.regions[0].mask or "") == mask).all()


def test_a_calibration_that_fails_says_why(page: Page) -> None:
    wanted = Calibration(page.folder / "none.rdx", (page.folder / "a.png",), Wish(), "emil")
    shares: list[float] = []
    with pytest.raises(CalibrationError, match="no such bundle"):
        calibrate_apart(wanted, shares.append)
    assert shares == []


class _Station:
    """Answers as a station, and keeps what was selected."""

    selected: ClassVar[list[int]] = []
    error: str | None = None

    def __init__(self, path: Path, timeout_s: float = 2.0) -> None:
        pass

    def status(self) -> dict[str, Any]:
        if self.error:
            raise StatusError(self.error)
        held = {"sha256": "5" * 64, "execution": "fp32"}
        return {"active_job": 3, "jobs": {"1": held}}

    def select_job(self, job: int) -> None:
        if self.error:
            raise StatusError(self.error)
        self.selected.append(job)

    def close(self) -> None:
        pass


def test_select_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("app", "jobs_api"):
        monkeypatch.setattr(f"rdx_fast.hmi.{module}.StatusClient", _Station)
    monkeypatch.setattr(_Station, "selected", [])
    page = open_page(tmp_path, status=StatusConfig(tmp_path / "socket"))
    write_bundle(tmp_path / "part.rdx")
    RecordWriter(page.file.records.path).close()
    client = page.client("emil")
    shown = client.get("/api/jobs/1").json()
    assert (shown["open_sha256"], shown["open_execution"]) == ("5" * 64, "fp32")
    assert client.post("/api/job", json={"job": 1}).json() == {"done": True}
    assert _Station.selected == [1]
    assert client.post("/api/job", json={"job": 2}).status_code == 404
    monkeypatch.setattr(_Station, "error", "it is away")
    answer = client.post("/api/job", json={"job": 1})
    assert (answer.status_code, answer.json()["code"]) == (409, "station_away")
    assert client.get("/api/jobs/1").json()["open_sha256"] is None
    assert entries(page, "job") == [("emil", {"job": 3}, {"job": 1})]


def test_a_job_that_the_station_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(station: _Station, job: int) -> None:
        raise StatusError("it is inspecting")

    monkeypatch.setattr("rdx_fast.hmi.jobs_api.StatusClient", _Station)
    monkeypatch.setattr(_Station, "select_job", refuse)
    page = open_page(tmp_path, status=StatusConfig(tmp_path / "socket"))
    RecordWriter(page.file.records.path).close()
    assert page.client("emil").post("/api/job", json={"job": 1}).status_code == 409
    assert entries(page, "job") == [
        ("emil", {"job": 3}, {"job": 1}),
        ("emil", {"job": 1}, {"job": 3, "failed": "it is inspecting"}),
    ]


def test_nothing_is_changed_that_cannot_be_entered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("app", "jobs_api"):
        monkeypatch.setattr(f"rdx_fast.hmi.{module}.StatusClient", _Station)
    monkeypatch.setattr("rdx_fast.hmi.jobs_api.calibrate_apart", lambda *_: None)
    monkeypatch.setattr(_Station, "selected", [])
    page = open_page(tmp_path, status=StatusConfig(tmp_path / "socket"))
    path = tmp_path / "part.rdx"
    write_bundle(path)
    good_images(tmp_path / "calibration", 9)
    client = page.client("emil")
    client.post("/api/jobs/1/limits", json=LIMITS)
    there = [of.sha256 for of in list_versions(path)]
    at_once = partial(sqlite3.connect, isolation_level=None, timeout=0)
    monkeypatch.setattr("rdx_fast.station.records.changes.connect", at_once)
    with closing(sqlite3.connect(page.file.records.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")  # as on a disk that is full or hangs
        for route, form in {
            "/api/jobs/1/limits": LIMITS | {"ng_above": 3.0},
            "/api/jobs/1/release": {"sha256": there[1]},
            "/api/job": {"job": 1},
            "/api/password": {"old": PASSWORDS["emil"], "new": "another password"},
        }.items():
            answer = client.post(route, json=form)
            assert (answer.status_code, "locked" in answer.text) == (409, True), route
        client.post("/api/jobs/1/regions", json={"regions": [], "false_reject": 0.1})
        assert "locked" in ended(lambda: client.get("/api/jobs/1").json())["running"]["error"]
    assert [of.sha256 for of in list_versions(path)] == there
    assert _Station.selected == []
    assert page.client().log_in("emil", PASSWORDS["emil"]).status_code == 200


def test_a_release_that_fails_is_entered(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **named: object) -> None:
        raise BundleError("the disk is full")

    path = page.folder / "part.rdx"
    first = manifest_sha256(path)
    monkeypatch.setattr("rdx_fast.hmi.jobs_api.release", fail)
    assert page.client("emil").post("/api/jobs/1/limits", json=LIMITS).status_code == 409
    (_, old, new), (_, failed, after) = entries(page, "limits")
    assert (failed, after) == (new, {**old, "failed": "the disk is full"})
    candidate = list_versions(path)[1].sha256
    assert new["sha256"] == candidate

    def fail_late(*given: Any, **named: Any) -> None:
        release(*given, **named)
        fail()

    monkeypatch.setattr("rdx_fast.hmi.jobs_api.release", fail_late)
    page.client("emil").post("/api/jobs/1/release", json={"sha256": candidate})
    assert entries(page, "release") == [
        ("emil", {"job": 1, "sha256": first}, {"job": 1, "sha256": candidate})
    ], "it was released all the same"


def test_a_station_without_a_socket_selects_nothing(page: Page) -> None:
    answer = page.client("emil").post("/api/job", json={"job": 1})
    assert (answer.status_code, answer.json()["code"]) == (409, "no_status")


def test_audit(page: Page) -> None:
    client = page.client("emil")
    client.post("/api/jobs/1/limits", json=LIMITS)
    found = client.get("/api/audit", params={"last": 1}).json()
    assert found["chain"] == "ok"
    assert [(of["action"], of["user"]) for of in found["changes"]] == [("limits", "emil")]
    assert page.client("olga").get("/api/audit").status_code == 403
    with closing(sqlite3.connect(page.file.records.path)) as connection:
        connection.execute("DELETE FROM changes WHERE entry = 1")
        connection.commit()
    broken = client.get("/api/audit").json()
    assert broken["changes"] == []
    assert "the history is broken before entry 1" in broken["chain"]


REGIONS = {"regions": [{"name": "left", "kind": "include", "polygon": LEFT}], "false_reject": 0.1}


@pytest.mark.parametrize(("path", "form"), [("limits", LIMITS), ("regions", REGIONS)])
def test_what_was_entered_for_another_version_is_refused(
    page: Page, path: str, form: dict[str, Any]
) -> None:
    """Of two engineers, the second sees first what the first has changed."""
    good_images(page.folder / "calibration", 9)
    client = page.client("emil")
    base = client.get("/api/jobs/1").json()["sha256"]
    assert base == manifest_sha256(page.folder / "part.rdx")
    client.post("/api/jobs/1/limits", json=LIMITS | {"ok_below": 0.5})
    changed = entries(page, "limits")
    answer = client.post(f"/api/jobs/1/{path}", json=form | {"base": base})
    assert (answer.status_code, answer.json()["code"]) == (409, "changed_meanwhile")
    assert entries(page, "limits") == changed
    (limits,) = client.get("/api/jobs/1").json()["limits"]
    assert limits["ok_below"] == 0.5


def test_a_release_undoes_no_change_that_was_not_seen(
    page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, path = page.client("emil"), page.folder / "part.rdx"
    first = manifest_sha256(path)
    client.post("/api/jobs/1/limits", json=LIMITS)
    wanted = {"sha256": first, "base": first}  # as it was when the page was opened
    answer = client.post("/api/jobs/1/release", json=wanted)
    assert (answer.status_code, answer.json()["code"]) == (409, "changed_meanwhile")
    assert entries(page, "release") == []
    # The same, where another process releases at the last moment.
    second = manifest_sha256(path)

    def late(*given: Any, **named: Any) -> Any:
        named["over"] = "0" * 64
        return release(*given, **named)

    monkeypatch.setattr("rdx_fast.hmi.jobs_api.release", late)
    answer = client.post("/api/jobs/1/release", json={"sha256": first, "base": second})
    assert (answer.status_code, answer.json()["code"]) == (409, "changed_meanwhile")
    assert manifest_sha256(path) == second


def test_a_page_that_follows_a_job_keeps_no_session_open(page: Page) -> None:
    client = page.client("emil")
    before = client.get("/api/session").json()["expires_in_s"]
    page.clock.now += 600
    client.get("/api/jobs/1")
    assert client.get("/api/session").json()["expires_in_s"] == before - 600


def test_an_error_of_a_task_tells_paths_to_engineers_alone(page: Page) -> None:
    def work(_: object) -> None:
        raise OSError(28, "No space left on device", "/srv/line/part.rdx")

    page.context.tasks.start(1, "regions", "emil", work)
    shown = ended(page.client("emil").get("/api/jobs/1").json)
    assert "/srv/line/part.rdx" in shown["running"]["error"]
    error = page.client("olga").get("/api/jobs/1").json()["running"]["error"]
    assert ("/srv" in error, "part.rdx" in error) == (False, True)


def test_records_that_cannot_be_read_are_no_broken_chain(page: Page) -> None:
    client = page.client("emil")
    for suffix in ("", "-wal", "-shm"):
        Path(f"{page.file.records.path}{suffix}").unlink(missing_ok=True)
    answer = client.get("/api/audit")
    assert (answer.status_code, answer.json()["code"]) == (409, "refused")
