"""Every route of the page: who may call it, and what protects it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from starlette.routing import Mount, Route

from rdx_fast.hmi.access import LOGIN_BODY, MAX_BODY, Access, ApiRoute, post
from rdx_fast.hmi.protection import HEADERS, Protection
from rdx_fast.station.records.changes import read_changes
from rdx_fast.station.records.store import RecordWriter
from support.page import ADDRESS, PASSWORDS, ROLES, Page, open_page

WITHOUT = {"POST": {"/api/login"}, "GET": {"/api/session", "/api/texts"}}  # login


def api(page: Page) -> list[tuple[str, ApiRoute, str]]:
    """Method, route and a path of it, of all routes of the interface."""
    found = []
    for route in page.app.routes:
        if isinstance(route, ApiRoute):
            (method,) = (route.methods or set()) - {"HEAD"}
            found.append((method, route, re.sub(r"{\w+:id}", "1", route.path)))
    return found


def test_all_routes_are_declared_or_serve_files(page: Page) -> None:
    others = [route for route in page.app.routes if not isinstance(route, ApiRoute)]
    assert all(isinstance(route, Route | Mount) for route in others)
    assert {getattr(route, "path", None) for route in others} == {"/", "/static"}
    (index,) = [route for route in others if isinstance(route, Route)]
    assert index.methods == {"GET", "HEAD"}
    assert all(method in WITHOUT for method, _, _ in api(page))
    assert len(api(page)) >= 10
    assert not re.search(r"{(?!\w+:id})", "".join(route.path for _, route, _ in api(page)))


def test_nobody_reads_or_writes_without_a_session(page: Page) -> None:
    client = page.client()
    for method, route, path in api(page):
        answer = client.request(method, path, json={} if method == "POST" else None)
        open_to_all = path in WITHOUT[method]
        assert (route.needs is Access.OPEN) == open_to_all
        assert (answer.status_code == 401) == (not open_to_all), path
        assert answer.headers["cache-control"] == "no-store"


def test_anonymous_visitors_read_what_needs_no_role(tmp_path: Path) -> None:
    page = open_page(tmp_path, anonymous=True)
    client = page.client()
    for method, route, path in api(page):
        if path in WITHOUT[method] or route.path == "/api/live":  # which does not end
            continue
        answer = client.request(method, path, json={} if method == "POST" else None)
        assert (answer.status_code != 401) == (route.needs is Access.VIEW), path
        assert method == "GET" or route.needs >= Access.OPERATOR


@pytest.mark.parametrize("user", ROLES)
def test_nothing_writes_without_role_and_token(page: Page, user: str) -> None:
    for method, route, path in api(page):
        if method != "POST" or path in WITHOUT["POST"]:
            continue
        client = page.client(user)
        token = client.headers.pop("X-CSRF-Token")
        refused = "role_needed" if Access[ROLES[user].upper()] < route.needs else "csrf"
        for wrong in (None, "", "x", token[:-1], "é" * 43):
            stated = {} if wrong is None else {"X-CSRF-Token": wrong.encode("latin-1")}
            answer = client.post(path, json={}, headers=stated)
            assert (answer.status_code, answer.json()["code"]) == (403, refused), path
        answer = client.post(path, content=b"", headers={"X-CSRF-Token": token})
        if refused == "role_needed":
            assert answer.json()["code"] == refused
        elif route.form is not None:
            assert answer.status_code == 415  # admitted: now the body is looked at


def test_a_route_that_writes_must_name_a_role() -> None:
    with pytest.raises(ValueError, match="VIEW is given"):
        post("/api/x", Access.VIEW, lambda call: None)


def test_a_token_is_of_one_session(page: Page) -> None:
    first, second = page.client("emil"), page.client("emil")
    first.headers["X-CSRF-Token"] = second.headers["X-CSRF-Token"]
    assert first.post("/api/job", json={"job": 1}).json()["code"] == "csrf"


@pytest.mark.parametrize(
    ("host", "known"),
    [
        ("127.0.0.1:8460", True),
        ("localhost:8460", True),
        ("LOCALHOST", True),
        ("line-1.plant", True),
        ("192.168.1.7:8460", True),  # an address, which no name of another site leads to
        ("[::1]:8460", True),
        ("line-2.plant", False),
        ("localhost.evil.example", False),
        ("evil@localhost", False),
        ("localhost:8460:1", False),
        ("[::1", False),
        ("", False),
    ],
)
def test_hosts(tmp_path: Path, host: str, known: bool) -> None:
    client = open_page(tmp_path, hosts=("Line-1.plant",)).client()
    answer = client.get("/api/session", headers={"Host": host})
    assert answer.status_code == (200 if known else 400)
    assert known or answer.json()["code"] == "host"


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://127.0.0.1:1", "http://["]
)
def test_other_sites_pages_cannot_post(page: Page, origin: str) -> None:
    login = {"user": "emil", "password": PASSWORDS["emil"]}
    client = page.client()
    answer = client.post("/api/login", json=login, headers={"Origin": origin})
    assert (answer.status_code, answer.json()["code"]) == (403, "origin")
    assert client.post("/api/login", json=login, headers={"Origin": ADDRESS}).status_code == 200


def test_other_sites_pages_cannot_read(tmp_path: Path) -> None:
    client = open_page(tmp_path, anonymous=True).client()
    for site, status in (("cross-site", 403), ("same-origin", 200), ("none", 200)):
        answer = client.get("/api/parts", headers={"Sec-Fetch-Site": site})
        assert answer.status_code == status
    assert client.get("/", headers={"Sec-Fetch-Site": "cross-site"}).status_code == 200, "a link"


def test_too_many_requests_at_once_are_put_off(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    client = page.client("emil")
    monkeypatch.setattr(Protection, "AT_ONCE", 0)
    answer = client.get("/api/parts")
    assert (answer.status_code, answer.json()["code"]) == (503, "busy")
    assert {name: answer.headers.get(name) for name in HEADERS} == HEADERS
    monkeypatch.undo()
    assert client.get("/api/parts").status_code == 200, "none is counted that has ended"


def test_headers_are_on_every_answer(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rdx_fast.hmi.session_api.read_texts", lambda _: 1 / 0)
    client = page.client()
    answers = [
        client.get("/api/session"),
        client.get("/api/session", headers={"Host": "evil.example"}),
        client.get("/api/none"),
        client.get("/static/none"),
        client.delete("/api/session"),
        client.post("/static/none"),
        client.get("/api/texts"),  # fails
    ]
    assert [answer.status_code for answer in answers] == [200, 400, 404, 404, 405, 405, 500]
    for answer in answers:
        assert {name: answer.headers.get(name) for name in HEADERS} == HEADERS
        assert answer.status_code == 200 or set(answer.json()) == {"error", "code"}
    assert "ZeroDivision" not in answers[-1].text
    assert "default-src 'self'" in HEADERS["Content-Security-Policy"]
    assert "unsafe" not in HEADERS["Content-Security-Policy"]


def test_cookies(tmp_path: Path) -> None:
    page = open_page(
        tmp_path, certificate=tmp_path / "certificate.pem", private_key=tmp_path / "key.pem"
    )
    client = page.client(address="https://127.0.0.1:8460")
    answer = client.log_in("olga", PASSWORDS["olga"])
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith("rdx_fast_8460=")
    assert {"HttpOnly", "Secure", "SameSite=strict", "Path=/"} <= set(cookie.split("; "))
    plain = open_page(Path(tmp_path / "http")).client()
    assert "Secure" not in plain.log_in("olga", PASSWORDS["olga"]).headers["set-cookie"]


def test_files_outside_the_static_folder_are_not_served(page: Page) -> None:
    secret = Path(__file__).resolve()
    for path in (
        "/static/../app.py",
        "/static/%2e%2e/app.py",
        "/static/..%2fapp.py",
        "/static/..%5capp.py",
        "/static/....//app.py",
        f"/static/{secret}",
        f"/static//{secret}",
        f"/static/%2f{secret}",
        "/static/%00",
        "/static/" + "x" * 5000,
        "/static/" + "../" * 200 + "etc/passwd",
        "/api/parts/..%2f..%2fusers.json/frame",
        "/api/jobs/" + "9" * 5000,
        "/..%2fusers.json",
    ):
        answer = page.client("emil").get(path)
        assert answer.status_code == 404, path


def test_bodies_are_limited(page: Page) -> None:
    client = page.client()
    login: dict[str, Any] = {"user": "emil", "password": PASSWORDS["emil"]}
    answer = client.post("/api/login", json=login | {"password": "x" * MAX_BODY})
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
    json = {"Content-Type": "application/json"}
    large = client.post("/api/login", json=login | {"password": "x" * LOGIN_BODY})
    assert large.status_code == 413
    endless = (b" " * 65536 for _ in range(100))
    assert client.post("/api/login", content=endless, headers=json).status_code == 413
    for kind in ("text/plain", "multipart/form-data; boundary=x", "application/json; charset=x"):
        answer = client.post("/api/login", content=b"{}", headers={"Content-Type": kind})
        assert answer.status_code == 415


def test_what_anybody_may_send_is_short(page: Page) -> None:
    for method, route, path in api(page):
        if method == "POST":
            assert route.largest < 2**16 or route.needs is Access.ENGINEER, path
    client = page.client("emil")
    form = {"regions": [], "false_reject": 0.1, "x": "x" * 2**17}
    answer = client.post("/api/jobs/1/regions", json=form)
    assert (answer.status_code, answer.json()["code"]) == (400, "bad_request"), "read, in a thread"


def test_names_that_no_user_has_go_into_no_log(page: Page) -> None:
    RecordWriter(page.file.records.path).close()
    for name in ("\x1b[2J\x1b]0;owned\x07evil", "\u202eevil", "emil "):
        assert page.client().log_in(name, "x").status_code == 401
    (entry, *others) = read_changes(page.file.records.path)
    assert (entry.action, entry.user, len(others)) == ("login refused", "?", 2)


def test_what_is_done_is_entered_in_the_log(page: Page) -> None:
    RecordWriter(page.file.records.path).close()
    client = page.client()
    client.log_in("emil", "wrong password")
    client.log_in("emil", PASSWORDS["emil"])
    client.post("/api/logout")
    entered = [(c.action, c.user) for c in read_changes(page.file.records.path)]
    assert entered == [("login refused", "emil"), ("login", "emil"), ("logout", "emil")]


def test_nobody_is_told_jobs_and_reasons(page: Page, tmp_path: Path) -> None:
    told = page.client().get("/api/session").json()
    assert (told["jobs"], told["reasons"]) == ([], {"good": [], "bad": []})
    assert page.client("olga").get("/api/session").json()["jobs"] == [{"id": 1, "name": "part"}]
    (tmp_path / "open").mkdir()
    anybody = open_page(tmp_path / "open", anonymous=True).client()
    assert anybody.get("/api/session").json()["jobs"] == [{"id": 1, "name": "part"}]


def test_users_that_cannot_be_read_are_no_mistake_of_the_program(page: Page) -> None:
    client = page.client("emil")
    (page.folder / "users.json").write_text("{")
    for path in ("/api/session", "/api/parts"):
        answer = client.get(path)
        assert (answer.status_code, answer.json()["code"]) == (409, "refused")
        assert str(page.folder) not in answer.text
