"""Compares two Detectors on the same images, with confidence intervals."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from rdx_fast.evaluation.metrics import auroc
from rdx_fast.evaluation.scored import ScoredSet

RESAMPLES = 2000
CONFIDENCE = 0.95
_BINS = 4096
_SAMPLE = 2**20

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


def compare(baseline: ScoredSet, other: ScoredSet, seed: int = 0) -> list[Difference]:
    """Compute the differences in image AUROC and, where there are masks, in pixel AUROC.

    Good and defective images are resampled separately, ``RESAMPLES`` times. For the interval of
    the pixel AUROC, map values are rounded to 4096 quantiles, which are those of a sample of about
    a million values of each bundle's maps; resamples without a defective pixel, for which there is
    none, are left out.

    Args:
        baseline: test set scored by the first bundle
        other: the same images scored by the other bundle
        seed: seed of the bootstrap

    Returns:
        The difference in image AUROC and, where both have masks that mark pixels, that in pixel
        AUROC.

    Raises:
        ValueError: the two did not score the same images
    """
    if [i.path for i in baseline.images] != [i.path for i in other.images]:
        raise ValueError("the two did not score the same images: score both on one test set")
    labels = baseline.labels
    counts = _resamples(labels, np.random.default_rng(seed))

    def difference(figure: str, exact: list[float], resampled: list[Floats]) -> Difference:
        tail = 100 * (1 - CONFIDENCE) / 2
        low, high = np.nanpercentile(resampled[1] - resampled[0], (tail, 100 - tail))
        return Difference(
            figure, baseline.name, other.name, exact[1] - exact[0], float(low), float(high)
        )

    both = (baseline, other)
    found = [
        difference(
            "image AUROC",
            [auroc(labels, s.scores) for s in both],
            [_resampled_auroc(_image_wins(s.scores, labels), counts) for s in both],
        )
    ]
    pixels = [figures.pixel_auroc for s in both if (figures := s.pixel_figures[0]) is not None]
    if len(pixels) == len(both):
        found.append(
            difference(
                "pixel AUROC",
                pixels,
                [_resampled_auroc(_pixel_wins(s), counts) for s in both],
            )
        )
    return found


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
    step = sum(m.size for m in scored.maps) // _SAMPLE | 1  # odd, so as to reach every column
    sample = np.sort(np.concatenate([m.ravel()[::step] for m in scored.maps]))
    edges = np.unique(sample[np.arange(1, _BINS) * len(sample) // _BINS])
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        histograms = list(pool.map(partial(_histograms, edges), scored.maps, scored.masks))
    defective, normal = np.array(histograms, float).swapaxes(0, 1)
    below = np.cumsum(normal, axis=1) - 0.5 * normal
    return defective @ below.T, defective.sum(axis=1), normal.sum(axis=1)


def _histograms(
    edges: NDArray[np.float32], values: NDArray[np.float32], mask: NDArray[np.bool_]
) -> list[NDArray[np.int64]]:
    """How many values inside and outside a mask lie between the edges, [len(edges) + 1] each."""
    found = []
    for kind in (values[mask], values[~mask]):
        up_to = np.searchsorted(np.sort(kind), edges, side="right")
        found.append(np.diff(up_to, prepend=0, append=len(kind)))
    return found
