"""What the page says in a browser when something is wrong, and how it comes back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from selenium.webdriver import Keys

from rdx_fast.bundle.bundle import Bundle
from rdx_fast.station import Controls
from rdx_fast.station.cameras.source import BadFrameError, CameraTimeoutError
from rdx_fast.station.records.labels import read_labels
from support.page import PASSWORDS
from support.page_browser import PASSED, Person, not_current, person
from support.page_line import PATIENT, PageLine

pytestmark = pytest.mark.slow

DEAD = r"/api/.*(ERR_CONNECTION_REFUSED|ERR_INCOMPLETE_CHUNKED|ERR_CONNECTION_RESET)"
UNAUTHORISED = r"/api/.* 401 "


@pytest.fixture(scope="module")
def line(
    bundle: Bundle, parts: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[PageLine]:
    made = PageLine(tmp_path_factory.mktemp("line"), bundle.path, parts)
    made.start_station()
    made.start_server()
    yield made
    made.close()


@pytest.fixture(scope="module")
def browser(line: PageLine) -> Iterator[Person]:
    with person(line.address) as someone:
        someone.open()
        yield someone


@pytest.fixture
def olga(browser: Person) -> Iterator[Person]:
    """Logged in, at the live view of a page that was loaded anew."""
    browser.browser.get("about:blank")
    browser.open()
    if browser.see("#link:not([data-state=opening])").get_attribute("data-state") == "locked":
        browser.log_in("olga", PASSWORDS["olga"])
    browser.see("#link[data-state=open]")
    browser.allowed = [PASSED]
    yield browser
    browser.check()


def lamp(someone: Person, name: str, state: str) -> None:
    someone.see(f".lamps li[data-lamp={state}]", someone.text(f"lamp.{name}"))


def alarm(someone: Person, code: str) -> str:
    """The alarm's text, which has cause and remedy in words."""
    text = someone.see(".alarms li", code).text
    assert someone.text(f"alarm.{code}.cause") in text
    assert someone.text(f"alarm.{code}.remedy") in text
    return text


def test_a_camera_that_times_out(line: PageLine, olga: Person) -> None:
    line.fail(CameraTimeoutError("nothing came"))
    text = alarm(olga, "CAMERA_TIMEOUT")
    assert "21" in text
    assert "nothing came" in text
    lamp(olga, "camera", "alarm")
    assert olga.all("#alarmed")[0].get_attribute("textContent") == olga.text(
        "alarm.CAMERA_TIMEOUT.cause"
    )
    line.station.reset()
    lamp(olga, "camera", "ok")
    olga.gone(".alarms li")
    line.fail(BadFrameError("half of it"))
    alarm(olga, "FRAME_BAD")
    line.station.reset()
    olga.gone(".alarms li")


def test_a_full_disk(line: PageLine, olga: Person) -> None:
    line.inspect("good")
    assert line.station._recorder._writer is not None
    database = line.station._recorder._writer._connection
    (pages,) = database.execute("PRAGMA page_count").fetchone()
    database.execute(f"PRAGMA max_page_count = {pages}")
    while not line.station.status.record_alarm:
        line.inspect("good")
    alarm(olga, "RECORD")
    lamp(olga, "disk", "alarm")
    database.execute("PRAGMA max_page_count = 100000")
    olga.see(".verdict[data-state=fresh]", f"Part {line.parts}")  # those that had to wait
    line.station.reset()
    lamp(olga, "disk", "ok")
    olga.gone(".alarms li")


def test_a_plc_a_lamp_and_a_station_that_fail(line: PageLine, olga: Person) -> None:
    """Heartbeats stop, and the lamp is dimmed."""
    line.stop_station()
    handshake = replace(PATIENT, watchdog_ms=500, heartbeat_ms=60_000)
    line.start_station(handshake=handshake, drift=line.drift)
    for number in range(40):
        line.inspect_frame(line.usual[number % len(line.usual)])
    line.station.write(Controls(enable=True, heartbeat=1))
    alarm(olga, "LINK_LOST")
    lamp(olga, "plc", "alarm")
    lamp(olga, "drift", "ok")
    line.station.write(Controls(heartbeat=2))
    line.station.reset()
    olga.gone(".alarms li")
    for number in range(1000):
        if line.station.status.drift:
            break
        frame = line.usual[number % len(line.usual)]
        line.inspect_frame(np.rint(0.9 * frame).astype(np.uint8))
    assert "brightness fell" in alarm(olga, "DRIFT")
    lamp(olga, "drift", "alarm")
    line.station.reset()
    lamp(olga, "drift", "ok")
    lamp(olga, "heartbeat", "alarm")
    line.stop_station()
    line.start_station()
    lamp(olga, "heartbeat", "ok")


def test_a_station_that_stops_and_is_back(line: PageLine, olga: Person) -> None:
    line.inspect("bad")
    olga.see(".verdict[data-result=NG][data-state=fresh]", f"Part {line.parts}")
    line.stop_station()
    olga.see("#link[data-state=away]")
    not_current(olga, "station", "NG", line.parts)
    alarm(olga, "STATION_AWAY")
    # What was decided can be looked at all the same.
    olga.click(".recent a", str(line.parts))
    olga.see(".part-head", f"NG\nPart {line.parts}")
    olga.press("1")  # no reason without a verdict
    olga.open()
    not_current(olga, "station", "NG", line.parts)
    line.start_station()
    olga.see("#link[data-state=open]")
    olga.gone(".alarms li")
    line.inspect("good")
    olga.see(".verdict[data-result=OK][data-state=fresh]", f"Part {line.parts}")


def test_a_server_that_stops_and_is_back(line: PageLine, olga: Person) -> None:
    line.inspect("bad")
    olga.see(".verdict[data-result=NG][data-state=fresh]", f"Part {line.parts}")
    line.stop_server()
    olga.see("#link[data-state=broken]")
    not_current(olga, "link", "NG", line.parts)
    assert olga.see("#broken").text == olga.text("link.broken_long")
    line.inspect("good")
    olga.click("#nav a", olga.text("parts.title"))
    assert olga.see(".note[data-kind=error]").text.startswith(olga.text("error.unreachable"))
    olga.click("#nav a", olga.text("live.title"))
    not_current(olga, "link", "NG", line.parts - 1)
    line.start_server()
    # Sessions do not outlive the server: the page asks for the login by itself.
    olga.see("dialog[open]", olga.text("login.expired"))
    not_current(olga, "session", "NG", line.parts - 1)
    olga.log_in("olga", PASSWORDS["olga"])
    olga.see(".verdict[data-result=OK][data-state=fresh]", f"Part {line.parts}")
    olga.see("#link[data-state=open]")
    olga.gone("#broken")
    olga.expected = [DEAD, "ApiError: The page's server does not answer"]
    olga.allowed = [PASSED, UNAUTHORISED]  # what was asked for before the page knew


def test_wrong_passwords_and_their_limit(line: PageLine) -> None:
    with person(line.address) as stranger:
        stranger.open()
        dialog = "dialog[open] "
        stranger.fill(dialog + "input[name=user]", "emil")
        for _ in range(5):
            stranger.fill(dialog + "input[name=password]", "engineer-olga")
            stranger.click(dialog + "button.primary")
            stranger.see(dialog + ".wrong", stranger.text("login.wrong"))
            stranger.script("document.querySelector('dialog .wrong').textContent = ''")
        for wait in (1, 1):  # also with the right one
            stranger.fill(dialog + "input[name=password]", PASSWORDS["emil"])
            stranger.click(dialog + "button.primary")
            stranger.see(dialog + ".wrong", stranger.text("login.wait", n=wait))
        line.clock.now += 2
        stranger.click(dialog + "button.primary")
        stranger.see("#menu-button", "emil")
        stranger.expected = ["/api/login .* 401 ", "/api/login .* 429 "]
        stranger.check()


def test_a_password_is_changed(line: PageLine) -> None:
    line.users.add("nina", "operator", "the first one")
    with person(line.address) as nina:
        nina.open("quality")
        nina.log_in("nina", "the first one")
        nina.click("#menu-button")
        nina.click("#menu button", nina.text("password.title"))
        old, new, again = nina.all("dialog input[type=password]")
        old.send_keys("the first one")
        new.send_keys("the second one")
        again.send_keys("the third one" + Keys.ENTER)
        nina.see("dialog .wrong", nina.text("password.differ"))
        again.clear()
        again.send_keys("the second one" + Keys.ENTER)
        nina.see(".note", nina.text("password.done"))
        nina.log_out()
        nina.log_in("nina", "the second one")
        nina.check()


def test_a_session_that_ends_while_a_label_is_given(line: PageLine, olga: Person) -> None:
    line.inspect("bad")
    line.stored()
    olga.open("label")
    olga.see(".queue-part", f"Part {line.parts}")
    olga.press("b", "c")
    olga.fill(".judging input", "at the rim")
    line.clock.now += 3601
    line.inspect("good")  # the stream finds it out
    olga.see("dialog[open]", olga.text("login.expired"))
    assert olga.see("#broken").text == olga.text("link.locked_long")
    olga.log_in("olga", PASSWORDS["olga"])
    olga.gone("#broken")
    assert olga.see(".judging input").get_attribute("value") == "at the rim"
    assert olga.all("button.judge[data-agreed=bad][aria-pressed=true]")
    olga.click(".reasons button", "crack")
    olga.see(".queue-side", f"Saved: part {line.parts - 1}, really bad, crack.")
    newest = read_labels(line.records)[-1]
    assert (newest.user, newest.verdict, newest.comment) == ("olga", "bad", "at the rim")


def test_what_one_user_entered_is_not_sent_as_another(line: PageLine, olga: Person) -> None:
    """The session ends in the middle of a request, and somebody else logs in."""
    record = line.inspect("bad")
    olga.open(f"part/{record.inspection_id}")
    olga.see(".judges button")
    olga.press("g")
    labels = read_labels(line.records)
    # No event of the stream comes in between, which would find it out first.
    olga.script("return import('/static/stream.js').then((s) => new Promise(s.listen))")
    line.clock.now += 3601
    olga.click(".reasons button", "dust")
    olga.see("dialog[open]", olga.text("login.expired"))
    olga.fill("dialog input[name=user]", "emil")
    olga.fill("dialog input[name=password]", PASSWORDS["emil"])
    olga.click("dialog button.primary")
    olga.see("#menu-button", "emil")
    olga.see(".note[data-kind=error]", olga.text("error.login_needed"))
    assert read_labels(line.records) == labels
    olga.log_out()
    olga.expected = [UNAUTHORISED, "ApiError: Log in first"]


def test_viewing_without_a_login(line: PageLine) -> None:
    line.stop_server()
    line.start_server(anonymous=True)
    with person(line.address) as visitor:
        visitor.open()
        record = line.inspect("bad")
        visitor.see(".verdict[data-result=NG]", f"Part {line.parts}")
        assert not visitor.all("dialog[open]")
        visitor.open(f"part/{record.inspection_id}")
        visitor.see(".part-head", f"NG\nPart {line.parts}")
        visitor.see(".picture-zoom", "%")
        visitor.open("job")
        visitor.see(".limits td", "all")
        assert not visitor.all(".limits td button, .version button, .region-tools")
        visitor.open("label")
        visitor.see(".locked", visitor.text("label.needs_user"))
        assert visitor.script(
            "return Promise.all(['/api/audit', '/api/jobs/1/release'].map((path, post) =>"
            "fetch(path, post ? {method: 'POST'} : {}).then((r) => r.status)))"
        ) == [401, 401]
        line.stored()
        visitor.click(".locked button")
        visitor.log_in("olga", PASSWORDS["olga"])
        visitor.see(".queue-part", f"Part {line.parts}")
        visitor.expected = [UNAUTHORISED]
        visitor.check()
