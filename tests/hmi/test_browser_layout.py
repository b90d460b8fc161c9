"""Every view of the page at three sizes, in two languages, light and dark."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from rdx_fast.bundle.bundle import Bundle
from support.browser import PHONE, emulate
from support.page import PASSWORDS
from support.page_browser import person
from support.page_line import PageLine

pytestmark = pytest.mark.slow

SIZES = {"desktop": (1920, 1080), "tablet": (1024, 768), "phone": (PHONE, 844)}
VIEWS = ("live", "parts", "part/2", "label", "quality", "job", "audit")


@pytest.fixture(scope="module")
def line(
    bundle: Bundle, parts: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[PageLine]:
    made = PageLine(tmp_path_factory.mktemp("line"), bundle.path, parts)
    made.start_station()
    made.start_server()
    made.inspect("good", "review", "bad")
    made.stored()
    yield made
    made.close()


@pytest.mark.parametrize("size", SIZES)
def test_nothing_sticks_out(line: PageLine, size: str) -> None:
    width, height = SIZES[size]
    with person(line.address, width, height) as someone:
        someone.open()
        someone.log_in("emil", PASSWORDS["emil"])
        for language in ("en", "de"):
            emulate(someone.browser, dark=language == "de")
            someone.script(f"localStorage.setItem('language', '{language}')")
            someone.browser.refresh()
            for view in VIEWS:
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
        someone.check()
