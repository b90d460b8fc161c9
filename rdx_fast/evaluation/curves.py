"""Areas under the curves of anomaly maps, from counts of pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FPR_LIMIT = 0.3
LEVELS = 200

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Values = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Counts:
    """Pixels at or above each of the n distinct values that occur inside masks, ascending.

    Attributes:
        inside: int64 [n], pixels inside masks at or above the value
        overlap: float64 [n], overlap with regions at or above the value, averaged over all regions
        outside_from: int64 [n], pixels outside masks at or above the value
        outside_above: int64 [n], pixels outside masks above the value
        outside: all pixels outside masks
    """

    inside: Ints
    overlap: Floats
    outside_from: Ints
    outside_above: Ints
    outside: int

    def auroc(self) -> float:
        """Area under the ROC curve."""
        rejected = (self.outside_from + self.outside_above) / 2
        return float(1 - self._at_value() @ rejected / (self.inside[0] * self.outside))

    def average_precision(self) -> float:
        """Average precision."""
        precision = self.inside / (self.inside + self.outside_from)
        return float(self._at_value() @ precision / self.inside[0])

    def best_f1(self) -> float:
        """The largest F1 over all thresholds."""
        return float(np.max(2 * self.inside / (self.inside + self.outside_from + self.inside[0])))

    def aupro(self, fpr_limit: float = FPR_LIMIT) -> float:
        """Area under the per-region-overlap curve, as MVTec AD defines it.

        Over the whole set: at each threshold, the overlap averaged over all connected regions
        (8-neighbourhood) of all masks, against the false-positive rate over all pixels outside the
        masks, integrated from 0 to ``fpr_limit`` and divided by it.

        Args:
            fpr_limit: largest false-positive rate

        Returns:
            AUPRO, 0 to 1.
        """
        # Values whose false-positive rate is beyond the limit do not matter.
        beyond = len(self.overlap) - np.count_nonzero(
            self.outside_above <= fpr_limit * self.outside
        )
        overlap = self.overlap[beyond:][::-1]
        # From the highest value on, two points for each: above it, and at it. The overlap is
        # constant between values.
        fpr, pro = np.ones(2 * len(overlap) + 1), np.zeros(2 * len(overlap) + 1)
        fpr[:-1:2] = self.outside_above[beyond:][::-1] / self.outside
        fpr[1::2] = self.outside_from[beyond:][::-1] / self.outside
        pro[1::2] = overlap
        pro[2::2] = overlap
        # The curve up to the limit; its last point is interpolated.
        within = np.searchsorted(fpr, fpr_limit, side="right")
        at_limit = np.interp(fpr_limit, fpr, pro)
        area = np.trapezoid(np.append(pro[:within], at_limit), np.append(fpr[:within], fpr_limit))
        return float(area / fpr_limit)

    def _at_value(self) -> Ints:
        """int64 [n], pixels inside masks with exactly the value."""
        return -np.diff(self.inside, append=0)


def image_area(
    inside: Values, overlap: Floats, outside: Values, fpr_limit: float = FPR_LIMIT
) -> float:
    """The area of one image in the metric that the RD4AD authors' code reports as PRO.

    At ``LEVELS`` evenly spaced values of the image's map: the overlap averaged over its regions
    against the false-positive rate in that image. The part of the curve below ``fpr_limit`` is
    stretched to end at a rate of 1.

    Args:
        inside: float32 [k], map values inside the mask, k > 0
        overlap: float64 [k], what each adds to the overlap averaged over the regions, in sum 1
        outside: float32 [m], map values outside the mask, ascending
        fpr_limit: largest false-positive rate

    Returns:
        The area, 0 to 1; 1 without values outside. Where no level has a rate between 0 and the
        limit there is no curve to stretch, and it is the overlap at the lowest level without a
        false positive, 0 if there is none.
    """
    if not len(outside):
        return 1.0
    lowest, highest = min(inside.min(), outside[0]), max(inside.max(), outside[-1])
    levels = np.linspace(lowest, highest, LEVELS, endpoint=False)
    fpr = 1 - np.searchsorted(outside, levels, side="right") / len(outside)
    exceeded = np.searchsorted(levels, inside)  # levels below each value
    found = np.bincount(exceeded, weights=overlap, minlength=LEVELS + 1)
    pro = np.cumsum(found[::-1])[-2::-1]
    within = fpr < fpr_limit
    limit = fpr[within].max(initial=0.0)
    if limit == 0:
        return float(pro[within].max(initial=0.0))
    return float(np.trapezoid(pro[within][::-1], fpr[within][::-1]) / limit)
