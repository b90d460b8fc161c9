"""The live view in a browser, by events that a test tells as the server would."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from support.labelled_line import record
from support.line_processes import free_port
from support.page import Page, open_page
from support.page_browser import Person, logged_in
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
    with logged_in("olga", f"http://127.0.0.1:{page.context.hmi.port}") as someone:
        command = "Page.addScriptToEvaluateOnNewDocument"  # of what is opened from now on
        someone.browser.execute_cdp_cmd(command, {"source": SOURCE})
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


def test_a_part_that_comes_again_stays_in_its_place_in_the_trend(olga: Person) -> None:
    """As it does with its label. One from before the trend stays out of it."""
    parts = [a_part(number, score=number / 100) for number in range(250, 50, -1)]
    tell(olga, "snapshot", snapshot(*parts))
    again = [parts[150], a_part(3, 1000.0, score=9.0)]
    tell(olga, "parts", [*again, a_part(253), a_part(252)])
    trend = olga.script("return import('/static/stream.js').then((s) => s.stream.trend)")
    assert [row[0] for row in trend] == [*range(53, 251), 252, 253]
    assert max(row[1] for row in trend) == 2.5


def test_a_part_of_the_future_is_an_old_one(olga: Person) -> None:
    """The clock was set back by an hour."""
    tell(olga, "snapshot", snapshot(a_part(1, age_s=-3600)))
    panel = olga.see(".verdict[data-state=old]")
    assert panel.text.split("\n")[-1] == olga.text("live.clock_set_back")
    tell(olga, "status", {**status(), "connected": False})
    olga.see(".verdict[data-state=away]", olga.text("live.clock_set_back"))
    tell(olga, "status", status())
    tell(olga, "parts", [a_part(2, age_s=-1)])  # clocks that differ a little
    olga.see(".verdict[data-state=fresh]", olga.text("time.seconds_ago", n=0))


def test_the_focus_stays_when_another_part_waits_for_a_label(page: Page, olga: Person) -> None:
    def another(number: int) -> None:
        before = olga.script("return document.querySelector('#nav .waiting')?.textContent")
        record(page.file, number, np.zeros((64, 64, 3), np.uint8))
        olga.script("return import('/static/waiting.js').then((w) => w.countWaiting())")
        olga.until(lambda: olga.see("#nav .waiting").text != before, "another number")

    another(1)
    link = "document.querySelector('#nav a[href=\"#/label\"]')"
    olga.script(f"{link}.focus()")
    another(2)
    assert olga.script(f"return document.activeElement === {link}")


def test_parts_of_other_records_are_not_taken_for_those_before(page: Page, olga: Person) -> None:
    """Their ids begin anew, and there may be none at first."""
    record(page.file, 5, np.zeros((64, 64, 3), np.uint8))
    before = a_part(5, 60.0, part_id=4711, result="NG", has_frame=True)
    after = before | a_part(5, part_id=4712, result="NG", has_frame=True)
    frames = "return performance.getEntriesByType('resource').filter((r) => r.name.includes("
    frames += "'/api/parts/5/frame?width=240')).length"
    tell(olga, "snapshot", snapshot(before, strip=[before]))
    olga.see(".picture-caption", "Part 4711 ")
    olga.see(".picture-tools a.button")
    olga.see(".score-bar")
    olga.until(lambda: olga.script(frames) == 1, "the picture in the strip")
    tell(olga, "snapshot", snapshot(after, strip=[after]))
    olga.see(".picture-caption", "Part 4712 ")
    olga.see(".strip li", "4712")
    olga.until(lambda: olga.script(frames) == 2, "another picture")
    tell(olga, "snapshot", snapshot())
    olga.see(".picture-message", olga.text("live.waiting"))
    olga.gone(".picture-tools a.button")
    olga.gone(".score-bar")
    tell(olga, "snapshot", snapshot(after))  # they were away for a moment
    olga.see(".picture-caption", "Part 4712 ")


def test_a_reject_without_a_picture_says_so_in_the_strip(olga: Person) -> None:
    reject = a_part(1, result="NG")
    tell(olga, "snapshot", snapshot(reject, strip=[reject]))
    olga.see(".strip li small", olga.text("picture.none"))
    assert not olga.all(".strip img")


def test_digits_choose_the_first_nine_reasons(page: Page, olga: Person) -> None:
    record(page.file, 6, None)
    many = [f"reason {number}" for number in range(1, 13)]
    olga.script(
        "const [good] = arguments;"
        "return import('/static/api.js').then((a) => Object.assign(a.session.reasons, { good }))",
        many,
    )
    olga.script("location.hash = '#/part/6'")
    olga.see(".judges button")
    olga.press("g")
    assert [e.text for e in olga.all(".reasons button")[8:]] == [f"9\n{many[8]}", *many[9:]]
    olga.press("?")
    keys = [e.text for e in olga.all("dialog kbd")]
    assert "9" in keys
    assert "10" not in keys
    olga.script("document.querySelector('dialog').close()")
    olga.press("9")
    olga.see(".note[data-kind=error]")  # the server knows no such reason
    olga.expected = ["/api/parts/6/label", "ApiError"]


def test_nothing_is_current_while_the_records_cannot_be_read(olga: Person) -> None:
    """The station answers all the same."""
    tell(olga, "snapshot", snapshot(a_part(1, result="NG")))
    olga.see(".verdict[data-state=fresh][data-result=NG]")
    tell(olga, "status", status(1, "RECORDS_UNREADABLE"))
    panel = olga.see(".verdict[data-state=away][data-result=AWAY]")
    word, meaning, last = panel.text.split("\n")
    assert word == olga.text("live.away_records")
    assert meaning == olga.text("live.away_records_meaning")
    assert last.startswith("Before: NG, part 1, ")
    assert olga.see(".live").get_attribute("data-current") == "false"
    olga.see("#link[data-state=records]", olga.text("link.records"))
    olga.see(".alarms li", olga.text("alarm.RECORDS_UNREADABLE.remedy"))
    olga.see(".lamps li[data-lamp=ok]")
    tell(olga, "status", status())
    olga.see(".verdict[data-state=fresh][data-result=NG]")
