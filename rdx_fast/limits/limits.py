"""Limits between OK, REVIEW and NG, with how they came about and what they promise."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

OK, REVIEW, NG = VERDICTS = ("OK", "REVIEW", "NG")  # from good to bad
METHODS = ("conformal", "best-f1", "escape-rate", "manual")
WHOLE = "all"  # name of the region of a recipe that states none


@dataclass(frozen=True, slots=True)
class RateSpec:
    """A share that was counted, with its 95 % interval (Clopper and Pearson).

    Attributes:
        count: images that were counted
        images: of so many
        low: lower end of the interval of the share
        high: upper end

    Raises:
        ValueError: a value is out of range
    """

    count: int
    images: int
    low: float
    high: float

    def __post_init__(self) -> None:
        if not 0 <= self.count <= self.images or self.images < 1:
            raise ValueError(f"a rate is {self.count} of {self.images} images, which cannot be")
        if not 0 <= self.low <= self.rate <= self.high <= 1:
            raise ValueError(f"the interval {self.low} to {self.high} does not hold {self.rate}")

    @property
    def rate(self) -> float:
        """The share, 0 to 1."""
        return self.count / self.images


@dataclass(frozen=True, slots=True)
class ThresholdSpec:
    """One limit of the scores.

    Attributes:
        value: scores above it exceed the limit
        method: "conformal" (from good images alone), "best-f1" or "escape-rate" (from defective
            ones too) or "manual"
        false_reject_rate: share of good parts that may exceed this limit, as requested: of R
            regions that is the R-th part of the rate that was requested for parts. None unless
            ``method`` is "conformal"
        expected_false_reject_rate: share of good parts that exceeds this limit on average, at most,
            as ``good_images`` images can guarantee; None likewise. For parts that exceed the limit
            of any region see ``rates_of_parts``
        good_images: number of good images that it was calibrated on; 0 for "manual"
        defective_images: number of defective ones
        false_rejects: good images that exceed this limit of any region, counted when all regions
            were calibrated; None where none were
        escapes: defective images that exceed this limit of no region, counted likewise; None where
            none were
        reason: why it was set by hand; empty unless ``method`` is "manual"

    Raises:
        ValueError: a value is out of range, or values contradict each other
    """

    value: float
    method: str
    false_reject_rate: float | None
    expected_false_reject_rate: float | None
    good_images: int
    defective_images: int = 0
    false_rejects: RateSpec | None = None
    escapes: RateSpec | None = None
    reason: str = ""

    def __post_init__(self) -> None:
        # Written so that NaN fails. Scores are positive.
        if not 0 < self.value < math.inf:
            raise ValueError(f"threshold {self.value} is not a positive number")
        if self.method not in METHODS:
            raise ValueError(
                f"method of a threshold is {self.method!r}, wanted one of {', '.join(METHODS)}"
            )
        promises = self.method == "conformal"
        for name in ("false_reject_rate", "expected_false_reject_rate"):
            rate = getattr(self, name)
            if (rate is not None) != promises:
                raise ValueError(f"{name} of a threshold by {self.method} is {rate}")
            if rate is not None and not 0 < rate < 1:
                raise ValueError(f"{name} of a threshold is {rate}, wanted between 0 and 1")
        manual = self.method == "manual"
        if self.good_images < (0 if manual else 1) or self.defective_images < 0:
            raise ValueError(
                f"good_images of a threshold is {self.good_images} and defective_images "
                f"{self.defective_images}, wanted at least {0 if manual else 1} and 0"
            )
        if manual and not self.reason:
            raise ValueError("a threshold that was set by hand states no reason")


class PartRates(NamedTuple):
    """Rates of parts, which have several regions.

    Attributes:
        false_reject_rate: share of good parts that may exceed the limit of any region, as requested
        expected_false_reject_rate: share that does on average, at most
        false_rejects: good images that do, counted
        escapes: defective images that exceed no limit, counted
    """

    false_reject_rate: float | None
    expected_false_reject_rate: float | None
    false_rejects: RateSpec | None
    escapes: RateSpec | None


def rates_of_parts(thresholds: Sequence[ThresholdSpec]) -> PartRates:
    """What limits of one kind mean together, ``ok_below`` or ``ng_above`` of all regions.

    Rates of regions add up at most. A rate is None if one region's limit does not state it, and a
    count if the regions' differ, since one was set later than another.
    """

    def total(name: str) -> float | None:
        rates = [getattr(t, name) for t in thresholds]
        return None if None in rates else min(1.0, sum(rates))

    def counted(name: str) -> RateSpec | None:
        counts = {getattr(t, name) for t in thresholds}
        return counts.pop() if len(counts) == 1 else None

    return PartRates(
        false_reject_rate=total("false_reject_rate"),
        expected_false_reject_rate=total("expected_false_reject_rate"),
        false_rejects=counted("false_rejects"),
        escapes=counted("escapes"),
    )


@dataclass(frozen=True, slots=True)
class Limits:
    """The two limits of one region: OK up to ``ok_below``, NG above ``ng_above``, else REVIEW.

    Attributes:
        region: name of the region
        ok_below: scores up to it are OK
        ng_above: scores above it are NG

    Raises:
        ValueError: the limits are in the wrong order
    """

    region: str
    ok_below: ThresholdSpec
    ng_above: ThresholdSpec

    def __post_init__(self) -> None:
        if self.ok_below.value > self.ng_above.value:
            raise ValueError(
                f"limits of region {self.region!r} are in the wrong order: OK below "
                f"{self.ok_below.value:g}, NG above {self.ng_above.value:g}: the first must not "
                f"exceed the second"
            )

    @property
    def named(self) -> str | None:
        """Name of the region; None where the recipe states none."""
        return None if self.region == WHOLE else self.region

    @classmethod
    def single(cls, threshold: ThresholdSpec, region: str = WHOLE) -> Limits:
        """One threshold for both limits, so that nothing is for REVIEW."""
        return cls(region, threshold, threshold)
