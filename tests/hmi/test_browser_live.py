"""The live view in a browser, beside a station that runs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from selenium.webdriver import Keys

from rdx_fast.bundle.bundle import Bundle
from rdx_fast.bundle.versions import manifest_sha256
from rdx_fast.station.cameras.source import CameraTimeoutError
from support.labelled_line import record
from support.line_processes import free_port
from support.page import PASSWORDS, Page
from support.page_browser import PASSED, Person, logged_in, not_current, person
from support.page_hour import footprint
from support.page_line import NG_ABOVE, PageLine, serving
from support.scripted import ScriptedCamera

HD = (1920, 1080)


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
    with logged_in("olga", line.address, *HD) as someone:
        yield someone


@pytest.fixture
def olga(browser: Person) -> Iterator[Person]:
    """At the live view of a page that was loaded anew."""
    browser.browser.get("about:blank")
    browser.open()
    browser.see("#link[data-state=open]")
    browser.allowed = [PASSED]
    yield browser
    browser.check()


def verdict(someone: Person, part: int, result: str) -> str:
    """Text of the verdict's panel, once it is that of a part."""
    return someone.see(f".verdict[data-result={result}][data-state=fresh]", f"Part {part}\n").text


def picture(someone: Person, part: int) -> None:
    """Wait for the picture of a part."""
    someone.see(".picture-caption", f"Part {part} ")
    someone.see(".picture-zoom", "%")


def column(someone: Person, css: str) -> list[str]:
    """Texts of all elements, read at once: a list that is alive may change between two reads."""
    script = "return [...document.querySelectorAll(arguments[0])].map((e) => e.textContent)"
    return list(someone.script(script, css))


@pytest.mark.slow
def test_verdicts_with_part_id_and_age(line: PageLine, olga: Person) -> None:
    olga.allowed = []  # parts are awaited
    for kind, result in (("good", "OK"), ("bad", "NG"), ("review", "REVIEW")):
        line.inspect(kind)
        text = verdict(olga, line.parts, result)
        assert olga.text(f"result.{result}") in text
        assert " s ago" in text
        picture(olga, line.parts)
    line.fail(CameraTimeoutError("no frame"))
    assert olga.text("alarm.CAMERA_TIMEOUT.cause") in verdict(olga, line.parts, "ERROR")
    olga.see(".picture-message", f"part {line.parts} ")
    line.station.reset()
    olga.gone(".alarms li")


@pytest.mark.slow
def test_frame_with_heat_map_and_boxes_down_to_its_pixels(line: PageLine, olga: Person) -> None:
    line.inspect("bad")
    picture(olga, line.parts)
    assert "1 regions above" in (olga.see("canvas").get_attribute("aria-label") or "")
    both = olga.looks()
    seen = {both}
    for name in ("heat", "boxes"):
        olga.click(f".picture-tools button[data-name={name}]")
        olga.until(lambda: olga.looks() not in seen, f"another look without {name}")
        seen.add(olga.looks())
    bare = olga.looks()
    olga.press("h", "x")
    olga.until(lambda: olga.looks() == both, "the look before")
    olga.press("h", "x")
    olga.until(lambda: olga.looks() == bare, "no overlays")

    # At 64 screen pixels to one of the frame, what is seen are squares of single colours.
    for _ in range(20):
        olga.click(".picture-tools button[title='" + olga.text("picture.in") + "']")
    olga.see(".picture-zoom", "6,400%")
    colours = olga.script(
        "const canvas = document.querySelector('canvas');"
        "const row = canvas.getContext('2d').getImageData(0, 99, canvas.width, 1).data;"
        "return new Set(Array.from({length: canvas.width}, (_, i) => row.slice(4 * i, 4 * i + 4)"
        ".join())).size"
    )
    width = olga.script("return document.querySelector('canvas').width")
    assert 1 < colours <= width / 64 + 1
    olga.press("0")
    olga.until(lambda: olga.looks() == bare, "the whole frame")
    olga.press("p")
    olga.until(lambda: olga.looks() != bare, "pixels")
    olga.press("0", "h", "x")
    olga.until(lambda: olga.looks() == both)
    # Held, the picture stays while parts go on.
    olga.click(".picture-tools button", olga.text("live.hold"))
    line.inspect("good")
    verdict(olga, line.parts, "OK")
    assert olga.see(".picture-caption").text.startswith(f"Part {line.parts - 1} ")
    olga.press(" ")  # on the button
    picture(olga, line.parts)


@pytest.mark.slow
def test_score_against_both_limits_and_its_trend(line: PageLine, olga: Person) -> None:
    record = line.inspect("review")
    verdict(olga, line.parts, "REVIEW")
    assert record.score is not None
    assert record.threshold is not None
    assert record.ng_above == NG_ABOVE
    shown = olga.see(".score-figures").text
    wanted = f"{record.score:.3f}, OK to {record.threshold:.3f} · NG above {NG_ABOVE:.2f}"
    assert shown.replace("\n", ", ") == wanted
    bar = "const at = (css) => parseFloat(document.querySelector(css).getAttribute('x1'));"
    bar += "return [at('.score-zones .limit'), at('.score-mark'), at('.limit ~ .limit')]"
    ok, mark, ng = olga.script(bar)
    assert (mark - ok) / (ng - ok) == pytest.approx(
        (record.score - record.threshold) / (record.ng_above - record.threshold), abs=0.01
    )
    path = "return document.querySelector('.trend-line').getAttribute('d').split('L').length"
    points = olga.until(lambda: olga.script(path))
    line.inspect("good", "bad")
    olga.until(lambda: olga.script(path) == points + 2, "two more points")
    drawn = olga.script(
        "return ['.trend-ok-limit', '.trend-ng-limit', '.dot-OK', '.dot-REVIEW', '.dot-NG']"
        ".map((css) => document.querySelector(`.trend ${css}`).getAttribute('d').length)"
    )
    assert all(drawn)


@pytest.mark.slow
def test_the_last_20_parts_and_the_strip_of_rejects(line: PageLine, olga: Person) -> None:
    line.inspect(*["good"] * 19, "review", "good", "bad")
    numbers = [str(n) for n in range(line.parts, line.parts - 20, -1)]
    olga.until(lambda: column(olga, ".recent tbody tr td:first-child") == numbers, "20 parts")
    badges = column(olga, ".recent tbody .badge")
    assert badges == ["NG", "OK", "REVIEW", *["OK"] * 17]
    newest = [f"NG{line.parts}", f"REVIEW{line.parts - 2}"]
    olga.until(lambda: column(olga, ".strip li a > span")[:2] == newest, "the strip")
    assert {text.rstrip("0123456789") for text in column(olga, ".strip li")} == {"NG", "REVIEW"}
    loaded = "return [...document.querySelectorAll('.strip img')].every((i) => i.naturalWidth > 0)"
    olga.until(lambda: olga.script(loaded), "pictures")
    olga.click(".strip li a", str(line.parts - 2))
    olga.see(".part-head", f"REVIEW\nPart {line.parts - 2}")


@pytest.mark.slow
def test_counts_yield_and_rejects_by_job_and_shift(line: PageLine, olga: Person) -> None:
    def rows() -> dict[tuple[bool, int], list[str]]:
        """Parts, yield, REVIEW, NG, ERROR and LATE by shift and job."""
        script = (
            "return [...document.querySelectorAll('.counts tbody tr')].map((row) =>"
            "[row.className === 'now', ...[...row.cells].slice(1).map((c) => c.textContent)])"
        )
        found = olga.script(script)
        return {(now, int(job)): figures for now, job, *figures in found}

    line.station.select_job(2)
    line.inspect("good", "good", "bad", "review")
    wanted = ["4", "50%", "1", "1", "0", "0"]
    olga.until(lambda: wanted in [v for (_, job), v in rows().items() if job == 2], "counts")
    figures = olga.see(".figures").text.split("\n")
    assert figures[1::2][:4] == ["50%", "4", "1", "1"]
    line.station.select_job(1)
    before = rows()
    line.inspect("bad")
    olga.until(lambda: rows() != before, "other counts")
    assert wanted in rows().values(), "not those of the other job"


@pytest.mark.slow
def test_active_job_and_checksum_of_its_bundle(line: PageLine, olga: Person) -> None:
    for job, name in ((2, "other"), (1, "part")):
        line.station.select_job(job)
        olga.see(".job-name strong", f"{job} · ")
        sha256 = manifest_sha256(line.bundles[job])
        code = olga.see(".job-name code", sha256[:12])
        assert sha256 in (code.get_attribute("title") or "")
        assert name in line.bundles[job].name
    lamps = {e.text: e.get_attribute("data-lamp") for e in olga.all(".lamps li")}
    names = ["Camera\nok", "PLC\noff", "Disk\nok", "Heartbeat\nok", "Drift\nok"]
    assert lamps == {name: name.split("\n")[1] for name in names}


@pytest.mark.slow
def test_two_browsers_at_once(line: PageLine, olga: Person) -> None:
    """Both see parts at once, and one sees what is labelled in the other."""
    with person(line.address, *HD) as emil:
        emil.open()
        emil.log_in("emil", PASSWORDS["emil"])
        line.inspect("bad")
        for someone in (olga, emil):
            verdict(someone, line.parts, "NG")
            someone.until(lambda s=someone: f"NG{line.parts}" in column(s, ".strip li"))
        olga.click(".recent a", str(line.parts))
        olga.see(".judges button")
        olga.press("g", "1")
        olga.see(".labels", "olga")
        emil.see(".strip li:first-child .agreed[data-agreed=good]")
        emil.see(".recent tbody tr:first-child .agreed[data-agreed=good]")
        emil.click(".recent a", str(line.parts))
        emil.see(".part-side .muted", emil.text("label.withheld"))
        emil.click("button.judge[data-agreed=bad]")
        emil.click(".reasons button", "crack")
        emil.see(".labels", "olga")
        emil.see(".part-head .agreed[data-agreed=disputed]")
        emil.check()
    olga.press(Keys.SHIFT + "1")
    olga.see(".recent tbody tr:first-child .agreed[data-agreed=disputed]")


@pytest.mark.slow
def test_a_page_that_is_left_keeps_no_connection(line: PageLine, olga: Person) -> None:
    """A browser opens six to a server, and keeps pages that were left."""
    olga.browser.set_page_load_timeout(30)
    for _ in range(6):
        olga.browser.get("about:blank")
        olga.open()
        olga.see("#link[data-state=open]")
    olga.browser.set_page_load_timeout(300)
    # One that comes back from what the browser has kept goes on.
    olga.browser.get("about:blank")
    olga.browser.back()
    olga.see("#link[data-state=open]")
    line.inspect("good")
    verdict(olga, line.parts, "OK")


@pytest.mark.slow
def test_parts_that_passed_are_not_judged(line: PageLine, olga: Person) -> None:
    """Unless they are of the random sample, which there is none of here."""
    olga.open(f"part/{line.inspect('good').inspection_id}")
    olga.see(".judging", olga.text("label.not_judged"))
    assert not any(button.is_enabled() for button in olga.all("button.judge"))
    olga.press("g")
    assert not olga.all(".reasons button")


@pytest.mark.slow
def test_a_page_that_is_left_open_does_not_grow(line: PageLine, olga: Person) -> None:
    """While 1500 parts go by, as fast as they are inspected."""
    found = []
    for _ in range(15):
        line.inspect(*(["good"] * 8 + ["review", "bad"]) * 10)
        olga.until(lambda: column(olga, ".recent tbody td:first-child")[:1] == [str(line.parts)])
        found.append(footprint(olga))
        olga.see(".verdict[data-state=fresh]")
    for name, bound in (("heap_mb", 0.5), ("nodes", 500), ("listeners", 100)):
        values = [one[name] for one in found]
        assert max(values[10:]) <= max(values[:5]) + bound, (name, values)


def test_a_login_and_a_part_on_record(page: Page, camera: ScriptedCamera) -> None:
    """Beside a station that is away."""
    record(page.file, 1, camera.frame, part_id=4711)
    hmi = replace(page.context.hmi, port=free_port())
    with serving(page.app, hmi), person(f"http://127.0.0.1:{hmi.port}") as olga:
        olga.open("parts")
        olga.log_in("olga", PASSWORDS["olga"])
        olga.see("tbody tr td", "4711")
        olga.open()
        not_current(olga, "station", "NG", 4711)
        olga.check()
