"""A browser without a window, which opens pages from files."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service

DESKTOP, PHONE = 1440, 390  # widths in CSS pixels


@contextmanager
def chrome(width: int = DESKTOP, height: int = 900) -> Iterator[Chrome]:
    """Chromium, with no page yet. Skips the test where there is none."""
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("no chromium or chromedriver (Debian's chromium-driver)")
    options = ChromeOptions()
    options.binary_location = chromium
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    browser = Chrome(options=options, service=Service(driver))
    try:
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width == PHONE}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        yield browser
    finally:
        browser.quit()


@contextmanager
def opened(page: Path, width: int = DESKTOP, dark: bool = False) -> Iterator[Chrome]:
    """The page of a file in Chromium. Skips the test where there is none."""
    with chrome(width) as browser:
        emulate(browser, dark)
        browser.get(page.as_uri())
        yield browser


def emulate(browser: Chrome, dark: bool, media: str = "") -> None:
    """Colour scheme and medium: "print", or "" for the screen."""
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media, "features": [scheme]})


def requests(browser: Chrome) -> set[str]:
    """What was asked for since the browser was opened or this was called."""
    entries: list[Any] = browser.get_log("performance")  # type: ignore[no-untyped-call]
    messages = [json.loads(entry["message"])["message"] for entry in entries]
    sent = [m["params"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    return {params["request"]["url"] for params in sent}


def complaints(browser: Chrome) -> list[Any]:
    """What is in the console."""
    entries: list[Any] = browser.get_log("browser")  # type: ignore[no-untyped-call]
    return entries
