"""Confidence intervals of a test set's figures, for the parts that it does not show."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.stats import binomtest, norm

from rdx_fast.evaluation.pro import Overlaps
from rdx_fast.evaluation.resampling import CONFIDENCE, middle, resamples

Z = float(norm.ppf(0.5 + CONFIDENCE / 2))
_LEAST = 1e-12  # less than the smallest step of an area


class Interval(NamedTuple):
    """The ends of a confidence interval of ``CONFIDENCE``, as shares from 0 to 1."""

    low: float
    high: float


def rate_interval(count: int, of: int) -> Interval:
    """Wilson's interval of a rate.

    Args:
        count: how often it happened
        of: in how many cases, at least 1
    """
    low, high = binomtest(count, of).proportion_ci(CONFIDENCE, method="wilson")
    return Interval(float(low), float(high))


def auroc_interval(auroc: float, good: int, defective: int) -> Interval:
    """Interval of an area under a ROC curve, Newcombe's (2006) method 5.

    Like Wilson's it is not a point where the area is 1, unlike an interval by resampling: all of a
    few parts sorted correctly do not show that all others will be.

    Args:
        auroc: the area, 0 to 1
        good: number of good images, at least 1
        defective: number of defective images, at least 1
    """
    pairs = (good + defective) / 2 - 1

    def beyond(area: float) -> float:
        """Positive where ``auroc`` is outside the interval of a true ``area``."""
        spread = 1 + pairs * ((1 - area) / (2 - area) + area / (1 + area))
        deviation = math.sqrt(area * (1 - area) * spread / (good * defective))
        return abs(area - auroc) - Z * deviation

    # The other root at 0 and at 1, where the deviation is 0 too, is not the end of the interval.
    low = 0.0 if auroc <= _LEAST else brentq(beyond, 0.0, auroc - _LEAST)
    high = 1.0 if auroc >= 1 - _LEAST else brentq(beyond, auroc + _LEAST, 1.0)
    return Interval(float(low), float(high))


def aupro_interval(
    overlaps: Overlaps, labels: NDArray[np.bool_], fpr_limit: float, seed: int = 0
) -> Interval:
    """Interval of AUPRO by a bootstrap over the images, good and defective ones separately.

    Map values are rounded as in ``compare``.

    Args:
        overlaps: of the n images
        labels: bool [n], True for defective
        fpr_limit: largest false-positive rate, as for ``Counts.aupro``
        seed: seed of the bootstrap
    """
    counts = resamples(labels, np.random.default_rng(seed))
    return Interval(*middle(overlaps.aupro(counts, fpr_limit)))
