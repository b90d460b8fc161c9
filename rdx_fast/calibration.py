"""Calibration of the threshold between OK and NG from the scores of good images."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from rdx_fast.manifest import ThresholdSpec


def calibrate_threshold(good_scores: ArrayLike, false_reject_rate: float = 0.02) -> ThresholdSpec:
    """Split-conformal threshold: a new good part exceeds it with at most the given probability.

    With ``k = ceil((n + 1)(1 - rate))`` the threshold is the k-th smallest of n scores, and a good
    part from the same process exceeds it with probability ``1 - k / (n + 1)`` on average. At least
    ``1 / rate - 1`` images are needed to guarantee the rate. With fewer, the threshold is the
    largest score, and ``expected_false_reject_rate`` gives the rate that it guarantees.

    Args:
        good_scores: ``[n]`` float, of good images that were not trained on
        false_reject_rate: in (0, 1)

    Raises:
        ValueError: there are no scores, a score is not finite, or the rate is outside (0, 1)
    """
    scores = np.sort(np.asarray(good_scores, np.float64).ravel())
    n = len(scores)
    if n == 0:
        raise ValueError("no good scores were given: a threshold needs at least one good image")
    if not np.isfinite(scores).all():
        raise ValueError(
            "good scores contain NaN or infinity: the engine that computed them is faulty"
        )
    if not 0 < false_reject_rate < 1:
        raise ValueError(f"false reject rate is {false_reject_rate}: it must be between 0 and 1")
    # Rounded first: (n + 1)(1 - rate) must not exceed an integer by a floating-point error.
    k = min(math.ceil(round((n + 1) * (1 - false_reject_rate), 9)), n)
    return ThresholdSpec(
        value=float(scores[k - 1]),
        false_reject_rate=false_reject_rate,
        expected_false_reject_rate=1 - k / (n + 1),
        good_images=n,
    )
