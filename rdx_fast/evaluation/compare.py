"""Compares Detectors on the same images, with confidence intervals."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rdx_fast.cpu import usable_cores
from rdx_fast.evaluation.metrics import auroc
from rdx_fast.evaluation.resampling import BINS, Floats, binned, middle, resamples
from rdx_fast.evaluation.scored import ScoredSet


@dataclass(frozen=True, slots=True)
class Difference:
    """The difference of a metric between two bundles.

    The confidence interval is from a paired bootstrap over the images: both bundles use the same
    resamples.

    Attributes:
        figure: the metric, "image AUROC" or "pixel AUROC"
        baseline: name of the first bundle
        name: name of the other bundle
        difference: AUROC of ``name`` minus that of ``baseline``
        low: lower end of the 95% confidence interval of the difference
        high: upper end of that interval
    """

    figure: str
    baseline: str
    name: str
    difference: float
    low: float
    high: float


def compare(baseline: ScoredSet, *others: ScoredSet, seed: int = 0) -> list[Difference]:
    """Compute the differences in image AUROC and, where there are masks, in pixel AUROC.

    Good and defective images are resampled separately, ``RESAMPLES`` times. For the interval of
    the pixel AUROC, map values are rounded to at most 65536 values at about equal ratios, and these
    to about 4096 quantiles; resamples without a defective pixel, for which there is none, are left
    out.

    Args:
        baseline: test set scored by the first bundle
        others: the same images scored by other bundles
        seed: seed of the bootstrap

    Returns:
        For each of the others the difference in image AUROC and, where both have masks that mark
        pixels, that in pixel AUROC.

    Raises:
        ValueError: one did not score the images of the baseline
    """
    paths = [image.path for image in baseline.images]
    for other in others:
        if [image.path for image in other.images] != paths:
            raise ValueError(
                f"{baseline.name} and {other.name} did not score the same images: score both on "
                f"one test set"
            )
    labels = baseline.labels
    counts = resamples(labels, np.random.default_rng(seed))
    first, *rest = (_figures(scored, labels, counts) for scored in (baseline, *others))
    return [
        _difference(figure, baseline.name, other.name, first[figure], found[figure])
        for other, found in zip(others, rest, strict=True)
        for figure in first
        if figure in found
    ]


def _figures(
    scored: ScoredSet, labels: NDArray[np.bool_], counts: Floats
) -> dict[str, tuple[float, Floats]]:
    """By name, the AUROC of the set and those of the resamples, [RESAMPLES]."""
    images = _resampled_auroc(_image_wins(scored.scores, labels), counts)
    found = {"image AUROC": (auroc(labels, scored.scores), images)}
    figures = scored.pixel_figures[0]
    if figures is not None:
        pixels = _resampled_auroc(_pixel_wins(scored), counts)
        found["pixel AUROC"] = (figures.pixel_auroc, pixels)
    return found


def _difference(
    figure: str, baseline: str, name: str, first: tuple[float, Floats], other: tuple[float, Floats]
) -> Difference:
    return Difference(figure, baseline, name, other[0] - first[0], *middle(other[1] - first[1]))


def _resampled_auroc(wins: tuple[Floats, Floats, Floats], counts: Floats) -> Floats:
    """AUROC of each resample, [RESAMPLES]; not a number where no value is defective or normal.

    Args:
        wins: how often a defective value of image i exceeds a normal value of image k, ties counted
            half, [n, n]; and the number of defective and of normal values of each image, [n]
        counts: how often each image is drawn, [RESAMPLES, n]
    """
    won, defective, normal = wins
    pairs = (counts @ defective) * (counts @ normal)
    pairs[pairs == 0] = np.nan
    return np.sum((counts @ won) * counts, axis=1) / pairs


def _image_wins(
    scores: NDArray[np.float32], labels: NDArray[np.bool_]
) -> tuple[Floats, Floats, Floats]:
    above = (scores[:, None] > scores) + 0.5 * (scores[:, None] == scores)
    return above * np.outer(labels, ~labels), labels.astype(float), (~labels).astype(float)


def _pixel_wins(scored: ScoredSet) -> tuple[Floats, Floats, Floats]:
    def histograms(
        bins: NDArray[np.uint16], mask: NDArray[np.bool_]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        defective, every = (
            np.bincount(kind, minlength=BINS) for kind in (bins[mask], bins.ravel())
        )
        return defective, every - defective

    with ThreadPoolExecutor(usable_cores()) as pool:
        found = list(pool.map(histograms, binned(scored.maps).maps, scored.masks))
    defective, normal = np.array(found, float).swapaxes(0, 1)
    beaten = np.cumsum(normal, axis=1) - 0.5 * normal
    return defective @ beaten.T, defective.sum(axis=1), normal.sum(axis=1)
