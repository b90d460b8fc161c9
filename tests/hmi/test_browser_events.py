"""The live view in a browser, by events that a test tells as the server would."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from support.line_processes import free_port
from support.page import PASSWORDS, Page, open_page
from support.page_browser import Person, person
from support.page_line import serving

pytestmark = pytest.mark.slow

# Instead of the stream of the server.
SOURCE = """
window.EventSource = class extends EventTarget {
  constructor() {
    super();
    window.source = this;
  }
  close() {}
};
"""
TELL = """
const [name, data] = arguments;
window.source.dispatchEvent(new MessageEvent(name, { data }));
"""
DASH = "\N{EN DASH}"  # where there is no figure
NO_PARTS = dict.fromkeys(("NG", "REVIEW", "ERROR", "LATE"), 0)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """Without a station."""
    made = open_page(tmp_path_factory.mktemp("page"), port=free_port())
    with serving(made.app, made.context.hmi):
        yield made


@pytest.fixture(scope="module")
def browser(page: Page) -> Iterator[Person]:
    with person(f"http://127.0.0.1:{page.context.hmi.port}") as someone:
        command = "Page.addScriptToEvaluateOnNewDocument"
        someone.browser.execute_cdp_cmd(command, {"source": SOURCE})
        someone.open()
        someone.log_in("olga", PASSWORDS["olga"])
        yield someone


@pytest.fixture
def olga(browser: Person) -> Iterator[Person]:
    """At the live view of a station that answers and has no parts."""
    browser.browser.get("about:blank")
    browser.open()
    browser.until(lambda: browser.script("return 'source' in window"))
    tell(browser, "snapshot", snapshot())
    browser.see("#link[data-state=open]")
    yield browser
    browser.check()


def tell(someone: Person, event: str, content: Any) -> None:
    someone.script(TELL, event, json.dumps(content))


def status(job: int = 1, *alarms: str) -> dict[str, Any]:
    lamps = dict.fromkeys(("camera", "plc", "disk", "heartbeat", "drift"), "ok")
    return {
        "connected": True,
        "lamps": lamps,
        "alarms": [{"code": code, "number": None, "detail": "of a test"} for code in alarms],
        "job": {"id": job, "name": "part", "sha256": "0" * 64, "changeover": False},
        "counts": {"triggers": 0, "missed": 0},
    }


def snapshot(*recent: dict[str, Any], **facts: Any) -> dict[str, Any]:
    """The newest part first."""
    trend = [
        [of["inspection_id"], of["score"], of["threshold"], of["ng_above"], of["result"]]
        for of in reversed(recent)
    ]
    usual = {"status": status(), "recent": recent, "strip": [], "trend": trend, "counts": []}
    return usual | facts


def a_part(number: int, age_s: float = 1.0, **facts: Any) -> dict[str, Any]:
    usual = {
        "inspection_id": number,
        "part_id": number,
        "result": "OK",
        "error": None,
        "score": 0.5,
        "threshold": 1.0,
        "ng_above": 2.0,
        "triggered_at": (datetime.now(UTC) - timedelta(seconds=age_s)).isoformat(),
        "agreed": None,
        "has_frame": False,
    }
    return usual | facts


def counted(job: int, now: bool, ok: int) -> dict[str, Any]:
    hour = 14 if now else 6
    shift = f"2026-01-01T{hour:02}:00:00+00:00"
    parts = {"parts": ok, "OK": ok, **NO_PARTS}
    return {"shift": shift, "now": now, "job": job, "yield": 1.0, **parts}


def test_counts_are_of_the_active_job_and_the_shift_that_is_now(olga: Person) -> None:
    def figures() -> list[str]:
        return olga.see(".figures").text.split("\n")[1::2]

    # Since the shift began no part has come.
    tell(olga, "counts", [counted(1, False, 800)])
    olga.see(".counts tbody tr", "before, from")
    assert not olga.all(".counts tr.now")
    assert figures() == [DASH, "0", "0", "0", "0"]
    # None of the active job.
    tell(olga, "status", status(job=2))
    tell(olga, "counts", [counted(1, True, 7), counted(2, False, 800)])
    olga.see(".counts tbody tr.now", "now, since")
    olga.see(".counts h2", "SHIFT · JOB 2")
    assert figures() == [DASH, "0", "0", "0", "0"]
    tell(olga, "status", status(job=1))
    olga.see(".counts h2", "SHIFT · JOB 1")
    assert figures() == ["100%", "7", "0", "0", "0"]
    tell(olga, "status", {**status(), "job": None})
    assert figures() == [DASH] * 5
