"""The threshold between OK and NG, from the scores of good images alone."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from rdx_fast.manifest import ThresholdSpec


def calibrate_threshold(good_scores: ArrayLike, false_reject_rate: float = 0.02) -> ThresholdSpec:
    """Split-conformal threshold: a new good part exceeds it with at most the given probability.

    ``good_scores: [n] float``, of good images that were not trained on; ``false_reject_rate``: in
    (0, 1). With ``k = ceil((n + 1)(1 - rate))`` the threshold is the k-th smallest score, and a
    good part from the same process exceeds it with probability ``1 - k / (n + 1)`` on average.
    Fewer than ``1 / rate - 1`` images cannot promise so low a rate: then the largest score is
    taken, and ``expected_false_reject_rate`` says what it is worth.

    Raises ``ValueError`` for no scores, non-finite scores or a rate outside (0, 1).
    """
    scores = np.sort(np.asarray(good_scores, np.float64).ravel())
    n = len(scores)
    if n == 0:
        raise ValueError("no good scores were given: a threshold needs at least one good image")
    if not np.isfinite(scores).all():
        raise ValueError("good scores hold NaN or infinity: the engine that made them is faulty")
    if not 0 < false_reject_rate < 1:
        raise ValueError(f"false reject rate is {false_reject_rate}: it must be between 0 and 1")
    # Rounded first: (n + 1)(1 - rate) must not pass a whole number by a floating-point hair.
    k = min(math.ceil(round((n + 1) * (1 - false_reject_rate), 9)), n)
    return ThresholdSpec(
        value=float(scores[k - 1]),
        false_reject_rate=false_reject_rate,
        expected_false_reject_rate=1 - k / (n + 1),
        good_images=n,
    )
