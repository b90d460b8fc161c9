"""The page in a browser, beside a station that inspects."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import uvicorn
from numpy.typing import NDArray
from selenium.webdriver import Keys
from starlette.applications import Starlette

from rdx_fast import Detector
from rdx_fast.bundle.bundle import Bundle
from rdx_fast.hmi.app import create_app
from rdx_fast.images import list_images, read_image
from rdx_fast.station import Station, StationConfig
from rdx_fast.station.interfaces import StatusConfig
from rdx_fast.station.records.labels import read_labels
from rdx_fast.station.status_socket import StatusSocket
from support.browser import PHONE, complaints, emulate
from support.page import PASSWORDS, Page, open_page
from support.page_browser import Person, person
from support.scripted import ScriptedCamera, wait_until

pytestmark = pytest.mark.slow

SIZES = {"desktop": (1920, 1080), "tablet": (1024, 768), "phone": (PHONE, 844)}


@dataclass
class Line:
    """A station, its page at ``address``, and what the camera may see."""

    station: Station
    camera: ScriptedCamera
    page: Page
    address: str
    good: NDArray[np.uint8]
    bad: NDArray[np.uint8]
    status: ExitStack  # closing it ends the station's answers to the page

    def inspect(self, part: int, is_bad: bool = False) -> str:
        self.camera.frame = self.bad if is_bad else self.good
        return self.station.inspect(part).result


@pytest.fixture
def line(
    bundle: Bundle, camera: ScriptedCamera, config: StationConfig, parts: Path, tmp_path: Path
) -> Iterator[Line]:
    shutil.copytree(bundle.path, tmp_path / "part.rdx")
    status = StatusConfig(tmp_path / "station.socket")
    page = open_page(tmp_path)
    app = create_app(replace(page.file, status=status), "line 1", page.users, page.clock)
    bad = read_image(list_images(parts / "test" / "notch")[0])
    with (
        Detector(tmp_path / "part.rdx") as detector,
        Station(detector, camera, config) as station,
        ExitStack() as answers,
        served(app) as address,
    ):
        answers.enter_context(StatusSocket(station, status))
        yield Line(station, camera, page, address, camera.frame, bad, answers)


@contextmanager
def served(app: Starlette) -> Iterator[str]:
    """The application at an address of this machine."""
    config = uvicorn.Config(app, port=0, log_config=None, timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    wait_until(lambda: server.started)
    host, port = server.servers[0].sockets[0].getsockname()
    try:
        yield f"http://{host}:{port}"
    finally:
        server.should_exit = True
        thread.join()


def log_in(someone: Person, user: str) -> None:
    someone.see("dialog[open]")
    someone.log_in(user, PASSWORDS[user])


def verdict(someone: Person, word: str, part: int) -> None:
    someone.see(".verdict-word", word)
    someone.see(".verdict-part", str(part))


def test_what_is_shown_is_current_or_says_that_it_is_not(line: Line) -> None:
    with person(line.address) as someone:
        someone.open()
        log_in(someone, "olga")
        assert line.inspect(11) == "OK"
        verdict(someone, "OK", 11)
        assert line.inspect(12, is_bad=True) == "NG"
        verdict(someone, "NG", 12)
        someone.see(".picture-caption", "12")
        someone.see(".strip a")
        drawn = someone.script(
            "const c = document.querySelector('canvas');"
            "return new Set(c.getContext('2d').getImageData(0, 0, c.width, c.height).data).size"
        )
        assert drawn > 10
        line.status.close()
        someone.see(".verdict[data-state=away] .verdict-word", someone.text("live.away_station"))
        assert "NG" not in someone.see(".verdict-word").text
        someone.see(".alarms li", someone.text("alarm.STATION_AWAY.remedy"))
        assert complaints(someone.browser) == []


@pytest.mark.parametrize("language", ["en", "de"])
@pytest.mark.parametrize("size", SIZES)
def test_nothing_sticks_out(line: Line, size: str, language: str) -> None:
    for part in range(3):
        line.inspect(part, is_bad=part > 0)
    width, height = SIZES[size]
    with person(line.address, width, height) as someone:
        emulate(someone.browser, dark=language == "de")
        someone.open()
        someone.script(f"localStorage.setItem('language', '{language}')")
        someone.browser.refresh()
        log_in(someone, "emil")
        for view in ("live", "parts", "part/2", "label", "quality", "job", "audit"):
            someone.open(view)
            someone.see("nav [aria-current]")
            assert someone.script("return document.documentElement.lang") == language
            assert someone.script("return document.documentElement.scrollWidth") == width
            sticking_out = someone.script(
                "return [...document.querySelectorAll('body *')]"
                ".filter(e => !e.closest('.scroll, .strip, nav, svg, .unseen, .recent'))"
                ".filter(e => e.getBoundingClientRect().right > innerWidth + 1)"
                ".map(e => e.outerHTML)"
            )
            assert sticking_out == []
        assert complaints(someone.browser) == []


def test_parts_are_labelled_by_the_keyboard(line: Line) -> None:
    for part in (21, 22):
        line.inspect(part, is_bad=True)
    with person(line.address) as someone:
        someone.open("label")
        log_in(someone, "olga")
        someone.see(".queue-part", "22")
        someone.press("c")
        someone.press("hair" + Keys.ENTER)
        someone.press("g", "1")
        someone.see(".queue-part", "21")
        someone.press("b", "2")
        someone.see(".picture-message", someone.text("label.empty"))
        someone.press(Keys.ARROW_LEFT)
        someone.see(".queue-part", "21")
        hmi = line.page.context.hmi
        given = [
            (of.inspection_id, of.verdict, of.reason, of.comment)
            for of in read_labels(line.page.file.records.path)
        ]
        assert given == [
            (2, "good", hmi.good_reasons[0], "hair"),
            (1, "bad", hmi.bad_reasons[1], ""),
        ]
        assert complaints(someone.browser) == []


def test_what_was_entered_outlives_the_session(line: Line) -> None:
    with person(line.address) as someone:
        someone.open("job")
        log_in(someone, "emil")
        someone.click(".limits tbody button")
        reason = ".edit label:nth-of-type(3) input"
        someone.fill(".edit label:nth-of-type(2) input", "1000")
        someone.fill(reason, "new glass")
        line.page.clock.now += 24 * 3600
        someone.click(".edit button.primary")
        someone.click("dialog button[value=yes]")
        someone.see("dialog p", someone.text("login.expired"))
        assert someone.see(reason).get_attribute("value") == "new glass"
        someone.log_in("emil", PASSWORDS["emil"])
        someone.see("#notes", someone.text("job.released"))
        someone.see(".version", "emil")


def test_regions_are_drawn_and_changed_by_numbers(line: Line) -> None:
    line.inspect(31, is_bad=True)
    with person(line.address) as someone:
        someone.open("job")
        log_in(someone, "emil")
        someone.see(".region-tools button", someone.text("regions.add_include")).click()
        canvas = someone.see(".region-editor canvas")
        someone.until(lambda: "31" in (canvas.get_attribute("aria-label") or ""))
        someone.script(
            "const c = document.querySelector('.region-editor canvas');"
            "const box = c.getBoundingClientRect();"
            "c.setPointerCapture = () => {};"
            "for (const [x, y] of [[0.45, 0.4], [0.55, 0.4], [0.5, 0.6]])"
            "  for (const type of ['pointerdown', 'pointerup'])"
            "    c.dispatchEvent(new PointerEvent(type, {pointerId: 1,"
            "      clientX: box.left + x * box.width, clientY: box.top + y * box.height}))"
        )
        someone.press(Keys.ENTER)
        someone.click(".region-list summary")
        someone.fill(".corners tr:nth-child(1) td:nth-child(2) input", "7" + Keys.TAB)
        focused = someone.browser.switch_to.active_element.get_attribute("aria-label")
        assert focused == someone.see(
            ".corners tr:nth-child(1) td:nth-child(3) input"
        ).get_attribute("aria-label")
        someone.click(".corners button")
        assert len(someone.all(".corners tbody tr")) == 4
        someone.click(".region-head button:last-child")
        someone.see(".region-list", someone.text("regions.none"))
        assert complaints(someone.browser) == []
