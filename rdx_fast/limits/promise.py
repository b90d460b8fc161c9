"""What limits are for, and limits that keep it: from scores of good and defective images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from rdx_fast.errors import CalibrationError
from rdx_fast.limits.calibration import (
    best_f1_threshold,
    calibrate_threshold,
    escape_threshold,
    share,
)
from rdx_fast.limits.limits import Limits, ThresholdSpec

Floats = NDArray[np.float32]
# Good images whose score lies further above the median than this many standard deviations (of
# logarithms) are named: of a thousand good parts of one kind, one or two do.
_SUSPICIOUS = 3.0


@dataclass(frozen=True, slots=True)
class Wish:
    """What the limits are for.

    Attributes:
        false_reject_rate: share of good parts that may be NG
        review_rate: share of good parts that may be REVIEW or NG, at least ``false_reject_rate``;
            None for the same, so that nothing is REVIEW
        method: "conformal", from good images alone; "best-f1" or "escape-rate", from defective ones
            too
        escape_rate: share of defective parts that may be OK, for "escape-rate"
        weaker: whether a weaker promise is accepted where there are too few images

    Raises:
        ValueError: a rate is out of range, or rates are in the wrong order
    """

    false_reject_rate: float = 0.02
    review_rate: float | None = None
    method: str = "conformal"
    escape_rate: float | None = None
    weaker: bool = False

    def __post_init__(self) -> None:
        if self.method not in ("conformal", "best-f1", "escape-rate"):
            raise ValueError(f"method is {self.method!r}, wanted conformal, best-f1 or escape-rate")
        if (self.escape_rate is None) == (self.method == "escape-rate"):
            raise ValueError("escape_rate is for the method escape-rate: give both, or neither")
        if self.review_rate is not None and self.method != "conformal":
            raise ValueError(
                f"review_rate is for the method conformal, and the method is {self.method}: leave "
                f"it out"
            )
        for name in ("false_reject_rate", "review_rate", "escape_rate"):
            rate = getattr(self, name)
            if rate is not None and not 0 < rate < 1:
                raise ValueError(f"{name} is {rate}, wanted between 0 and 1")
        if self.review_rate is not None and self.review_rate < self.false_reject_rate:
            raise ValueError(
                f"review_rate is {self.review_rate:g} and false_reject_rate "
                f"{self.false_reject_rate:g}: what is NG counts in both, so the first must not be "
                f"smaller"
            )


def images_needed(wish: Wish, regions: int) -> int:
    """How many good images can promise what is wanted of so many regions together."""
    return math.ceil(round(regions / wish.false_reject_rate, 9)) - 1


def check_promise(good: int, wish: Wish, regions: int) -> None:
    """Raises ``CalibrationError`` if so many good images cannot promise what is wanted."""
    best = regions / (good + 1)
    if wish.method == "best-f1" or wish.weaker or best <= wish.false_reject_rate * (1 + 1e-9):
        return
    shared = f" in {regions} regions" if regions > 1 else ""
    images = "1 good image" if good == 1 else f"{good} good images"
    raise CalibrationError(
        f"{images} cannot promise at most {wish.false_reject_rate:.3%} false rejects{shared}; the "
        f"best promise is {best:.3%}: give at least {images_needed(wish, regions)} good "
        f"images, ask for a higher rate, or accept the weaker promise (weaker=True, --weaker)"
    )


def limits_from_scores(
    regions: Sequence[str], good: Floats, defective: Floats, wish: Wish
) -> tuple[Limits, ...]:
    """The limits of each region from scores of calibration images.

    Rates are of parts. Of R regions each gets the R-th part of a rate, so that together they keep
    it. Where defective images decide, all regions' limits of good images are raised or lowered by
    one factor.

    Args:
        regions: names of the R regions
        good: ``[n, R]`` of good images
        defective: ``[m, R]`` of defective images; m may be 0
        wish: what the limits are for

    Raises:
        CalibrationError: there are too few images for what is wanted
    """
    columns = range(len(regions))
    ng = [calibrate_threshold(good[:, r], wish.false_reject_rate / len(regions)) for r in columns]
    ok = ng
    if wish.review_rate is not None:
        ok = [calibrate_threshold(good[:, r], wish.review_rate / len(regions)) for r in columns]
    if wish.method != "conformal":
        # Of one region the scores themselves, so that nothing is rounded.
        unit = np.array([t.value for t in ng]) if len(regions) > 1 else np.ones(1)
        of_good, of_defective = ((scores / unit).max(axis=1) for scores in (good, defective))
        try:
            if wish.method == "best-f1":
                found = best_f1_threshold(of_good, of_defective)
            else:
                assert wish.escape_rate is not None
                found = escape_threshold(of_good, of_defective, wish.escape_rate)
        except ValueError as error:
            raise CalibrationError(str(error)) from error
        values = (found.value * unit).astype(np.float32)
        if wish.method == "escape-rate" and len(regions) > 1:
            # One step down, so that rounding reaches no score that must exceed it.
            values = np.nextafter(values, np.float32(0))
        ok = [replace(found, value=float(value)) for value in values]
        if wish.method == "best-f1":
            ng = ok
        elif any(o.value > n.value for o, n in zip(ok, ng, strict=True)):
            # Good and defective are so far apart that one limit keeps both promises.
            ok = ng
    ok, ng = _counted(ok, good, defective), _counted(ng, good, defective)
    return tuple(Limits(*of) for of in zip(regions, ok, ng, strict=True))


def suspicious_scores(good: Floats) -> dict[int, float]:
    """Scores of good images that do not fit the others': a defective part may be among them.

    Args:
        good: ``[n, R]``

    Returns:
        by index of the image, how many standard deviations it lies above the median, of logarithms;
        the standard deviation is that of what lies between the median and the 84 % quantile
    """
    logs = np.log(np.maximum(good, np.finfo(np.float32).tiny))
    median = np.median(logs, axis=0)
    spread = np.maximum(np.quantile(logs, 0.84, axis=0) - median, 1e-3)
    factor = ((logs - median) / spread).max(axis=1)
    return {int(i): float(factor[i]) for i in np.flatnonzero(factor > _SUSPICIOUS)}


def _counted(
    thresholds: Sequence[ThresholdSpec], good: Floats, defective: Floats
) -> list[ThresholdSpec]:
    """The thresholds with counts of good parts above one of them, and defective ones above none."""
    values = np.array([t.value for t in thresholds], np.float32)
    rejected = share(int((good > values).any(axis=1).sum()), len(good))
    escapes = None
    if len(defective):
        escapes = share(int((defective <= values).all(axis=1).sum()), len(defective))
    return [
        replace(t, false_rejects=rejected, escapes=escapes, defective_images=len(defective))
        for t in thresholds
    ]
