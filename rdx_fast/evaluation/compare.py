"""Compares Detectors on the same images, with confidence intervals."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rdx_fast.cpu import usable_cores
from rdx_fast.evaluation.metrics import auroc
from rdx_fast.evaluation.scored import ScoredSet

RESAMPLES = 2000
CONFIDENCE = 0.95
_CELL_BITS = 16
_BINS = 4096

Floats = NDArray[np.float64]


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
    counts = _resamples(labels, np.random.default_rng(seed))
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
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.nanpercentile(other[1] - first[1], (tail, 100 - tail))
    return Difference(figure, baseline, name, other[0] - first[0], float(low), float(high))


def _resamples(labels: NDArray[np.bool_], rng: np.random.Generator) -> Floats:
    """How often each image is drawn, float64 [RESAMPLES, n]."""
    counts = np.zeros((RESAMPLES, len(labels)))
    for kind in (labels, ~labels):
        n = int(kind.sum())
        counts[:, kind] = rng.multinomial(n, np.full(n, 1 / n), RESAMPLES)
    return counts


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
    def bits(values: NDArray[np.float32]) -> NDArray[np.int32]:
        """Integers in the order of the values. Only rounding makes a map negative."""
        return np.maximum(values, 0).view(np.int32)

    extremes = [min(m.min() for m in scored.maps), max(m.max() for m in scored.maps)]
    low, high = bits(np.array(extremes, np.float32)).tolist()
    shift = max(0, (high - low).bit_length() - _CELL_BITS)

    def cells_of(values: NDArray[np.float32]) -> NDArray[np.uint16]:
        return ((bits(values) - low) >> shift).astype(np.uint16)

    def histograms(
        cells: NDArray[np.uint16], mask: NDArray[np.bool_]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        defective, every = (
            np.bincount(bin_of[kind], minlength=_BINS) for kind in (cells[mask], cells.ravel())
        )
        return defective, every - defective

    with ThreadPoolExecutor(usable_cores()) as pool:
        cells = list(pool.map(cells_of, scored.maps))
        total = sum(np.bincount(one.ravel(), minlength=2**_CELL_BITS) for one in cells)
        below = np.cumsum(total) - total
        bin_of = below * _BINS // int(np.sum(total))
        found = list(pool.map(histograms, cells, scored.masks))
    defective, normal = np.array(found, float).swapaxes(0, 1)
    beaten = np.cumsum(normal, axis=1) - 0.5 * normal
    return defective @ beaten.T, defective.sum(axis=1), normal.sum(axis=1)
