"""The page of a report, from a set whose scores are written here."""

from __future__ import annotations

import base64
import hashlib
import itertools
import os
import re
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rdx_fast.datasets import LabelledImage
from rdx_fast.evaluation import BadImage, ScoredSet, evaluate_scored, resampling
from rdx_fast.evaluation.intervals import aupro_interval, auroc_interval, rate_interval
from rdx_fast.evaluation.pro import overlaps_by_image
from rdx_fast.report import Card, Limits, Report, Table, render, write_page
from rdx_fast.report.gallery import arranged, chosen
from rdx_fast.report.shown import Scores

EVIL = "<script>alert('\"&amp;')</script>"
PICTURE = "data:image/webp;base64,AAAA"
REFERENCES = ("src", "href", "xlink:href", "srcset", "data", "poster", "action", "ping")
ONE, TWO = Limits(0.55, 0.55), Limits(0.45, 0.7)


def scored_set(good: int = 18, dents: int = 8, others: int = 6, masked: bool = True) -> ScoredSet:
    """Scores of good and defective images overlap; maps show most of each defect."""
    rng = np.random.default_rng(0)
    types = ["good"] * good + ["dent"] * dents + [EVIL] * others
    images = [LabelledImage(Path(f"set/{of}/{i}.png"), of, None) for i, of in enumerate(types)]
    defective = np.array([of != "good" for of in types])
    scores = rng.normal(0.4 + 0.3 * defective, 0.15).clip(0.1).astype(np.float32)
    masks = [np.zeros((16, 16), bool) for _ in types]
    for mask in masks[good:]:
        mask[3:9, 4:12] = True
    maps = [(rng.random(m.shape) + 0.5 * m).astype(np.float32) for m in masks]
    return ScoredSet(
        f"part {EVIL}",
        "engine",
        0.55,
        images,
        scores,
        ["NG" if score > 0.55 else "OK" for score in scores],
        maps if masked else [],
        masks if masked else [],
        left_out=[BadImage(EVIL, "is no image")],
        timings_ms={name: np.linspace(1, 2, len(types)) for name in ("network", "total")},
    )


def made(scored: ScoredSet, limits: Limits = ONE, gallery: int = 3) -> str:
    cards = [
        Card(i, f"{EVIL}{i}.png", [("frame", PICTURE), ("heat map", PICTURE)])
        for i in chosen(scored, limits, gallery)
    ]
    rows = [("bundle", EVIL), ("data set", EVIL)]
    tables = [Table(EVIL, [(EVIL, EVIL)], (EVIL, EVIL), EVIL), Table("history", [("then", "that")])]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resampling, "RESAMPLES", 50)
        return render(Report(rows, scored, limits, tables, cards, gallery))


class Page(HTMLParser):
    """What a page consists of."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.size = len(text)
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.texts: list[str] = []
        self.code: dict[str, str] = {}
        self.values: dict[str, str] = {}
        self._value: str | None = None
        self._code: str | None = None
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.tags.append((tag, given))
        self._value = given.get("data-value")
        if tag in ("script", "style"):
            self._code = tag + given.get("type", "")

    def handle_data(self, data: str) -> None:
        if self._code is not None:
            self.code[self._code] = data
            return
        self.texts.append(data)
        if self._value is not None:
            assert self.values.setdefault(self._value, data) == data
            self._value = None

    def handle_endtag(self, tag: str) -> None:
        self._value = self._code = None

    def all(self, tag: str, **wanted: str) -> list[dict[str, str]]:
        """Attributes of the elements that have these."""
        return [a for t, a in self.tags if t == tag and wanted.items() <= a.items()]

    def loads(self) -> Iterator[str]:
        """All that a browser might ask for, by whatever attribute, style or call."""
        for tag, attributes in self.tags:
            for name, value in attributes.items():
                if name in REFERENCES:
                    yield value
                yield from re.findall(r"url\(\s*['\"]?([^'\")]*)", value)
                yield from re.findall(r"\w+://.*", value)
            if tag in ("base", "link", "iframe", "object", "embed", "form", "a"):
                yield f"<{tag}>"
        for code in self.code.values():
            yield from re.findall(r"url\(\s*['\"]?([^'\")]*)", code)
            yield from re.findall(r"@import|\w+://|\bimport\b|//# source", code)
            asking = "fetch|XMLHttpRequest|WebSocket|EventSource|sendBeacon|Worker|open|location"
            yield from re.findall(rf"\b(?:{asking})\b", code)


@pytest.fixture(scope="module")
def scored() -> ScoredSet:
    return scored_set()


@pytest.fixture(scope="module")
def page(scored: ScoredSet) -> Page:
    return Page(made(scored))


@pytest.fixture(scope="module")
def with_two(scored: ScoredSet) -> Page:
    return Page(made(scored, TWO))


def test_numbers_are_those_of_evaluate(scored: ScoredSet, page: Page) -> None:
    evaluation = evaluate_scored(scored)
    overall = evaluation.overall
    shown = page.values
    assert shown["escapes.count"] == shown["confusion.defective.OK"] == str(overall.escapes)
    assert shown["false_rejects.count"] == shown["confusion.good.NG"] == str(overall.false_rejects)
    assert 0 < overall.escapes < 14
    assert 0 < overall.false_rejects < 18
    low, high = (100 * end for end in rate_interval(overall.escapes, overall.defective))
    assert shown["escapes.interval"] == f"{low:.1f} to {high:.1f}%"
    for k, figures in enumerate(evaluation.by_type[name] for name in sorted(["dent", EVIL])):
        assert shown[f"type.{k}.OK"] == str(figures.escapes)
        assert shown[f"type.{k}.rate"] == f"{100 * (1 - figures.escapes / figures.defective):.1f}%"
    for figures in (overall, *evaluation.by_type.values()):
        for value in (figures.image_auroc, figures.image_ap, figures.pixel_auroc, figures.aupro):
            assert f"{100 * value:.2f}%" in page.texts
    low, high = (100 * end for end in auroc_interval(overall.image_auroc, 18, 14))
    assert f"95% interval {low:.1f} to {high:.1f}%" in page.texts
    overlaps = overlaps_by_image(scored)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resampling, "RESAMPLES", 50)
        low, high = (100 * end for end in aupro_interval(overlaps, scored.labels, 0.3))
    assert f"95% interval {low:.1f} to {high:.1f}%" in page.texts
    assert "p99, ms" in page.texts
    assert f"{np.percentile(scored.timings_ms['total'], 99):.2f}" in page.texts


def test_two_limits(scored: ScoredSet, page: Page, with_two: Page) -> None:
    assert [a["id"] for a in page.all("input", type="range")] == ["slider-ng"]
    assert [a["id"] for a in with_two.all("input", type="range")] == ["slider-ok", "slider-ng"]
    assert not any("REVIEW" in name for name in page.values)
    good, defective = scored.scores[~scored.labels], scored.scores[scored.labels]
    shown = with_two.values
    assert shown["confusion.good.REVIEW"] == str(((good > 0.45) & (good <= 0.7)).sum())
    assert shown["confusion.defective.OK"] == str((defective <= 0.45).sum())
    assert shown["false_rejects.count"] == str((good > 0.7).sum())
    assert shown["review.count"] == shown["confusion.all.REVIEW"]
    moved = {a["data-moves"] for _, a in with_two.tags if "data-moves" in a}
    assert moved == {f"{chart}-{of}" for chart in ("limit", "roc", "pro") for of in ("ok", "ng")}


def test_nothing_is_loaded(page: Page, with_two: Page) -> None:
    for one in (page, with_two):
        wanted = {load for load in one.loads() if not load.startswith(("#", "data:"))}
        assert wanted == set()
        ids = {a["id"] for _, a in one.tags if "id" in a}
        references = {load[1:] for load in one.loads() if load.startswith("#")}
        assert references <= ids
        assert references


def test_what_would_be_loaded_is_recognised() -> None:
    page = Page(
        '<a href="https://a.example">x</a><img src="b.png"><p style="background: url(c.png)">'
        "<style>@import 'd.css'; b { background: url(e.png) }</style>"
        '<script>fetch("f"); import("g")</script><use xlink:href="h.svg#i"/>'
    )
    found = {load for load in page.loads() if not load.startswith(("#", "data:"))}
    assert found == {
        *("https://a.example", "<a>", "b.png", "c.png", "@import", "e.png", "fetch", "import"),
        "h.svg#i",
    }


def test_only_the_scripts_of_the_report_run(page: Page) -> None:
    (policy,) = page.all("meta", **{"http-equiv": "Content-Security-Policy"})
    rules = dict(rule.strip().split(" ", 1) for rule in policy["content"].split(";"))
    assert rules["default-src"] == "'none'"
    digest = base64.b64encode(hashlib.sha256(page.code["script"].encode()).digest()).decode()
    assert rules["script-src"] == f"'sha256-{digest}'"
    assert not [name for _, a in page.tags for name in a if name.startswith("on")]


def test_texts_are_escaped(page: Page) -> None:
    assert [a.get("type") for a in page.all("script")] == ["application/json", None]
    assert len([text for text in page.texts if EVIL in text]) > 20
    assert any(EVIL in a["alt"] for a in page.all("img"))
    assert "<" not in page.code["scriptapplication/json"]


def test_a_screen_reader_finds_names(page: Page, with_two: Page) -> None:
    for one in (page, with_two):
        ids = [a["id"] for _, a in one.tags if "id" in a]
        assert len(set(ids)) == len(ids)
        assert all(a["alt"] for a in one.all("img"))
        assert all(a.get("aria-label") for a in one.all("svg", role="img"))
        labels = {a["for"] for a in one.all("label")}
        for field in one.all("input"):
            assert field["id"] in labels or field["aria-label"]
        named = [a["aria-labelledby"] for a in one.all("section") if "aria-labelledby" in a]
        assert set(named) <= set(ids)
        levels = [int(tag[1]) for tag, _ in one.tags if re.fullmatch("h[1-6]", tag)]
        assert levels[0] == 1
        assert all(b <= a + 1 for a, b in itertools.pairwise(levels))


def test_what_cannot_be_computed_is_left_out(scored: ScoredSet) -> None:
    unmasked = Page(made(replace(scored, maps=[], masks=[])))
    assert any("no masks of its defects: this report has no AUPRO" in t for t in unmasked.texts)
    assert len(unmasked.all("svg", role="img")) == 2
    assert "pro.ng.fpr" not in unmasked.values
    assert "escapes.count" in unmasked.values

    tiny = Page(made(replace(scored, masks=[np.zeros_like(m) for m in scored.masks])))
    assert any("since all defects are smaller: this report has no" in t for t in tiny.texts)
    assert len(tiny.all("svg", role="img")) == 2

    good = Page(made(scored_set(18, 0, 0, masked=False), gallery=0))
    assert any("no defective images: this report has no escapes" in t for t in good.texts)
    assert good.values["false_rejects.count"] == str((scored.scores[:18] > 0.55).sum())
    assert not {name for name in good.values if name.startswith(("escapes", "type", "detected"))}
    assert len(good.all("svg", role="img")) == 1
    assert good.all("img") == []


def test_pictures_are_most_of_a_page(page: Page) -> None:
    """Those here are a few bytes each."""
    assert page.size < 130_000


@given(
    st.lists(st.tuples(st.integers(1, 40), st.booleans()), min_size=2, max_size=30),
    st.integers(1, 40),
    st.integers(0, 10),
)
def test_the_worst_have_pictures_wherever_the_limit_is(
    parts: list[tuple[int, bool]], limit: int, between: int
) -> None:
    types = ["dent" if bad else "good" for _, bad in parts]
    images = [LabelledImage(Path(f"{i}"), of, None) for i, of in enumerate(types)]
    scores = np.array([score for score, _ in parts], np.float32)
    scored = ScoredSet("", "", 20, images, scores, ["OK"] * len(scores), [], [])
    indices = chosen(scored, Limits(20, 20), 3)
    moved = Limits(limit, limit + between)
    places = arranged(scored, moved, indices, 3)
    assert sorted(i for shown in places.values() for i in shown) == indices
    escapes = sorted(s for s, bad in parts if bad and s <= limit)
    assert [scores[i] for i in places["escapes"]] == escapes[:3]
    rejects = sorted((s for s, bad in parts if not bad and s > limit + between), reverse=True)
    assert [scores[i] for i in places["false_rejects"]] == rejects[:3]
    assert all(limit < scores[i] <= limit + between for i in places["review"])
    in_force = arranged(scored, Limits(20, 20), indices, 3)["near"]
    right = [s for s, bad in parts if bad == (s > 20)]
    assert [abs(scores[i] - 20) for i in in_force] == sorted(abs(s - 20) for s in right)[:3]


def test_the_point_of_a_limit_is_that_of_the_maps(scored: ScoredSet) -> None:
    """As near as the few points that the page holds allow."""
    curve = overlaps_by_image(scored).curve()
    kept = Scores.of(scored, curve)
    assert kept.pro is not None
    assert len(kept.pro.values) < len(curve.values) / 4
    for limit in (0.05, 0.4, 0.9, 1.2, 1.45):
        images = [(m > limit, k) for m, k in zip(scored.maps, scored.masks, strict=True)]
        fpr = np.concatenate([above[~k] for above, k in images]).mean()
        overlap = np.mean([above[k].mean() for above, k in images if k.any()])
        assert kept.pro_at(limit) == pytest.approx((fpr, overlap), abs=0.005)
    assert kept.pro_at(2) == (0, 0)


def test_small_scores_are_shown_in_full(scored: ScoredSet, page: Page) -> None:
    shrunk = replace(scored, scores=scored.scores / 1000, threshold=0.00055)
    small = Page(made(shrunk, Limits(0.00055, 0.00055)))
    assert small.values["limit.ng"] == "0.0005500"
    (slider,) = small.all("input", type="range")
    assert float(slider["step"]) < 1e-5
    assert float(slider["min"]) < shrunk.scores.min() < shrunk.scores.max() < float(slider["max"])
    assert small.values["escapes.count"] == page.values["escapes.count"]


def test_limits() -> None:
    limits = Limits(0.5, 1.0)
    scores = np.array([0.4, 0.5, 0.6, 1.0, 1.1], np.float32)
    assert limits.verdicts(scores).tolist() == [0, 0, 1, 1, 2]
    labels = np.array([False, True, True, False, True])
    assert limits.confusion(scores, labels).tolist() == [[1, 1, 0], [1, 1, 1]]
    for wrong in ((0.0, 1.0), (1.0, 0.5), (float("nan"), 1.0), (1.0, float("inf"))):
        with pytest.raises(ValueError, match="wanted positive numbers, the second no less"):
            Limits(*wrong)


def test_a_page_replaces_another_when_it_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "new" / "report.html"
    write_page("old", path)
    assert list(path.parent.iterdir()) == [path]
    write_page("name \udcff of no text, é", path)
    assert path.read_text(encoding="utf-8") == "name \\udcff of no text, é"

    def full(descriptor: int) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space left"):
        write_page("newer", path)
    assert path.read_text(encoding="utf-8").startswith("name")
    assert list(path.parent.iterdir()) == [path]


def test_regions_are_named_as_they_are() -> None:
    """Names of regions come from whoever wrote the recipe."""
    scored = scored_set()
    of = np.arange(len(scored.scores)) % 2
    text = made(replace(scored, regions=[f"{EVIL}0", f"{EVIL}1"], region_of=of, ng_above=0.55))
    assert "<script>alert" not in text
    page = Page(text)
    assert sum(" in " + EVIL in shown for shown in page.texts) == len(
        page.all("li", **{"class": "card"})
    )
    assert any("have limits of their own" in shown for shown in page.texts)
    assert not any("have limits of their own" in shown for shown in Page(made(scored)).texts)


def test_the_legends_explain_every_dot_and_what_is_at_a_limit() -> None:
    for limits in (ONE, TWO):
        text = made(scored_set(), limits)
        for chart in ("roc", "pro"):
            figure = next(
                f
                for f in re.findall("<figure>.*?</figure>", text, re.S)
                if f'data-moves="{chart}-ng"' in f
            )
            dots = re.findall(f'data-moves="{chart}-(ok|ng)"', figure)
            assert re.findall('class="key (ok|ng) dot"', figure) == dots == list(limits.by_name)
        assert (
            "a score at the limit is still OK" in text
            or "a score at the lower limit is still OK" in text
        )
