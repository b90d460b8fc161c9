"""The documentation site: built without a warning, and readable without a network."""

from __future__ import annotations

import html
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from support.checkout import ROOT

# What a browser loads by itself. Links of <a> are followed by readers only.
LOADED = {
    "audio": ("src",),
    "embed": ("src",),
    "iframe": ("src",),
    "image": ("href", "xlink:href"),
    "img": ("src", "srcset"),
    "input": ("src",),
    "link": ("href",),
    "object": ("data",),
    "script": ("src",),
    "source": ("src", "srcset"),
    "track": ("src",),
    "use": ("href", "xlink:href"),
    "video": ("src", "poster"),
}
# Relations of <link> that name a page and load nothing.
NAMED_ONLY = {"canonical", "next", "prev", "alternate"}
REMOTE = re.compile(r"\s*(?:https?:)?//", re.IGNORECASE)
CSS_REMOTE = re.compile(
    r"(?:url\(\s*|@import\s+)['\"]?\s*((?:https?:)?//[^'\")\s;]*)", re.IGNORECASE
)


class Loads(HTMLParser):
    """Remote resources that a page loads."""

    def __init__(self) -> None:
        super().__init__()
        self.remote: list[str] = []
        self._in_style = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self._in_style = tag == "style"
        if tag == "link" and set((given.get("rel") or "").split()) <= NAMED_ONLY:
            return
        for name in LOADED.get(tag, ()):
            for value in (given.get(name) or "").split(","):
                if REMOTE.match(value):
                    self.remote.append(f"<{tag} {name}={value}>")
        self.remote += CSS_REMOTE.findall(given.get("style") or "")

    def handle_data(self, data: str) -> None:
        if self._in_style:
            self.remote += CSS_REMOTE.findall(data)

    def handle_endtag(self, tag: str) -> None:
        self._in_style = False


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", folder],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1", "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "WARNING" not in done.stderr, done.stderr
    return folder


def test_nothing_is_loaded_from_the_network(site: Path) -> None:
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 25
    found = []
    for page in pages:
        loads = Loads()
        loads.feed(page.read_text(encoding="utf-8"))
        found += [f"{page.relative_to(site)}: {remote}" for remote in loads.remote]
    styles = sorted(site.rglob("*.css"))
    assert len(styles) > 2
    for style in styles:
        remote = CSS_REMOTE.findall(style.read_text(encoding="utf-8"))
        found += [f"{style.relative_to(site)}: {url}" for url in remote]
    assert found == []


def test_what_is_loaded_is_recognised() -> None:
    loads = Loads()
    loads.feed(
        '<a href="https://a.example">a page</a><link rel="canonical" href="https://b.example">'
        '<img src="images/x.png"><script src="//c.example/x.js"></script>'
        '<img srcset="x.png 1x, https://d.example/x.png 2x">'
        '<link rel="stylesheet" href="https://e.example/x.css">'
        "<style>@import 'https://f.example/x.css'; b { background: url(//g.example/x.png) }</style>"
    )
    hosts = [re.findall(r"\w(?=\.example)", remote) for remote in loads.remote]
    assert hosts == [["c"], ["d"], ["e"], ["f"], ["g"]]


def test_pages_made_at_the_build(site: Path) -> None:
    commands = (site / "reference/commands.html").read_text(encoding="utf-8")
    for name in ("train", "export", "score", "station", "import"):
        assert f'id="rdx-fast-{name}"' in commands
    assert "efficientnet_lite0" in commands
    assert "protocol" not in commands  # hidden
    assert "my_plc" in (site / "tutorials/plc.html").read_text(encoding="utf-8").split("<pre", 2)[2]
    detector = (site / "reference/api/detector.html").read_text(encoding="utf-8")
    assert "pixel_format" in detector
    home = (site / "index.html").read_text(encoding="utf-8")
    assert 'href="tutorials/quick-start.html"' in home
    assert 'src="images/example.png"' in home
    contributing = (site / "development/contributing.html").read_text(encoding="utf-8")
    assert 'href="testing.html"' in contributing


def test_the_examples_are_shown(site: Path) -> None:
    page = (site / "tutorials/examples.html").read_text(encoding="utf-8")
    shown = html.unescape(re.sub(r"<[^>]*>", "", page))
    programs = sorted((ROOT / "examples").glob("*.py"))
    assert len(programs) > 5
    for program in programs:
        assert f'id="{program.stem}"' in page
        assert f'href="#{program.stem}"' in page.replace("examples.html#", "#")  # from the table
        assert program.read_text(encoding="utf-8").strip() in shown, program.name


def test_every_page_is_in_the_navigation(site: Path) -> None:
    """Also, with the strict build, every entry of the navigation is a page."""
    home = (site / "index.html").read_text(encoding="utf-8")
    navigation = home[home.index('class="md-nav md-nav--primary') :]
    written = {page.relative_to(ROOT / "docs") for page in (ROOT / "docs").rglob("*.md")}
    missing = [page for page in written if f'href="{page.with_suffix(".html")}"' not in navigation]
    assert missing == []
