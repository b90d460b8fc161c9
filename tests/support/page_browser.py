"""A person at the operator's page: a browser, and what is clicked and typed in it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver import Chrome, Keys
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.wait import WebDriverWait

from support.browser import chrome

WAIT_S = 20.0


class Person:
    """Looks at the page, clicks and types.

    Args:
        browser: at no page yet
        address: of the page, such as "http://127.0.0.1:8460"
    """

    def __init__(self, browser: Chrome, address: str) -> None:
        self.browser, self.address = browser, address

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

    def script(self, text: str) -> Any:
        return self.browser.execute_script(text)

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

    def text(self, key: str) -> str:
        """A text of the page, in its language."""
        script = "return import('/static/texts.js').then((texts) => texts.t(arguments[0]))"
        return str(self.browser.execute_script(script, key))

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
