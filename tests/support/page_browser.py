"""A person at the operator's page: a browser, and what is clicked and typed in it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver import ActionChains, Chrome, Keys
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.select import Select
from selenium.webdriver.support.wait import WebDriverWait

from support.browser import chrome, complaints, requests
from support.page import PASSWORDS

WAIT_S = 60.0
# Complaints of the console about frames that the station holds no longer: the line was faster.
PASSED = r"/api/parts/\d+(/frame|/map)?[? ].* 404 "


class Person:
    """Looks at the page, clicks and types.

    Args:
        browser: at no page yet
        address: of the page, such as "http://127.0.0.1:8460"
    """

    def __init__(self, browser: Chrome, address: str) -> None:
        self.browser, self.address = browser, address
        # Patterns of complaints in the console that come, and that may come; for ``check``.
        self.expected: list[str] = []
        self.allowed: list[str] = []

    def open(self, view: str = "live") -> None:
        """Go to a view, such as "parts?result=NG"."""
        self.browser.get(f"{self.address}/#/{view}")
        name = re.split("[?/]", view)[0]
        self.until(lambda: self.all(f"main.view-{name} > *"), view)

    def all(self, css: str) -> list[WebElement]:
        return self.browser.find_elements(By.CSS_SELECTOR, css)

    def see(self, css: str, text: str = "") -> WebElement:
        """The first shown element with the text, once it is there."""

        def found() -> WebElement | None:
            shown = (e for e in self.all(css) if e.is_displayed() and text in e.text)
            return next(shown, None)

        return self.until(found, f"{css} with {text!r}")

    def click(self, css: str, text: str = "") -> None:
        def clicked() -> bool:
            element = self.see(css, text)
            if not element.is_enabled():
                return False
            element.click()
            return True

        self.until(clicked, f"{css} with {text!r} to be clicked")

    def fill(self, css: str, text: str) -> None:
        element = self.see(css)
        element.clear()
        element.send_keys(text)

    def choose(self, css: str, value: str) -> None:
        """An option of a select, by its value."""
        Select(self.see(css)).select_by_value(value)

    def press(self, *keys: str) -> None:
        """Type on the page, not into a field."""
        for key in keys:
            self.browser.switch_to.active_element.send_keys(key)

    def until(self, met: Callable[[], Any], what: str = "") -> Any:
        """What ``met`` gives, once it gives something. Raises ``TimeoutException``."""
        wait = WebDriverWait(
            self.browser, WAIT_S, 0.02, ignored_exceptions=[StaleElementReferenceException]
        )
        return wait.until(lambda _: met(), what or "what was waited for")

    def gone(self, css: str) -> None:
        """Wait until no such element is shown."""
        self.until(lambda: not any(e.is_displayed() for e in self.all(css)), f"no {css}")

    def script(self, text: str, *arguments: Any) -> Any:
        return self.browser.execute_script(text, *arguments)

    def confirm(self) -> None:
        """Say yes to the question that is asked."""
        self.click("dialog[open] button[value=yes]")
        self.gone("dialog[open]")

    def mouse(self, css: str, *points: tuple[float, float], drag: bool = False) -> None:
        """Click at points of an element in CSS pixels from its upper left corner, or drag from each
        to the next."""
        script = (
            "arguments[0].scrollIntoView({block: 'center'});"
            "return arguments[0].getBoundingClientRect()"
        )
        box = self.script(script, self.see(css))
        actions = ActionChains(self.browser, duration=20)
        for i, (x, y) in enumerate(points):
            actions.w3c_actions.pointer_action.move_to_location(  # type: ignore[no-untyped-call]
                round(box["x"] + x), round(box["y"] + y)
            )
            if not drag:
                actions.click()
            elif i == 0:
                actions.click_and_hold()
        (actions.release() if drag else actions).perform()

    def looks(self, css: str = "canvas") -> str:
        """What is painted on a canvas: equal texts for equal pixels."""
        script = "return document.querySelector(arguments[0]).toDataURL()"
        return str(self.script(script, css))

    def downloads(self, folder: Path) -> None:
        """Have downloads land in a folder."""
        facts = {"behavior": "allow", "downloadPath": str(folder)}
        self.browser.execute_cdp_cmd("Browser.setDownloadBehavior", facts)

    def check(self) -> None:
        """Raises ``AssertionError`` unless the console has all complaints that are ``expected``
        and none that are not ``allowed`` either, and all requests went to the page's server."""
        said = [entry["message"] for entry in complaints(self.browser)]
        known = [*self.expected, *self.allowed]
        unexpected = [text for text in said if not any(re.search(p, text) for p in known)]
        assert unexpected == [], unexpected
        for pattern in self.expected:
            assert any(re.search(pattern, text) for text in said), pattern
        self.expected, self.allowed = [], []
        others = ("data:", "about:", "chrome:", "blob:", f"{self.address}/")
        assert [url for url in requests(self.browser) if not url.startswith(others)] == []

    def log_in(self, user: str, password: str) -> None:
        """By the dialog, which is opened if it is not."""
        if not self.all("dialog[open]"):
            self.click("#menu-button")
            self.click("#menu button", self.text("login.title"))
        self.fill("dialog input[name=user]", user)
        self.fill("dialog input[name=password]", password + Keys.ENTER)
        self.until(lambda: not self.all("dialog[open]"), "the dialog to close")
        self.see("#menu-button", user)

    def log_out(self) -> None:
        user = self.see("#menu-button").text
        self.click("#menu-button")
        self.click("#menu button", self.text("login.leave"))
        self.until(lambda: self.see("#menu-button").text != user, "the end of the session")
        if not self.script("return fetch('/api/session').then((a) => a.json())")["anonymous"]:
            self.see("dialog[open]")  # the page asks for the next one

    def text(self, key: str, **values: object) -> str:
        """A text of the page, in its language."""
        script = (
            "const [key, values] = arguments;"
            "return import('/static/texts.js').then((texts) => texts.t(key, values))"
        )
        return str(self.script(script, key, values))

    def label_all(self, is_bad: Callable[[int], bool]) -> int:
        """Label what waits in the queue, by the keyboard; the number of labels.

        Args:
            is_bad: whether the part with an id is really bad
        """
        self.open("label")
        count = 0
        while (part := self._waiting()) is not None:
            self.press("b" if is_bad(part) else "g", "1")
            self.until(partial(self._moved_on, part), f"the label of part {part}")
            count += 1
        return count

    def _moved_on(self, part: int) -> bool:
        return self._waiting() != part

    def _waiting(self) -> int | None:
        """Id of the part that the queue shows; None once it says that none waits."""
        none = self.text("label.empty")

        def shown() -> str:
            links = self.all(".queue-part a")
            return links[0].text if links else self.see(".picture-message").text

        text = str(self.until(shown, "the queue"))
        return None if text == none else int("".join(filter(str.isdigit, text)))


@contextmanager
def person(address: str, width: int = 1440, height: int = 900) -> Iterator[Person]:
    """A person with a browser of their own."""
    with chrome(width, height) as browser:
        yield Person(browser, address)


@contextmanager
def logged_in(user: str, address: str, width: int = 1440, height: int = 900) -> Iterator[Person]:
    """A person who has logged in as one of the page's users of tests."""
    with person(address, width, height) as someone:
        someone.open()
        someone.log_in(user, PASSWORDS[user])
        yield someone


def not_current(someone: Person, why: str, result: str, part: int) -> None:
    """The old verdict is told as one from before, and as nothing else."""
    panel = someone.see(".verdict[data-state=away][data-result=AWAY]")
    someone.see(".verdict-word", someone.text(f"live.away_{why}"))
    word, *others, last = panel.text.split("\n")
    assert result not in word
    assert others == [someone.text(f"live.away_{why}_meaning")]
    assert last.startswith(f"Before: {result}, part {part}, ")
    assert someone.see(".live").get_attribute("data-current") == "false"
    states = {lamp.get_attribute("data-lamp") for lamp in someone.all(".lamps li")}
    assert states == {"off"}
