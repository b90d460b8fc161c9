"""Reports in a browser: of photographs, and of drawn parts with two limits."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement

from rdx_fast import Detector
from rdx_fast.bundle.bundle import Bundle, open_bundle
from rdx_fast.bundle.changes import replace_recipe
from rdx_fast.datasets import find_dataset
from rdx_fast.evaluation import check_images, score_checked
from rdx_fast.evaluation.pro import overlaps_by_image
from rdx_fast.limits.calibration import manual_threshold
from rdx_fast.limits.limits import Limits as Region
from rdx_fast.recipe.recipe import FrameSpec, InspectionRecipe, RegionSpec
from rdx_fast.report import Limits, Report, make_report, render, write_page
from rdx_fast.report.gallery import GALLERIES, arranged
from rdx_fast.report.shown import Scores
from support.browser import DESKTOP, PHONE, complaints, emulate, opened, requests

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Written:
    """A report and the file it was written to."""

    report: Report
    page: Path


def write(
    bundle: Path, dataset: Path, page: Path, between: float, of_regions: Sequence[Region] = ()
) -> Written:
    """``between``: how far the limits are apart, as a share of the bundle's; ``of_regions``: other
    limits than the bundle's."""
    with Detector(bundle, limits=of_regions or None, check_frames=False) as detector:
        checked = check_images(find_dataset(dataset).test())
        scored = score_checked(detector, checked)
        ends = Limits(*((1 + side * between) * scored.threshold for side in (-1, 1)))
        limits = None if of_regions else ends
        report = make_report(detector, checked, scored, dataset, limits=limits, gallery=3)
    write_page(render(report), page)
    return Written(report, page)


def marked(parts: Path, folder: Path) -> Path:
    """The drawn parts; the middle of defective ones is marked."""
    category = Path(shutil.copytree(parts, folder / "category"))
    truth = category / "ground_truth" / "notch"
    truth.mkdir(parents=True)
    mask = np.zeros((80, 112), np.uint8)
    mask[30:50, 45:67] = 255
    for path in (category / "test" / "notch").iterdir():
        Image.fromarray(mask).save(truth / path.name)
    return category


@pytest.fixture(scope="module")
def drawn(bundle: Bundle, parts: Path, tmp_path_factory: pytest.TempPathFactory) -> Written:
    """Two limits."""
    folder = tmp_path_factory.mktemp("drawn")
    return write(bundle.path, marked(parts, folder), folder / "report.html", between=0.2)


@pytest.fixture(scope="module")
def in_regions(bundle: Bundle, parts: Path, tmp_path_factory: pytest.TempPathFactory) -> Written:
    """Two regions, whose limits are far apart; a part of the frame is not inspected."""
    folder = tmp_path_factory.mktemp("regions")
    copy = open_bundle(shutil.copytree(bundle.path, folder / "copy.rdx"))
    sides = {"left": (10, 56), "right": (56, 100)}
    regions = tuple(
        RegionSpec(name, polygon=((x, 5), (end, 5), (end, 75), (x, 75)))
        for name, (x, end) in sides.items()
    )
    part = replace_recipe(copy, InspectionRecipe(FrameSpec(80, 112), regions), {}, "anna").path
    values = {"left": (0.3, 0.4), "right": (0.4, 4.0)}
    of_regions = [
        Region(name, *(manual_threshold(value, "test") for value in pair))
        for name, pair in values.items()
    ]
    category = marked(parts, folder)
    return write(part, category, folder / "report.html", 0, of_regions)


@pytest.fixture(scope="module")
def photographed(
    transistor: Path,
    transistor_bundles: tuple[Bundle, Bundle],
    tmp_path_factory: pytest.TempPathFactory,
) -> Written:
    """One limit."""
    page = tmp_path_factory.mktemp("photographed") / "report.html"
    return write(transistor_bundles[1].path, transistor, page, between=0)


BOTH = pytest.mark.parametrize(
    "which", ["drawn", "in_regions", pytest.param("photographed", marks=pytest.mark.real)]
)


@pytest.fixture
def written(which: str, request: pytest.FixtureRequest) -> Written:
    found = request.getfixturevalue(which)
    assert isinstance(found, Written)
    return found


@pytest.fixture
def browser(written: Written) -> Iterator[Chrome]:
    with opened(written.page) as found:
        yield found
        assert complaints(found) == []


def field(browser: Chrome, name: str) -> WebElement:
    return browser.find_element(By.ID, name)


def value(browser: Chrome, name: str) -> float:
    return float(field(browser, name).get_attribute("value") or "")


def enter(browser: Chrome, number: float | str) -> None:
    """The limit of NG, typed over what was there."""
    for keys in (Keys.CONTROL + "a", f"{number}", Keys.ENTER):
        field(browser, "number-ng").send_keys(keys)


def texts(browser: Chrome) -> dict[str, str]:
    pairs = browser.execute_script(
        "return [...document.querySelectorAll('[data-value]')]"
        ".map(e => [e.dataset.value, e.textContent])"
    )
    found = dict(pairs)
    assert all(found[name] == text for name, text in pairs)  # wherever it is shown
    return found


def assert_shown(browser: Chrome, report: Report, limits: Limits) -> None:
    """All numbers and pictures are what Python finds at these limits."""
    curve = overlaps_by_image(report.scored).curve()
    wanted = Scores.of(report.scored, curve).shown(limits)
    found = texts(browser)
    counts = {name: text for name, text in found.items() if not name.startswith("gallery.")}
    assert counts == {name: wanted[name] for name in counts}
    assert len(counts) > 15
    places = arranged(report.scored, limits, [card.index for card in report.cards], report.gallery)
    for name in GALLERIES:
        cards = browser.find_elements(By.CSS_SELECTOR, f"[data-gallery={name}] .card")
        if name != "review" or report.limits.are_two:
            assert [int(c.get_attribute("data-image") or "") for c in cards] == places[name]
    for name, of in (("escapes", "defective.OK"), ("false_rejects", "good.NG")):
        assert found[f"gallery.{name}"] == f"{len(places[name])} of {wanted[f'confusion.{of}']}"
    names = ["OK", "REVIEW", "NG"]
    for card in browser.find_elements(By.CSS_SELECTOR, "[data-gallery]:not([hidden]) .card"):
        score = report.scored.scores[int(card.get_attribute("data-image") or "")]
        badge = card.find_element(By.CLASS_NAME, "badge").text
        assert badge == names[limits.verdicts(score)]


@BOTH
@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [DESKTOP, PHONE])
def test_opens_alone_and_fits(written: Written, width: int, dark: bool) -> None:
    with opened(written.page, width, dark) as browser:
        assert browser.execute_script("return innerWidth") == width
        assert browser.execute_script("return document.documentElement.scrollWidth") == width
        sticking_out = browser.execute_script(
            "return [...document.querySelectorAll('body *')].filter(e => !e.closest('.scroll, svg')"
            "&& e.getBoundingClientRect().right > innerWidth).map(e => e.outerHTML)"
        )
        assert sticking_out == []
        loaded = browser.execute_script(
            "return [...document.images].every(i => i.complete && i.naturalWidth > 0)"
        )
        assert loaded
        ground = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
        assert (np.mean([int(v) for v in ground[4:-1].split(",")]) < 60) == dark
        emulate(browser, dark, "print")
        ground = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
        assert ground == "rgb(255, 255, 255)"
        asked = {url for url in requests(browser) if not url.startswith("data:")}
        assert asked == {written.page.as_uri()}
        assert complaints(browser) == []


@BOTH
def test_sliders_by_keyboard(written: Written, browser: Chrome) -> None:
    report = written.report
    assert_shown(browser, report, report.limits)
    before = texts(browser)
    assert not field(browser, "moved").is_displayed()
    slider, ok = field(browser, "slider-ng"), report.limits.ok_below
    for keys in (Keys.ARROW_RIGHT * 7, Keys.ARROW_LEFT * 30, Keys.HOME, Keys.END, Keys.PAGE_DOWN):
        slider.send_keys(keys)
        ng = value(browser, "slider-ng")
        ok = min(ok, ng) if report.limits.are_two else ng
        assert_shown(browser, report, Limits(ok, ng))
    assert field(browser, "moved").is_displayed()
    slider.send_keys(Keys.HOME)
    assert texts(browser)["false_rejects.rate"] == "100.0%"
    slider.send_keys(Keys.END)
    assert texts(browser)["false_rejects.rate"] == "0.0%"
    field(browser, "reset").send_keys(Keys.ENTER)
    assert texts(browser) == before
    assert_shown(browser, report, report.limits)
    assert not field(browser, "moved").is_displayed()


@BOTH
def test_a_limit_is_typed(written: Written, browser: Chrome) -> None:
    """Also one that is a score: a part whose score is at the limit is not above it."""
    report = written.report
    scores = np.sort(report.scored.scores)
    for score in (float(str(scores[i])) for i in (3, len(scores) // 2, -3)):
        enter(browser, score)
        ok = min(score, report.limits.ok_below) if report.limits.are_two else score
        assert_shown(browser, report, Limits(ok, score))
        field(browser, "reset").click()
    for wrong in (Keys.DELETE, "-1"):
        enter(browser, wrong)
    assert_shown(browser, report, report.limits)  # as before


@pytest.mark.parametrize("which", ["drawn"])
def test_limits_do_not_cross(written: Written, browser: Chrome) -> None:
    field(browser, "slider-ok").send_keys(Keys.END)
    highest = value(browser, "slider-ok")
    assert highest > written.report.limits.ng_above
    assert_shown(browser, written.report, Limits(highest, highest))
    assert texts(browser)["review.count"] == "0"


@BOTH
def test_the_line_is_where_the_limit_is(written: Written, browser: Chrome) -> None:
    bars = browser.execute_script(
        "return [...document.querySelectorAll('figure svg title')].map(t => [t.textContent,"
        "t.parentElement.getBoundingClientRect().left])"
    )
    assert len(bars) > 5
    for title, left in (bars[0], bars[-1]):
        enter(browser, title.split()[1])
        rect = browser.execute_script(
            "const r = document.querySelector('[data-moves=limit-ng]').getBoundingClientRect();"
            "return (r.left + r.right) / 2"
        )
        assert rect == pytest.approx(left, abs=1)


@BOTH
def test_pictures_are_enlarged_by_keyboard(written: Written, browser: Chrome) -> None:
    button = browser.find_element(By.CSS_SELECTOR, ".pictures")
    dialog = field(browser, "enlarged")
    assert not dialog.is_displayed()
    button.send_keys(Keys.ENTER)
    assert dialog.is_displayed()
    name = dialog.find_element(By.TAG_NAME, "p").text
    assert name in {card.name for card in written.report.cards}
    assert len(dialog.find_elements(By.TAG_NAME, "img")) in (2, 3)
    browser.switch_to.active_element.send_keys(Keys.ESCAPE)
    assert not dialog.is_displayed()
    assert browser.switch_to.active_element == button


@pytest.mark.parametrize("which", ["drawn"])
def test_without_its_script_the_page_shows_what_is_in_force(written: Written) -> None:
    text = written.page.read_text(encoding="utf-8")
    still = written.page.with_name("still.html")
    still.write_text(text.replace("script-src 'sha256-", "script-src 'sha256-0"), encoding="utf-8")
    with opened(still) as browser:
        field(browser, "slider-ng").send_keys(Keys.HOME)
        assert_shown(browser, written.report, written.report.limits)
        assert "Content Security Policy" in str(complaints(browser))
