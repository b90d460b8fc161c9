"""Calibration of the limits between OK, REVIEW and NG from scores of good and defective images."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rdx_fast.errors import BundleError
from rdx_fast.limits.limits import RateSpec, ThresholdSpec

Scores = NDArray[np.float64]
_CONFIDENCE = 0.95


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
    scores = np.sort(_checked(good_scores, "good"))
    n = len(scores)
    if not 0 < false_reject_rate < 1:
        raise ValueError(f"false reject rate is {false_reject_rate}: it must be between 0 and 1")
    # Rounded first: (n + 1)(1 - rate) must not exceed an integer by a floating-point error.
    k = min(math.ceil(round((n + 1) * (1 - false_reject_rate), 9)), n)
    return ThresholdSpec(
        value=float(scores[k - 1]),
        method="conformal",
        false_reject_rate=false_reject_rate,
        expected_false_reject_rate=1 - k / (n + 1),
        good_images=n,
    )


def best_f1_threshold(good_scores: ArrayLike, defective_scores: ArrayLike) -> ThresholdSpec:
    """The threshold with the largest F1 score for defective images; of several, the lowest.

    It promises nothing: its rates are those counted on the same images.

    Args:
        good_scores: ``[n]`` float, of good images that were not trained on
        defective_scores: ``[m]`` float

    Raises:
        ValueError: there are no scores of a kind, or a score is not finite
    """
    good, bad = _checked(good_scores, "good"), _checked(defective_scores, "defective")
    levels = np.unique(np.concatenate([good, bad]))
    # Between two scores all thresholds are alike. In float32, as scores are.
    candidates = np.concatenate([[levels[0] / 2], (levels[:-1] + levels[1:]) / 2]).astype(
        np.float32
    )
    found = len(bad) - np.searchsorted(np.sort(bad), candidates, side="right")
    rejected = len(good) - np.searchsorted(np.sort(good), candidates, side="right")
    f1 = 2 * found / (found + rejected + len(bad))
    value = float(candidates[f1.argmax()])
    return ThresholdSpec(value, "best-f1", None, None, len(good), len(bad))


def escape_threshold(
    good_scores: ArrayLike, defective_scores: ArrayLike, escape_rate: float
) -> ThresholdSpec:
    """The highest threshold that lets at most a share of the defective images escape.

    As for good images by ``calibrate_threshold``, a new defective part of the same kinds escapes
    with at most that probability on average.

    Args:
        good_scores: ``[n]`` float, of good images that were not trained on
        defective_scores: ``[m]`` float
        escape_rate: in (0, 1)

    Raises:
        ValueError: there are no scores of a kind, a score is not finite, the rate is outside (0,
            1), or there are too few defective images for it
    """
    good, bad = _checked(good_scores, "good"), _checked(defective_scores, "defective")
    if not 0 < escape_rate < 1:
        raise ValueError(f"escape rate is {escape_rate}: it must be between 0 and 1")
    k = math.floor(round((len(bad) + 1) * escape_rate, 9))  # scores that may lie below
    if k < 1:
        raise ValueError(
            f"{len(bad)} defective images cannot promise an escape rate of {escape_rate:g}, at "
            f"best {1 / (len(bad) + 1):g}: give at least {math.ceil(1 / escape_rate) - 1}, or a "
            f"higher rate"
        )
    below = np.nextafter(np.float32(np.sort(bad)[k - 1]), np.float32(0))
    return ThresholdSpec(float(below), "escape-rate", None, None, len(good), len(bad))


def manual_threshold(value: float, reason: str) -> ThresholdSpec:
    """A threshold that a person set. Raises ``ValueError`` for one that is not positive, or without
    a reason."""
    return ThresholdSpec(value, "manual", None, None, good_images=0, reason=reason.strip())


def share(count: int, images: int) -> RateSpec:
    """A share with its 95 % interval by Clopper and Pearson."""
    from scipy.special import betaincinv  # takes a while, which scoring need not pay

    tail = (1 - _CONFIDENCE) / 2
    low = float(betaincinv(count, images - count + 1, tail)) if count else 0.0
    high = float(betaincinv(count + 1, images - count, 1 - tail)) if count < images else 1.0
    return RateSpec(count, images, low, high)


def p_values(scores: NDArray[np.float32], calibration: NDArray[np.float32]) -> Scores:
    """Conformal p-values: of good parts, at most the share p has a p-value of p or less.

    Args:
        scores: ``[B, R]`` of R regions
        calibration: ``[n, R]`` of good images, sorted in each column

    Returns:
        ``[B]`` float64: the smallest of the regions' p-values, times their number (Bonferroni).
    """
    count, regions = calibration.shape
    if regions == 1:
        below = calibration[:, 0].searchsorted(scores[:, 0])
        return (1 + count - below) / (count + 1)
    smallest = np.ones(len(scores))
    for r in range(regions):
        at_least = count - np.searchsorted(calibration[:, r], scores[:, r], side="left")
        smallest = np.minimum(smallest, (1 + at_least) / (count + 1))
    return np.minimum(smallest * regions, 1.0)


def save_calibration(file: Path, scores: Mapping[str, NDArray[np.float32]]) -> None:
    """Write calibration scores, float32 ``[n, R]`` sorted in each column, by execution."""
    with file.open("wb") as stream:
        np.savez(stream, allow_pickle=False, **scores)


def load_calibration(file: Path) -> dict[str, NDArray[np.float32]]:
    """Read what ``save_calibration`` wrote. Raises ``BundleError`` if it is something else."""
    try:
        with np.load(file, allow_pickle=False) as stored:
            found = {name: stored[name] for name in stored.files}
    except (OSError, ValueError, EOFError, KeyError) as error:
        raise BundleError(f"{file}: the calibration scores cannot be read: {error}") from error
    for name, scores in found.items():
        if scores.dtype != np.float32 or scores.ndim != 2 or not np.isfinite(scores).all():
            raise BundleError(f"{file}: the calibration scores of {name} are not finite [n, R]")
        if (np.diff(scores, axis=0) < 0).any() or not scores.size:
            raise BundleError(f"{file}: the calibration scores of {name} are not sorted")
    return found


def _checked(scores: ArrayLike, kind: str) -> Scores:
    found = np.asarray(scores, np.float64).ravel()
    if not len(found):
        raise ValueError(
            f"no {kind} scores were given: a threshold needs at least one {kind} image"
        )
    if not np.isfinite(found).all():
        raise ValueError(
            f"{kind} scores contain NaN or infinity: the engine that computed them is faulty"
        )
    return found
