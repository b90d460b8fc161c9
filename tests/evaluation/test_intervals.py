"""Confidence intervals, and the curve and bootstrap of the per-region overlap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from rdx_fast.datasets import LabelledImage
from rdx_fast.evaluation import ScoredSet, resampling
from rdx_fast.evaluation.intervals import Z, aupro_interval, auroc_interval, rate_interval
from rdx_fast.evaluation.pixels import pixel_figures
from rdx_fast.evaluation.pro import overlaps_by_image
from rdx_fast.evaluation.resampling import binned

LIMIT = 0.3


@given(st.integers(1, 500), st.data())
def test_rates_at_the_ends_deviate_by_as_many_deviations(of: int, data: st.DataObject) -> None:
    count = data.draw(st.integers(0, of))
    low, high = rate_interval(count, of)
    for rate, end in ((low, 0.0), (high, 1.0)):
        if count / of == end:  # the interval ends where rates end
            assert rate == end
        else:
            deviation = Z * np.sqrt(rate * (1 - rate) / of)
            assert abs(count / of - rate) == pytest.approx(deviation, rel=1e-6)


@given(st.integers(1, 200), st.integers(1, 200), st.data())
def test_an_interval_of_auroc(good: int, defective: int, data: st.DataObject) -> None:
    area = data.draw(st.integers(0, 2 * good * defective)) / (2 * good * defective)
    low, high = auroc_interval(area, good, defective)
    assert 0 <= low <= area <= high <= 1
    assert low < high
    mirrored = auroc_interval(1 - area, good, defective)
    assert (1 - high, 1 - low) == pytest.approx(mirrored, abs=1e-6)
    more = auroc_interval(area, 4 * good, 4 * defective)
    assert low <= more.low <= more.high <= high


def test_intervals_of_auroc_cover_the_true_area() -> None:
    """About as often as they say: of normal scores, whose true area is known."""
    rng = np.random.default_rng(0)
    labels = np.arange(50) >= 30
    true = norm.cdf(2 / np.sqrt(2))
    covered = []
    for _ in range(300):
        scores = rng.normal(size=50) + 2 * labels
        area = (scores[labels, None] > scores[~labels]).mean()
        low, high = auroc_interval(area, 30, 20)
        covered.append(low <= true <= high)
    assert 0.92 < np.mean(covered) < 0.99


def scored_set(levels: int, seed: int) -> ScoredSet:
    """Four good and six defective images, whose maps have few different values."""
    rng = np.random.default_rng(seed)
    masks = [np.zeros((12, 15), bool) for _ in range(10)]
    for mask in masks[4:]:
        mask[2:5, 3:9] = True
        mask[8 : rng.integers(9, 12), 1:3] = True
    maps = [(1 + rng.integers(0, levels, m.shape) + levels // 3 * m) for m in masks]
    images = [
        LabelledImage(Path(f"{i}.png"), "dent" if i >= 4 else "good", None) for i in range(10)
    ]
    scores = rng.random(10).astype(np.float32)
    verdicts = ["NG" if score > 0.5 else "OK" for score in scores]
    maps = [m.astype(np.float32) for m in maps]
    return ScoredSet("", "", 0.5, images, scores, verdicts, maps, masks)


def repeated(scored: ScoredSet, counts: Sequence[int]) -> float:
    """AUPRO as ``evaluate`` computes it, of a set in which images occur so often."""
    index = np.repeat(np.arange(len(counts)), counts)
    types = [i.defect_type if i.is_defective else None for i in scored.images]
    masks, maps, types = ([of[i] for i in index] for of in (scored.masks, scored.maps, types))
    figures, _ = pixel_figures(masks, maps, types, LIMIT)
    assert figures is not None
    return figures.aupro


@given(st.integers(0, 1000), st.lists(st.integers(0, 3), min_size=9, max_size=9))
def test_aupro_of_resamples_is_that_of_the_set_they_are(seed: int, counts: list[int]) -> None:
    scored = scored_set(20, seed)
    drawn = [*counts, 1]
    found = overlaps_by_image(scored).aupro(np.array([np.ones(10), drawn]), LIMIT)
    assert found[0] == pytest.approx(repeated(scored, [1] * 10), abs=1e-9)
    assert found[1] == pytest.approx(repeated(scored, drawn), abs=1e-9)


def test_the_curve_is_the_share_above_each_value() -> None:
    scored = scored_set(20, seed=3)
    curve = overlaps_by_image(scored).curve()
    outside = np.concatenate([m[~k] for m, k in zip(scored.maps, scored.masks, strict=True)])
    for value, fpr in zip(curve.values, curve.fpr, strict=True):
        assert fpr == pytest.approx((outside >= value).mean())
    assert (np.diff(curve.values) <= 0).all()
    assert curve.overlap[-1] == pytest.approx(1)
    nothing = [np.zeros_like(mask) for mask in scored.masks]
    with pytest.raises(ValueError, match="needs pixels inside and outside masks"):
        overlaps_by_image(replace(scored, masks=nothing)).curve()


def test_the_interval_of_aupro_is_about_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resampling, "RESAMPLES", 200)
    scored = scored_set(1000, seed=1)
    overlaps = overlaps_by_image(scored)
    low, high = aupro_interval(overlaps, scored.labels, LIMIT)
    assert low < repeated(scored, [1] * 10) < high
    assert aupro_interval(overlaps, scored.labels, LIMIT) == (low, high)
    alike = replace(scored, maps=scored.maps[:1] * 4 + scored.maps[4:5] * 6)
    alike = replace(alike, masks=scored.masks[:4] + scored.masks[4:5] * 6)
    low, high = aupro_interval(overlaps_by_image(alike), alike.labels, LIMIT)
    assert low == pytest.approx(high, abs=1e-9)  # whatever is drawn


@given(st.integers(0, 1000), st.sampled_from([1, 5, 100_000]))
def test_bins_keep_the_order(seed: int, levels: int) -> None:
    rng = np.random.default_rng(seed)
    maps = [rng.integers(0, levels, (9, 11)).astype(np.float32) / levels for _ in range(3)]
    found = binned(maps)
    values, bins = np.concatenate(maps).ravel(), np.concatenate(found.maps).ravel()
    assert (np.diff(bins[np.argsort(values)].astype(int)) >= 0).all()
    assert (found.lowest[bins] <= values).all()
    above = bins[:, None] < bins
    assert (found.lowest[bins] > values[:, None])[above].all()
