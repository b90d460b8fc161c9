"""Malformed requests are refused: whatever comes, the answer is never a failure of the server."""

from __future__ import annotations

import re
from dataclasses import dataclass
from random import Random

import pytest

from rdx_fast.errors import CalibrationError
from rdx_fast.hmi.access import LOGIN_BODY, ApiRoute
from rdx_fast.hmi.forms import from_json
from rdx_fast.hmi.refusal import Refused
from support.form_fuzz import malformed_bodies, malformed_body, odd_query, well_formed
from support.page import Client, Page
from support.small_bundle import write_bundle
from support.station_records import a_record, write_records

JSON = {"Content-Type": "application/json"}


@pytest.fixture
def forms(page: Page, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, type]]:
    """Method, path and form of all routes that take one, of a station with a bundle."""

    def refuse(*_: object) -> None:
        raise CalibrationError("not in this test")

    monkeypatch.setattr("rdx_fast.hmi.jobs_api.calibrate_apart", refuse)
    write_bundle(page.folder / "part.rdx")
    results = ("NG", "OK", "REVIEW", "ERROR", "LATE")
    write_records(page.file.records.path, *(a_record(i, of) for i, of in enumerate(results, 1)))
    found = []
    for route in page.app.routes:
        if isinstance(route, ApiRoute) and route.form is not None:
            (method,) = (route.methods or set()) - {"HEAD"}
            found.append((method, re.sub(r"{\w+:id}", "1", route.path), route.form))
    assert {path for _, path, _ in found} >= {"/api/login", "/api/jobs/1/limits", "/api/audit"}
    return found


def refused(client: Client, path: str, body: bytes) -> None:
    answer = client.post(path, content=body, headers=JSON)
    wanted = {400, 413} if len(body) > LOGIN_BODY else {400}  # the least that a route takes
    assert answer.status_code in wanted, (path, body[:500], answer.text)
    assert set(answer.json()) == {"error", "code"}


def ask(client: Client, forms: list[tuple[str, str, type]], times: int) -> None:
    """Queries with any names and values."""
    random = Random(0)
    for _ in range(times):
        for method, path, form in forms:
            if method == "GET":
                query = odd_query(form, random)
                answer = client.get(f"{path}?{query}")
                assert answer.status_code < 500, (path, query[:500])
                assert answer.status_code == 200 or set(answer.json()) == {"error", "code"}


def send_well_formed(client: Client, forms: list[tuple[str, str, type]], times: int) -> None:
    """Values that no page would send, in forms as they should be."""
    random = Random(0)
    for _ in range(times):
        for method, path, form in forms:
            if method == "POST":
                body = well_formed(form, random)
                answer = client.post(path, json=body)
                assert answer.status_code < 500, (path, body)


@dataclass
class Number:
    value: float


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity", "1e400", "9" * 400, "true"])
def test_numbers_are_finite(text: str) -> None:
    with pytest.raises(Refused):
        from_json(Number, f'{{"value": {text}}}'.encode())


def test_malformed_forms(page: Page, forms: list[tuple[str, str, type]]) -> None:
    client = page.client("emil")
    for method, path, form in forms:
        if method == "POST":
            for body in malformed_bodies(form):
                refused(client, path, body)


def test_odd_queries(page: Page, forms: list[tuple[str, str, type]]) -> None:
    ask(page.client("emil"), forms, 20)


def test_odd_values(page: Page, forms: list[tuple[str, str, type]]) -> None:
    send_well_formed(page.client("emil"), forms, 6)


@pytest.mark.slow
def test_thousands_of_malformed_forms(page: Page, forms: list[tuple[str, str, type]]) -> None:
    client, random = page.client("emil"), Random(0)
    for _ in range(500):
        for method, path, form in forms:
            if method == "POST":
                refused(client, path, malformed_body(form, random))
    ask(client, forms, 1000)


@pytest.mark.slow
def test_thousands_of_odd_values(page: Page, forms: list[tuple[str, str, type]]) -> None:
    send_well_formed(page.client("emil"), forms, 400)


@pytest.mark.parametrize(
    "headers",
    [
        {"Cookie": b"\xff\xfe=\x80; rdx_fast_8460=\xff"},
        {"Cookie": 'rdx_fast_8460="\\777\\"; ;;=; ='},
        {"Cookie": "rdx_fast_8460=" + "x" * 10_000},
        {"X-CSRF-Token": b"\xff" * 100},
        {"Content-Length": "-1"},
        {"Content-Type": b"\xff"},
        {"Origin": b"\xff://\xff"},
        {"Origin": "http://[::1"},
    ],
)
def test_odd_headers(page: Page, headers: dict[str, str | bytes]) -> None:
    raw = {k: v if isinstance(v, bytes) else v.encode() for k, v in headers.items()}
    # Of nobody, and of an engineer, whose other headers are right.
    for client in (page.client(), page.client("emil")):
        assert client.get("/api/session", headers=raw).status_code == 200
        assert 400 <= client.post("/api/job", json={"job": 1}, headers=raw).status_code < 500
