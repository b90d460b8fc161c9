"""Logins, their limits, and when sessions end."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from rdx_fast.hmi.sessions import LoginLimit, Sessions
from rdx_fast.hmi.users import User, Users, UsersError, open_to_others
from support.page import PASSWORDS, Clock, Page


def test_login_logout(page: Page) -> None:
    client = page.client()
    nobody = client.get("/api/session").json()
    assert (nobody["user"], nobody["role"], nobody["csrf"]) == (None, None, None)
    answer = client.log_in("olga", PASSWORDS["olga"]).json()
    assert (answer["user"], answer["role"], answer["expires_in_s"]) == ("olga", "operator", 3600)
    assert client.get("/api/session").json() == answer
    assert (answer["station"], answer["jobs"]) == ("line 1", [{"id": 1, "name": "part"}])
    kept = page.client()
    kept.cookies.update(client.cookies)
    assert client.post("/api/logout").json()["user"] is None
    assert not client.cookies
    assert kept.get("/api/jobs/1").status_code == 401


@pytest.mark.parametrize("user", ["olga", "nobody", "", "olga ", "OLGA", "ol\u0000ga"])
def test_a_wrong_login_says_the_same_of_all(page: Page, user: str) -> None:
    answer = page.client().log_in(user, "wrong password")
    assert (answer.status_code, answer.json()["code"]) == (401, "wrong_login")
    assert "set-cookie" not in answer.headers


def test_sessions_end_when_idle(page: Page) -> None:
    client = page.client("olga")
    page.clock.now += 3599
    assert client.get("/api/session").json()["expires_in_s"] == 1  # which is no use of it
    assert client.get("/api/export?format=x").status_code == 400
    page.clock.now += 3599
    assert client.get("/api/export?format=x").status_code == 400
    page.clock.now += 3600
    assert client.get("/api/export?format=x").status_code == 401


def test_sessions_end_after_hours_however_busy(page: Page) -> None:
    client = page.client("olga")
    for _ in range(23):
        page.clock.now += 1800
        assert client.get("/api/export?format=x").status_code == 400
    page.clock.now += 1800
    assert client.get("/api/export?format=x").status_code == 401


def test_sessions_end_with_their_users(page: Page) -> None:
    client = page.client("olga")
    page.users.remove("olga")
    assert client.get("/api/jobs/2").status_code == 401
    page.users.add("olga", "engineer", PASSWORDS["olga"])
    assert client.get("/api/jobs/2").status_code == 401


def test_a_new_password_ends_the_other_sessions(page: Page) -> None:
    client, other = page.client("olga"), page.client("olga")
    answer = client.post("/api/password", json={"old": "wrong", "new": "another password"})
    assert (answer.status_code, answer.json()["code"]) == (403, "wrong_password")
    change = {"old": PASSWORDS["olga"], "new": "short"}
    assert client.post("/api/password", json=change).status_code == 400
    change["new"] = "another password"
    assert client.post("/api/password", json=change).json()["user"] == "olga"
    assert client.get("/api/jobs/2").status_code == 404
    assert other.get("/api/jobs/2").status_code == 401
    assert page.client().log_in("olga", PASSWORDS["olga"]).status_code == 401
    assert page.client().log_in("olga", "another password").status_code == 200


def test_a_new_password_of_another_length_is_refused(page: Page) -> None:
    for new in ("1234567", "x" * 257):
        form = {"old": PASSWORDS["olga"], "new": new}
        answer = page.client("olga").post("/api/password", json=form)
        assert (answer.status_code, answer.json()["code"]) == (400, "password_length")


def test_a_session_outlives_its_own_new_password(tmp_path: Path) -> None:
    users = Users(tmp_path / "users.json", n=2)
    sessions = Sessions(users, 60, 3600, Clock())
    token, session = sessions.begin(users.add("olga", "operator", "operator-olga"))
    other, _ = sessions.begin(users.all()[0])

    @contextmanager
    def renewed(changed: User) -> Iterator[None]:
        sessions.renew_user(session, changed)
        assert sessions.is_current(session), "before the file is written"
        yield
        assert sessions.is_current(session), "after it, whoever asks first"

    users.set_password("olga", "another password", renewed)
    assert sessions.find(token) is session
    assert sessions.find(other) is None
    # A thread that read the file just before it was written.
    users.set_password("olga", "a third password", renewed)
    real, stale = users.get, [session.users[0]]
    users.get = lambda name: stale.pop() if stale else real(name)  # type: ignore[method-assign]
    session.users = session.users[1:]
    assert sessions.is_current(session)


def test_a_login_ends_the_session_before(page: Page) -> None:
    client = page.client("olga")
    before = dict(client.cookies)
    client.log_in("emil", PASSWORDS["emil"])
    stolen = page.client()
    stolen.cookies.update(before)
    assert stolen.get("/api/session").json()["user"] is None


def test_failed_logins_wait_ever_longer(page: Page) -> None:
    client = page.client()
    for _ in range(LoginLimit.PAIR):
        assert client.log_in("olga", "wrong password").status_code == 401
    waits = []
    for _ in range(12):
        answer = client.log_in("olga", PASSWORDS["olga"])  # right, and too early
        assert answer.status_code == 429
        waits.append(int(answer.headers["retry-after"]))
        page.clock.now += waits[-1] - 0.5
        assert client.log_in("olga", "wrong password").status_code == 429
        page.clock.now += 0.5
        assert client.log_in("olga", "wrong password").status_code == 401
    assert waits == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]
    page.clock.now += 300
    assert client.log_in("olga", PASSWORDS["olga"]).status_code == 200
    assert client.log_in("olga", "wrong password").status_code == 401  # counted from the start


def test_an_address_that_tries_many_names_waits() -> None:
    limit = LoginLimit(Clock())
    waits = [limit.attempt(f"user {i}", "10.0.0.1") for i in range(LoginLimit.ADDRESS + 1)]
    assert waits == [0.0] * LoginLimit.ADDRESS + [1.0]
    assert limit.attempt("user 1", "10.0.0.2") == 0.0
    assert [limit.attempt("a", f"2001:db8::{i}") for i in range(6)] == [0.0] * 5 + [1.0]


def test_attempts_at_once_are_counted_before_they_are_checked() -> None:
    limit = LoginLimit(Clock())
    assert [limit.attempt("olga", "10.0.0.1") for _ in range(6)] == [0.0] * 5 + [1.0]
    limit.succeeded("olga", "10.0.0.1")
    assert limit.attempt("olga", "10.0.0.1") == 0.0


def test_failures_at_a_shared_terminal_are_forgotten() -> None:
    clock = Clock()
    limit = LoginLimit(clock)
    for _ in range(10 * LoginLimit.ADDRESS):  # at each change of shifts somebody mistypes once
        assert limit.attempt("olga", "10.0.0.1") == 0.0
        assert limit.attempt("olga", "10.0.0.1") == 0.0
        limit.succeeded("olga", "10.0.0.1")
        clock.now += 1800
    for i in range(LoginLimit.ADDRESS):
        limit.attempt(f"user {i}", "10.0.0.1")
    clock.now += LoginLimit.LONGEST_S
    assert limit.attempt("olga", "10.0.0.1") == 0.0
    limit.succeeded("olga", "10.0.0.1")
    assert limit.attempt("emil", "10.0.0.1") == 0.0, "no wait after a login that was right"


def test_counters_do_not_grow_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LoginLimit, "MOST", 20)
    clock = Clock()
    limit = LoginLimit(clock)
    for i in range(100):
        limit.attempt("olga", f"10.0.0.{i}")
    assert len(limit._failures) <= LoginLimit.MOST + 2
    clock.now += LoginLimit.FORGOTTEN_S + 1
    limit.attempt("olga", "10.0.0.1")
    assert len(limit._failures) == 2


def test_the_longest_idle_session_gives_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rdx_fast.hmi.sessions._MOST", 3)
    users, clock = Users(tmp_path / "users.json", n=2), Clock()
    sessions = Sessions(users, 60, 3600, clock)
    olga = users.add("olga", "operator", "operator-olga")
    tokens = []
    for _ in range(4):
        clock.now += 1
        tokens.append(sessions.begin(olga)[0])
        sessions.find(tokens[0])
    assert [sessions.find(token) is not None for token in tokens] == [True, False, True, True]


def test_users_file(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "users.json"
    users = Users(path, n=2)
    assert users.all() == []
    users.add("zoe", "operator", "pässword")
    users.add("adam", "engineer", "password 1")
    assert path.stat().st_mode & 0o777 == 0o600
    assert not open_to_others(path)
    assert "password" not in path.read_text().replace('"password":', "")
    read = Users(path)
    assert [(of.name, of.role) for of in read.all()] == [("adam", "engineer"), ("zoe", "operator")]
    assert read.check("zoe", "pa\u0308ssword") == read.get("zoe")  # composed otherwise
    assert read.check("zoe", "password") is None
    assert read.check("nobody", "password") is None
    with pytest.raises(UsersError, match="already"):
        users.add("zoe", "operator", "password 2")
    with pytest.raises(UsersError, match="no user 'bob': it has adam, zoe"):
        users.remove("bob")
    assert users.remove("zoe").role == "operator"
    assert [of.name for of in read.all()] == ["adam"]
    os.chmod(path, 0o644)
    assert open_to_others(path)


@pytest.mark.parametrize(
    ("name", "role", "password", "text"),
    [
        ("", "operator", "password", "user name"),
        ("a b", "operator", "password", "user name"),
        ("a", "admin", "password", "wanted operator or engineer"),
        ("a", "operator", "short", "5 characters, wanted 8 to 256"),
        ("a", "operator", "x" * 257, "257 characters"),
    ],
)
def test_users_that_are_not_allowed(
    tmp_path: Path, name: str, role: str, password: str, text: str
) -> None:
    with pytest.raises(UsersError, match=text):
        Users(tmp_path / "users.json", n=2).add(name, role, password)
    assert not (tmp_path / "users.json").exists()


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"version": 2, "users": []}', '{"version": 1, "users": [{}]}']
)
def test_files_that_hold_no_users(tmp_path: Path, content: str) -> None:
    path = tmp_path / "users.json"
    path.write_text(content)
    with pytest.raises(UsersError, match=r"users\.json"):
        Users(path, n=2).all()


def test_passwords_cost_as_much_for_unknown_users(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    users = Users(tmp_path / "users.json")
    users.add("olga", "operator", PASSWORDS["olga"])
    (stored,) = json.loads((tmp_path / "users.json").read_text())["users"]
    cost = {name: stored["password"][name] for name in ("n", "r", "p")}
    assert cost == {"n": 2**15, "r": 8, "p": 1}
    assert users.check("nobody", "wrong password") is None  # hashes one to compare with, once
    costs = []
    monkeypatch.setattr(
        hashlib, "scrypt", lambda text, *, n, r, p, **_: costs.append((n, r, p)) or bytes(32)
    )
    for name in ("olga", "nobody"):
        assert users.check(name, "wrong password") is None
    assert costs == [(2**15, 8, 1)] * 2
