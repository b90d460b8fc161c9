"""Parts, labels, quality, users and languages of the page in a browser."""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from selenium.webdriver import Keys
from selenium.webdriver.common.by import By

from rdx_fast.bundle.bundle import Bundle
from rdx_fast.hmi import export_api
from rdx_fast.station.cameras.source import CameraTimeoutError
from rdx_fast.station.records.changes import read_changes
from rdx_fast.station.records.labels import add_label, read_labels
from rdx_fast.station.records.pictures import LEVEL_OF_LIMIT
from rdx_fast.station.records.read import read_records
from support.browser import emulate
from support.labelled_line import record
from support.page import PASSWORDS
from support.page_browser import Person, logged_in, person
from support.page_line import PageLine

pytestmark = pytest.mark.slow

OLD = 60  # parts of months ago


@pytest.fixture(scope="module")
def line(
    bundle: Bundle, parts: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[PageLine]:
    """All parts are of the random sample, but for those of months ago."""
    made = PageLine(tmp_path_factory.mktemp("line"), bundle.path, parts, ok_share=1.0)
    for number in range(1, OLD + 1):
        record(made.file, number, None, part_id=9000 + number, score=number / 100, result="OK")
    made.start_station()
    made.start_server()
    made.inspect("good", "review", "bad", "bad", "good")
    made.fail(CameraTimeoutError("no frame"))
    made.station.reset()
    made.station.select_job(2)
    made.inspect("bad")
    made.station.select_job(1)
    made.stored()
    yield made
    made.close()


@pytest.fixture(scope="module")
def browser(line: PageLine) -> Iterator[Person]:
    with logged_in("olga", line.address) as someone:
        yield someone


@pytest.fixture
def olga(browser: Person) -> Iterator[Person]:
    browser.browser.get("about:blank")
    yield browser
    browser.check()


def found(someone: Person) -> list[int]:
    """Part ids of the table."""
    script = (
        "return [...document.querySelectorAll('.view-parts tbody tr')].map((row) => row.cells[1]"
        ".textContent)"
    )
    return [int(text) for text in someone.script(script)]


def test_search(line: PageLine, olga: Person) -> None:
    olga.open("parts")

    def search(wanted: list[int], **filters: str) -> None:
        """Fill in the form as it is labelled, and wait for what is found."""
        olga.click(".filters button[type=reset]")
        olga.until(lambda: len(found(olga)) == 50, "all of a page")
        for name, value in filters.items():
            (box,) = [
                f
                for f in olga.all(".filters .field")
                if f.text.startswith(olga.text(f"filter.{name}"))
            ]
            if name == "result":
                for badge in value.split():
                    box.find_element(By.CSS_SELECTOR, f"input[value={badge}]").click()
                continue
            control = box.find_element(By.CSS_SELECTOR, "input, select")
            script = (
                "arguments[0].value = arguments[1]"  # typed dates differ from country to country
            )
            olga.script(script, control, value)
        olga.click(".filters button.primary")
        olga.until(lambda: found(olga) == wanted, f"{wanted} by {filters}")

    search([7, 6, 5, 4, 3, 2, 1], since="2026-02-01T00:00")
    search([6], result="ERROR")
    search([7, 4, 3, 2], result="NG REVIEW")
    search([2], min_score="0.65", max_score="1.5", since="2026-02-01T00:00")
    search([9031, 9030], min_score="0.295", max_score="0.315", until="2026-02-01T00:00")
    search([7, 5, 4, 3, 2, 1], pictured="1")
    search([], labelled="1", job="2")
    assert olga.see("p[role=status]").text == olga.text("parts.nothing")
    search([], part_id="3", result="OK")
    # The address names the search, and older ones are a page further.
    olga.open("parts?job=1&result=OK")
    olga.until(lambda: len(found(olga)) == 50)
    first = found(olga)
    assert first[:2] == [5, 1]
    olga.click(".bar button", olga.text("parts.older"))
    olga.until(lambda: found(olga) == list(range(9012, 9000, -1)))
    olga.click(".bar button", olga.text("parts.newer"))
    olga.until(lambda: found(olga) == first)
    shown = "return [...document.querySelectorAll('.thumbnail img')].map((i) => i.naturalWidth)"
    olga.until(lambda: all(olga.script(shown)))
    assert len(olga.script(shown)) == 2
    olga.click("tbody td a", "5")
    olga.see(".part-head", "OK\nPart 5")


def test_export(line: PageLine, olga: Person, tmp_path: Path) -> None:
    """What was searched for, downloaded and read back."""
    bad = [r for r in read_records(line.records) if r.result == "NG"]
    add_label(line.records, bad[0].inspection_id, "emil", "bad", "crack")
    olga.downloads(tmp_path)
    olga.open("parts?result=NG")
    olga.until(lambda: found(olga) == [7, 4, 3])

    def downloaded(kind: str) -> Path:
        olga.click(".exports button", kind.upper())

        def whole() -> list[Path]:
            found = tmp_path.glob(f"line-1-*.{kind}")
            return [file for file in found if file.stat().st_size]  # empty while it is written

        (file,) = olga.until(whole, f"a {kind} file")
        return Path(file)

    rows = list(csv.DictReader(io.StringIO(downloaded("csv").read_text(encoding="utf-8"))))
    ids, scores = [str(r.part_id) for r in bad], [r.score for r in bad]
    assert [row["part_id"] for row in rows] == ids
    assert [float(row["score"]) for row in rows] == pytest.approx(scores)
    assert pq.read_table(downloaded("parquet"))["score"].to_pylist() == scores
    with zipfile.ZipFile(downloaded("zip")) as archive:
        frames = [name for name in archive.namelist() if name.startswith("frames/")]
        with Image.open(archive.open(frames[0])) as image:
            np.testing.assert_array_equal(np.array(image), line.frames["bad"])
        assert "labels.csv" not in archive.namelist(), "engineers get it"
    assert len(frames) == 3


def test_an_export_that_is_too_large(
    line: PageLine, olga: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Refused in words on the page, which the download of a browser would not show."""
    monkeypatch.setattr(export_api, "MOST_ZIPPED", 2)
    olga.open("parts?result=NG")
    olga.click(".exports button", "ZIP")
    detail = "3 parts are selected, at most 2 fit a zip file: narrow the selection"
    olga.see(".note[data-kind=error]", olga.text("error.export_too_large", detail=detail))
    olga.expected = ["/api/export.* 413 ", "at most 2 fit"]


def test_all_that_is_recorded_of_a_part(line: PageLine, olga: Person) -> None:
    (part,) = [r for r in read_records(line.records) if r.part_id == 4]
    olga.open(f"part/{part.inspection_id}")
    assert part.bundle_sha256 is not None
    olga.see(".facts", part.bundle_sha256)
    text = olga.see(".part-side").text
    assert f"{part.score:.2f}" in text
    assert str(part.picture) in text
    assert olga.text("part.sampled_long") in text
    rows = {name: figure for name, figure in times(olga).items() if name}
    assert rows[olga.text("field.network_ms")] == pytest.approx(part.network_ms, rel=0.01)
    assert part.recorded_ms is not None
    assert rows[olga.text("field.recorded_ms")] == pytest.approx(part.recorded_ms, rel=0.01)
    peak = olga.see("section.panel:last-child td.figure:last-child").text
    assert part.score is not None
    assert part.threshold is not None
    most = (2**16 - 1) / LEVEL_OF_LIMIT  # in a stored map
    wanted = min(part.score / part.threshold, most)
    assert float(peak[1:]) == pytest.approx(wanted, rel=0.02)
    look = olga.until(lambda: olga.see(".picture-zoom").text.endswith("%") and olga.looks())
    olga.press(Keys.ARROW_LEFT)
    olga.see(".part-head", "Part 3")
    olga.press(Keys.ARROW_RIGHT)
    olga.see(".part-head", "Part 4")
    olga.until(lambda: olga.looks() == look)
    olga.press(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    olga.see(".part-head", "Part 6")
    cause = olga.text("alarm.CAMERA_TIMEOUT.cause")
    assert cause in olga.see(".part-side .hint").text
    olga.see(".picture-message", olga.text("part.no_picture"))
    olga.open("part/4711")
    olga.see(".picture-message", olga.text("error.not_found"))
    olga.expected = ["/api/parts/4711 .* 404 "]


def times(someone: Person) -> dict[str, float]:
    script = (
        "return [...document.querySelectorAll('.part-side tr')].filter((r) => r.cells.length === 2)"
        ".map((r) => [...r.cells].map((c) => c.textContent))"
    )
    rows = {name: text for name, text in someone.script(script) if text.endswith(" ms")}
    return {name: float(text[:-3].replace(",", "")) for name, text in rows.items()}


def labels_of(line: PageLine, user: str) -> list[tuple[int, str, str, str]]:
    part = {r.inspection_id: r.part_id for r in read_records(line.records)}
    given = [one for one in read_labels(line.records) if one.user == user]
    return [(part[one.inspection_id], one.verdict, one.reason, one.comment) for one in given]


def test_labels_by_mouse(line: PageLine, olga: Person) -> None:
    olga.open("label")
    olga.see(".queue-part", "Part 7")
    olga.see(".queue-count", "5 ")  # one has a label by another user
    olga.click(".queue-side .actions button", olga.text("label.skip"))
    olga.see(".queue-part", "Part 5")
    olga.click(".queue-side .actions button", olga.text("label.back"))
    olga.see(".queue-part", "Part 7")
    olga.fill(".judging input", "left of the bore")
    olga.click("button.judge[data-agreed=good]")
    olga.click("button.judge[data-agreed=bad]")
    olga.click(".reasons button", "scratch")
    olga.see(".queue-part", "Part 5")
    olga.see(".queue-count", "4 ")
    olga.see("#nav .waiting", "4")
    # The part before is looked at again, and thought of otherwise.
    olga.click(".queue-side .actions button", olga.text("label.back"))
    olga.see(".queue-part", "Part 7")
    olga.click("button.judge[data-agreed=good]")
    olga.click(".reasons button", "reflection")
    olga.see(".queue-part", "Part 5")
    assert labels_of(line, "olga") == [
        (7, "bad", "scratch", "left of the bore"),
        (7, "good", "reflection", ""),
    ]
    olga.open("parts?labelled=1&job=2")
    olga.see("tbody .agreed", "really good")


def test_a_labelling_session_by_keyboard_alone(line: PageLine) -> None:
    line.inspect("bad", "bad", "bad")
    line.stored()
    third, second, first = (f"Part {line.parts - i}" for i in (2, 1, 0))
    with person(line.address) as emil:
        emil.open("live")
        emil.see("dialog[open]")
        emil.press("emil", Keys.TAB, PASSWORDS["emil"], Keys.ENTER)
        emil.see("#menu-button", "emil")
        emil.gone("dialog[open]")
        emil.press("?")
        emil.see("dialog.keys kbd", "Shift+3")
        emil.press(Keys.ESCAPE)
        emil.gone("dialog[open]")
        emil.press(Keys.SHIFT + "3")
        emil.see(".queue-part", first)
        before = labels_of(line, "emil")
        emil.press(Keys.ARROW_RIGHT)
        emil.see(".queue-part", second)
        emil.press("3")  # no reason without a verdict
        emil.press("g", "3")
        emil.see(".queue-part", third)
        emil.press("c", "dent, 2 mm", Keys.ENTER, "b", "1")
        emil.until(lambda: third not in emil.see(".queue-part").text)
        emil.press(Keys.ARROW_LEFT)
        emil.see(".queue-part", third)
        emil.press(Keys.ARROW_LEFT, Keys.ARROW_LEFT)
        emil.see(".queue-part", first)
        emil.press("b", "5")
        emil.see(".queue-part", second)
        assert labels_of(line, "emil")[len(before) :] == [
            (line.parts - 1, "good", "reflection", ""),
            (line.parts - 2, "bad", "crack", "dent, 2 mm"),
            (line.parts, "bad", "other", ""),
        ]
        emil.check()


def test_an_empty_queue_goes_on_with_the_next_part(line: PageLine, olga: Person) -> None:
    olga.label_all(lambda _: False)
    olga.see(".picture-message", olga.text("label.empty"))
    line.inspect("bad")
    olga.see(".queue-part", f"Part {line.parts}")
    olga.press("b", "1")
    olga.see(".picture-message", olga.text("label.empty"))


def test_quality(line: PageLine, olga: Person) -> None:
    first = line.parts + 1
    line.station.select_job(2)
    line.inspect("good", "good", "good", "bad", "bad", "review")
    line.station.select_job(1)
    ids = {r.part_id: r.inspection_id for r in read_records(line.records)}
    given: list[tuple[int, str, Any]] = [
        *((0, "olga", "good"), (1, "olga", "bad"), (1, "emil", "bad")),
        *((3, "olga", "bad"), (4, "olga", "good"), (4, "emil", "bad")),
    ]
    for offset, user, verdict in given:
        add_label(line.records, ids[first + offset], user, verdict, "other")
    # With the one NG part of this job that was there, which is good, bad or disputed.
    olga.open("quality?job=2&days=1")
    cards = {card.text.split("\n")[0]: card.text for card in olga.until(lambda: olga.all(".card"))}
    escapes = cards[olga.text("quality.escapes").upper()]
    assert "50%" in escapes
    assert olga.text("quality.escapes_counted", n=1, of=2) in escapes
    assert "95 % interval: 1.26% to 98.7%" in escapes
    assert olga.text("quality.escapes_hint", n=1, of=3) in escapes
    reviews = cards[olga.text("quality.reviews").upper()]
    assert olga.text("quality.reviews_counted", n=1, of=7) in reviews
    told = olga.script("return fetch('/api/quality?job=2').then((answer) => answer.json())")
    of, n = told["labelled_twice"], told["agreements"]
    assert of >= 2
    agreement = cards[olga.text("quality.agreement").upper()]
    assert olga.text("quality.agreement_counted", n=n, of=of) in agreement
    rejects = cards[olga.text("quality.rejects").upper()]
    n, of = told["false_rejects"], told["rejects_labelled"]
    assert olga.text("quality.rejects_counted", n=n, of=of) in rejects
    assert olga.all(".card .interval .range")
    olga.choose("form.bar .field:first-child select", "1")
    olga.until(
        lambda: olga.text("quality.reviews_counted", n=1, of=7) not in olga.see(".cards").text
    )


def test_an_operator_has_no_controls_of_an_engineer(line: PageLine, olga: Person) -> None:
    olga.open("job")
    olga.see(".limits td", "all")
    assert olga.see(".view-job").text.count(olga.text("job.read_only")) == 1
    shown = [e.text for e in olga.all(".job button, .view-job > .bar button") if e.is_displayed()]
    tools = {"\N{MINUS SIGN}", "+", "1:1", olga.text("picture.fit_short")}
    assert set(shown) <= tools
    assert all(not e.is_enabled() for e in olga.all(".job input, .job .region-list select"))
    assert not [a for a in olga.all("#nav a") if a.text == olga.text("audit.title")]
    olga.open("audit")
    olga.see(".hint", olga.text("error.role_needed"))
    # Nor by a script, with all that the page itself has.
    changes = read_changes(line.records)
    told = olga.script(
        "return import('/static/api.js').then(async ({ post, get }) => {"
        "const told = [];"
        "for (const ask of ["
        "  () => post('/api/jobs/1/limits', {region: 'all', executed: 'fp32', ok_below: 1,"
        "    ng_above: 2, reason: 'mine'}),"
        "  () => post('/api/jobs/1/regions', {regions: [], false_reject: 0.1}),"
        "  () => post('/api/jobs/1/release', {sha256: '0'.repeat(64)}),"
        "  () => post('/api/job', {job: 2}),"
        "  () => get('/api/audit'),"
        "]) told.push(await ask().then(() => 'done', (error) => error.code));"
        "return told; })"
    )
    assert told == ["role_needed"] * 5
    assert read_changes(line.records) == changes
    assert line.station.status.active_job == 1
    olga.expected = ["/api/.* 403 "]


def test_languages_and_themes(line: PageLine, olga: Person) -> None:
    olga.open("parts")
    assert olga.script("return document.documentElement.lang") == "en"

    def ground() -> float:
        script = "return getComputedStyle(document.body).backgroundColor"
        return float(np.mean([float(v) for v in str(olga.script(script))[4:-1].split(",")]))

    assert ground() > 200
    olga.click("#menu-button")
    olga.choose("#menu label:first-of-type select", "de")
    olga.see("#nav a", "Teile")
    olga.see("h1", "Teile")
    olga.browser.refresh()
    olga.see("h1", "Teile")
    assert olga.script("return document.documentElement.lang") == "de"
    assert olga.see(".view-parts tbody tr:last-child td:nth-child(4)").text.count(",") == 1
    for theme, is_dark in (("dark", True), ("light", False)):
        olga.click("#menu-button")
        olga.choose("#menu label:nth-of-type(2) select", theme)
        assert (ground() < 60) == is_dark
        olga.browser.refresh()
        olga.see("h1", "Teile")
        assert (ground() < 60) == is_dark
    olga.click("#menu-button")
    olga.choose("#menu label:nth-of-type(2) select", "auto")
    emulate(olga.browser, dark=True)
    assert ground() < 60
    emulate(olga.browser, dark=False)
    olga.choose("#menu label:first-of-type select", "en")
    olga.see("h1", "Parts")
