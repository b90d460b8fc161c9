"""What an engineer does in a browser: limits, regions, jobs, releases, and the log of it."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver import Keys

from rdx_fast.bundle.bundle import Bundle, open_bundle
from rdx_fast.bundle.changes import override_limits
from rdx_fast.bundle.revision import revise_bundle
from rdx_fast.bundle.versions import COMPARISON, list_versions, manifest_sha256, new_candidate
from rdx_fast.station.records.changes import read_changes
from support.page import PASSWORDS
from support.page_browser import Person, logged_in
from support.page_line import NG_ABOVE, PageLine

pytestmark = pytest.mark.slow

HEIGHT, WIDTH = 80, 112  # of the frames
Points = list[tuple[int, int]]


@pytest.fixture(scope="module")
def line(
    bundle: Bundle, parts: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[PageLine]:
    made = PageLine(tmp_path_factory.mktemp("line"), bundle.path, parts)
    made.start_station()
    made.start_server()
    made.inspect("bad")
    made.stored()
    yield made
    made.close()


@pytest.fixture(scope="module")
def browser(line: PageLine) -> Iterator[Person]:
    with logged_in("emil", line.address, 1600, 1200) as someone:
        yield someone


@pytest.fixture
def emil(browser: Person) -> Iterator[Person]:
    """At the view of the active job, which is 1."""
    browser.browser.get("about:blank")
    browser.open("job?job=1")
    browser.see(".limits td", "all")
    yield browser
    browser.check()


def change_over(emil: Person) -> None:
    """To the version that is released."""
    emil.click(".view-job > .bar button.primary", emil.text("job.change_over"))
    emil.confirm()
    emil.gone(".view-job > .bar button.primary")


def state_of(emil: Person, sha256: str, state: str) -> None:
    emil.see(f".version[data-state={state}] code", sha256[:12])


def fill_in(emil: Person, ok: str, ng: str, reason: str) -> None:
    """The form of limits."""
    emil.click(".limits td button")
    for place, text in enumerate((ok, ng, reason), 1):
        emil.fill(f".limits form > label:nth-of-type({place}) input", text)


def test_limits_and_the_way_back(line: PageLine, emil: Person) -> None:
    """Limits are released at once; the station decides by them when it changes over."""
    before = line.inspect("bad")
    assert (before.result, before.ng_above) == ("NG", NG_ABOVE)
    fill_in(emil, "2.6", "2.4", "new lamp")
    emil.click(".limits form button.primary")
    emil.see(".limits .wrong", emil.text("limits.order"))
    ng = ".limits form > label:nth-of-type(2) input"
    emil.fill(ng, "35")
    emil.click(".limits form button.primary")
    assert emil.text("limits.far", factor="23.3") in emil.see("dialog[open]").text
    emil.click("dialog[open] button")
    emil.fill(ng, "3,5")  # of a person who writes so, whatever the page's language is
    emil.click(".limits form button.primary")
    asked = emil.see("dialog[open]").text
    assert re.search(r"OK to 2\.600 \(now [0-9.]+\), NG above 3\.500 \(now [0-9.]+\)", asked)
    emil.confirm()
    emil.see(".note", emil.text("job.released"))
    emil.see(".limits td.figure", "3.500")
    emil.see(".limits td .chip", emil.text("versions.open"))  # of what the station executes
    assert before.bundle_sha256 is not None
    state_of(emil, before.bundle_sha256, "previous")
    changed = manifest_sha256(line.bundles[1])
    state_of(emil, changed, "released")
    emil.see(".history td", "emil")
    assert line.inspect("bad").result == "NG", "not before the changeover"
    emil.see(".view-job > .hint", emil.text("job.changeover"))
    change_over(emil)
    after = line.inspect("bad")
    assert (after.result, after.threshold, after.ng_above) == ("OK", 2.6, 3.5)
    assert after.bundle_sha256 == changed

    emil.click(".versions .back button")
    emil.confirm()
    state_of(emil, before.bundle_sha256, "released")
    state_of(emil, changed, "previous")
    change_over(emil)
    again = line.inspect("bad")
    assert (again.result, again.bundle_sha256) == ("NG", before.bundle_sha256)


def test_a_session_that_ends_while_limits_are_entered(line: PageLine, emil: Person) -> None:
    fill_in(emil, "0.5", "1.75", "after the holidays")
    line.clock.now += 3601
    line.inspect("good")  # the stream finds it out
    emil.see("dialog[open]", emil.text("login.expired"))
    emil.log_in("emil", PASSWORDS["emil"])
    emil.click(".limits form button.primary")
    emil.confirm()
    emil.see(".limits td.figure", "1.750")
    entry = read_changes(line.records)[-1]
    assert (entry.action, entry.user) == ("limits", "emil")
    assert (entry.after["ng_above"], entry.after["reason"]) == (1.75, "after the holidays")
    change_over(emil)


def on_canvas(emil: Person, points: Points) -> list[tuple[float, float]]:
    """Where points of the frame are on the canvas, on which all of the frame is."""
    box = emil.see(".regions canvas").rect
    scale = min(box["width"] / WIDTH, box["height"] / HEIGHT)
    left, top = (box["width"] - scale * WIDTH) / 2, (box["height"] - scale * HEIGHT) / 2
    return [(left + scale * x, top + scale * y) for x, y in points]


def corners(emil: Person) -> list[list[list[float]]]:
    """Of each region, as the list has them."""
    script = (
        "return [...document.querySelectorAll('.region-list ol > li')].map((region) =>"
        "[...region.querySelectorAll('.corners tbody tr')].map((row) =>"
        "[...row.querySelectorAll('input')].map((input) => Number(input.value))))"
    )
    found: list[list[list[float]]] = emil.script(script)
    return found


def test_regions_by_mouse(line: PageLine, emil: Person) -> None:
    emil.see(".regions .picture-zoom", "%")
    looks = {emil.looks(".regions canvas")}

    def drawn() -> None:
        emil.until(lambda: emil.looks(".regions canvas") not in looks, "another drawing")
        looks.add(emil.looks(".regions canvas"))

    square = [(10, 10), (100, 10), (100, 70), (10, 70)]
    emil.click(".region-tools button", emil.text("regions.add_include"))
    for number, point in enumerate(square, 1):
        emil.mouse(".regions canvas", *on_canvas(emil, [point]))
        emil.see(".region-side p", f"({number} so far)")
        drawn()
    emil.mouse(".regions canvas", *on_canvas(emil, square[:1]))  # closes
    emil.see(".region-list li summary", emil.text("regions.corners", n=4))
    assert corners(emil) == [[[x, y] for x, y in square]]
    emil.mouse(".regions canvas", *on_canvas(emil, [(100, 70), (90, 60)]), drag=True)
    emil.until(lambda: corners(emil)[0][2] == [90, 60], "the corner that was dragged")
    drawn()
    emil.mouse(".regions canvas", *on_canvas(emil, [(55, 10), (55, 4)]), drag=True)
    emil.until(lambda: corners(emil)[0][1] == [55, 4], "a corner in the middle of a side")
    emil.press("i")
    emil.mouse(".regions canvas", *on_canvas(emil, [(0, 0), (8, 0), (8, 8), (0, 8)]))
    emil.press(Keys.DELETE, Keys.ENTER)
    wanted = [[[10, 10], [55, 4], [100, 10], [90, 60], [10, 70]], [[0, 0], [8, 0], [8, 8]]]
    emil.until(lambda: corners(emil) == wanted, "two regions")
    kinds = [e.get_attribute("data-kind") for e in emil.all(".region-list ol > li")]
    assert kinds == ["include", "ignore"]


def test_regions_become_a_candidate_that_is_released(line: PageLine, emil: Person) -> None:
    emil.see(".regions .picture-zoom", "%")
    enter = ".regions button.primary"
    emil.press("n", Keys.ENTER)
    emil.press("i")
    emil.mouse(".regions canvas", *on_canvas(emil, [(0, 0), (8, 0), (8, 8)]))
    emil.press(Keys.ENTER)
    wanted = [[[28, 20], [84, 20], [84, 60], [28, 60]], [[0, 0], [8, 0], [8, 8]]]
    emil.until(lambda: corners(emil) == wanted, "two regions")
    share = ".regions > .bar:last-child input"
    emil.fill(share, "0.005")
    emil.click(enter)
    emil.confirm()
    told = emil.text("error.promise", good=20, best="0.0477", needed=199)
    emil.see(".note[data-kind=error]", told)
    emil.fill(share, "0.1")
    emil.click(enter)
    emil.confirm()
    emil.see(".task[data-kind=running]", emil.text("job.running", task="regions"))
    assert line.inspect("bad").region is None, "inspection goes on meanwhile"
    emil.see(".version[data-state=candidate]")
    emil.gone(".task")
    (candidate,) = [v for v in list_versions(line.bundles[1]) if v.state == "candidate"]
    regions = open_bundle(candidate.path).manifest.recipe.regions
    kinds = ["include", "ignore"]
    names = [f"{emil.text(f'regions.{kind}_name')} 1" for kind in kinds]
    assert [(of.name, of.kind) for of in regions] == list(zip(names, kinds, strict=True))
    assert [[list(corner) for corner in of.polygon or ()] for of in regions] == wanted

    released = manifest_sha256(line.bundles[1])
    emil.click(".version[data-state=candidate] button", emil.text("versions.release"))
    emil.confirm()
    state_of(emil, candidate.sha256, "released")
    emil.see(".limits td", names[0])
    change_over(emil)
    part = line.inspect("bad")
    assert (part.region, part.bundle_sha256) == (names[0], candidate.sha256)
    emil.click(".versions .back button")
    emil.confirm()
    state_of(emil, released, "released")
    change_over(emil)
    emil.expected = ["/api/jobs/1/regions .* 409 ", told]


def test_a_candidate_is_discarded(line: PageLine, emil: Person) -> None:
    before = [version.sha256 for version in list_versions(line.bundles[1])]
    with new_candidate(line.bundles[1]) as copy:
        override_limits(open_bundle(copy), "a test", ng_above=9.0, user="emil")
    emil.open("parts")
    emil.open("job?job=1")
    emil.click(".version[data-state=candidate] button", emil.text("versions.discard"))
    emil.confirm()
    emil.gone(".version[data-state=candidate]")
    assert [version.sha256 for version in list_versions(line.bundles[1])] == before


def test_regions_by_keyboard_and_numbers(line: PageLine, emil: Person) -> None:
    """Of a job of which no frame is kept."""
    emil.open("job?job=2")
    emil.see(".regions .picture-message", emil.text("regions.no_frame"))
    enter = ".regions > .bar button.primary"
    assert not emil.see(enter).is_enabled()
    emil.press("n", Keys.ENTER)
    emil.until(lambda: corners(emil) == [[[25, 25], [75, 25], [75, 75], [25, 75]]])
    assert emil.see(enter).is_enabled()
    emil.see(".corners input").click()
    emil.press(Keys.CONTROL + "a", "12", Keys.TAB, "34", Keys.TAB)
    assert corners(emil)[0][0] == [12, 34]
    emil.press(Keys.ENTER)  # on the button that has the focus
    emil.until(lambda: corners(emil)[0][1] == [44, 30], "a corner after the first")
    emil.press(Keys.TAB, Keys.ENTER)
    emil.until(lambda: len(corners(emil)[0]) == 4, "without it again")
    emil.see(".region-head input").click()
    emil.press(Keys.CONTROL + "a", "rim", Keys.TAB, "i", Keys.ENTER)
    emil.see(".region-list li[data-kind=ignore]")
    emil.fill(".corners tr:nth-child(1) td:nth-child(2) input", "75" + Keys.TAB)
    emil.fill(".corners tr:nth-child(2) td:nth-child(2) input", "12" + Keys.TAB)
    emil.fill(".corners tr:nth-child(1) td:nth-child(3) input", "25" + Keys.TAB)
    emil.see(enter).send_keys(Keys.ENTER)
    emil.see(".region-side p", emil.text("regions.crosses", name="rim"))
    emil.click(".regions > .bar button", emil.text("regions.reset"))
    emil.until(lambda: corners(emil) == [])
    assert not emil.see(enter).is_enabled()


def compared(auroc: bool, good: int) -> dict[str, Any]:
    counts = {"false_rejects": 2, "good_reviews": 1, "escapes": 3, "bad_reviews": 0}
    figures = {"old": 0.9, "new": 0.95, "difference": 0.05, "low": 0.01, "high": 0.09}
    return {
        **{"good": good, "bad": 40, "left_out": 0, "auroc": figures if auroc else None},
        **{"old": counts, "new": counts | {"false_rejects": 1}},
    }


@pytest.mark.parametrize("number", [1, 2])
def test_comparison_of_a_candidate(line: PageLine, emil: Person, number: int) -> None:
    """Of this version and of the one before: a verdict only on parts that nobody chose."""
    comparison: dict[str, Any] = {
        **{"format": number, "time": "2026-11-20T08:00:00+00:00", "old_sha256": "1" * 64},
        **{"steps": 200, "images": 60, "trained_on": [4, 5], "calibrated_on": [7]},
        **{"disputed": [], "missing": [], "notes": ["a note"], "escaped": []},
        **{"frozen": compared(True, 120), "labelled": compared(number == 1, 80)},
        "again_rejected": [],
    }
    if number == 1:
        comparison["unseen"] = compared(True, 33)
    else:
        comparison |= {"sample": compared(True, 44), "calibration_images": 20}
    content = json.dumps(comparison).encode()
    bundle = line.bundles[1]
    with new_candidate(bundle) as copy:
        revise_bundle(open_bundle(copy), "compare", "anna", files={COMPARISON: content})
        sha256 = manifest_sha256(copy)
    override_limits(open_bundle(bundle), "fog", ng_above=2.2 + number, user="emil")
    emil.browser.refresh()
    shown = ".version[data-state=candidate] "
    emil.see(f"{shown}code", sha256[:12])
    assert "limits by hand by emil" in emil.see(f"{shown}.hint").text
    columns = [cell.text for cell in emil.all(f"{shown}.comparison thead th")]
    wanted = ["frozen", "labelled"] if number == 1 else ["frozen", "sample", "labelled"]
    assert len(columns) == len(wanted)
    for name, column in zip(wanted, columns, strict=True):
        assert column.startswith(emil.text(f"comparison.{name}"))
    rows = [
        [cell.get_attribute("data-change") for cell in row.find_elements("css selector", "td")]
        for row in emil.all(f"{shown}.comparison tbody tr")[:2]
    ]
    telling = len(wanted) - 1
    assert rows == [["better"] * telling + [None], ["better"] * telling + ["same"]]
    told = emil.see(f"{shown}.comparison").text
    assert emil.text("comparison.why_no_difference") in told
    assert (emil.text("comparison.earlier") in told) == (number == 1)
    emil.click(f"{shown}button", emil.text("versions.release"))
    assert "limits by hand by emil" in emil.see("dialog[open]").text
    emil.confirm()
    state_of(emil, sha256, "released")
    emil.click(".versions .back button")
    emil.confirm()
    state_of(emil, sha256, "previous")
    change_over(emil)


def test_another_job(line: PageLine, emil: Person) -> None:
    for job in (2, 1):
        emil.choose(".view-job > .bar select", str(job))
        emil.click(".view-job > .bar button", emil.text("job.select"))
        emil.confirm()
        emil.see(".job-state .chip[data-on=true]", emil.text("job.active"))
        record = line.inspect("bad")
        assert record.job == job
        assert record.bundle_sha256 == manifest_sha256(line.bundles[job])
    assert emil.browser.current_url.endswith("#/job?job=1")


def test_the_log_and_whether_it_is_whole(line: PageLine, emil: Person) -> None:
    with closing(sqlite3.connect(line.records)) as database:
        fill_in(emil, "0.5", "1.9", "for the log")
        emil.click(".limits form button.primary")
        emil.confirm()
        emil.see(".limits td.figure", "1.900")
        emil.press(Keys.SHIFT + "6")
        emil.see(".chain[data-state=ok]", emil.text("audit.whole"))
        rows = [row.text for row in emil.all(".view-audit tbody tr")]
        assert len(rows) == len(read_changes(line.records))
        assert all(word in rows[0] for word in ("emil", "limits", "ng_above 1.9", "for the log"))
        emil.choose(".view-audit label:nth-of-type(2) select", "login")
        emil.until(lambda: 0 < len(emil.all(".view-audit tbody tr")) < len(rows))
        assert {row.text.split()[-3] for row in emil.all(".view-audit tbody tr")} == {"login"}
        # Somebody writes another address into the file, and then the right one again.
        for old, new, state in (
            ("127.0.0.1", "127.0.0.9", "broken"),
            ("127.0.0.9", "127.0.0.1", "ok"),
        ):
            database.execute("UPDATE changes SET line = replace(line, ?, ?)", (old, new))
            database.commit()
            emil.open("live")
            emil.open("audit")
            emil.see(f".chain[data-state={state}]")
