"""The numbers of a report that follow from its limits.

The page's script (``templates/report.js``) computes the same texts when a limit is moved.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal

import numpy as np
from numpy.typing import NDArray

from rdx_fast.evaluation import ScoredSet
from rdx_fast.evaluation.intervals import Interval, rate_interval
from rdx_fast.evaluation.pro import ProCurve
from rdx_fast.report.limits import VERDICTS, Limits


@dataclass(frozen=True, slots=True)
class Scores:
    """What the numbers are computed from.

    Attributes:
        scores: float32 [n]
        labels: bool [n], True for defective
        types: names of the defect types
        type_of: int64 [n], index into ``types``; -1 for a good image
        pro: a few points of the curve; None if it cannot be computed
    """

    scores: NDArray[np.float32]
    labels: NDArray[np.bool_]
    types: Sequence[str]
    type_of: NDArray[np.int64]
    pro: ProCurve | None

    @classmethod
    def of(cls, scored: ScoredSet, pro: ProCurve | None) -> Scores:
        """The scores of a test set."""
        types = sorted({i.defect_type for i in scored.images if i.is_defective})
        index = {name: k for k, name in enumerate(types)}
        type_of = np.array(
            [index[i.defect_type] if i.is_defective else -1 for i in scored.images], np.int64
        )
        return cls(scored.scores, scored.labels, types, type_of, pro)

    def shown(self, limits: Limits) -> dict[str, str]:
        """The texts of all numbers at these limits, by name."""
        confusion = limits.confusion(self.scores, self.labels)
        good, defective = map(int, confusion.sum(axis=1))
        found = {
            "limit.ok": rounded(limits.ok_below, 4),
            "limit.ng": rounded(limits.ng_above, 4),
            **_rate("false_rejects", int(confusion[0, 2]), good),
            **_rate("escapes", int(confusion[1, 0]), defective),
            **_rate("detected", int(confusion[1, 2]), defective),
            **_rate("review", int(confusion[:, 1].sum()), good + defective),
        }
        for column, verdict in enumerate(VERDICTS):
            found[f"confusion.good.{verdict}"] = str(confusion[0, column])
            found[f"confusion.defective.{verdict}"] = str(confusion[1, column])
            found[f"confusion.all.{verdict}"] = str(confusion[:, column].sum())
        for k in range(len(self.types)):
            chosen = self.type_of == k
            counts = limits.confusion(self.scores[chosen], self.labels[chosen])[1]
            for verdict, count in zip(VERDICTS, counts, strict=True):
                found[f"type.{k}.{verdict}"] = str(count)
            found[f"type.{k}.rate"] = percent(counts[2] / counts.sum())
        if self.pro is not None:
            fpr, overlap = pro_at(self.pro, limits.ng_above)
            found |= {"pro.fpr": percent(fpr, 2), "pro.overlap": percent(overlap)}
        return found


def pro_at(curve: ProCurve, limit: float) -> tuple[float, float]:
    """The curve's point for map values above a limit: false-positive rate and overlap."""
    count = int(np.count_nonzero(curve.values > limit))
    return (float(curve.fpr[count - 1]), float(curve.overlap[count - 1])) if count else (0.0, 0.0)


def _rate(name: str, count: int, of: int) -> dict[str, str]:
    if not of:
        return {}
    interval = spanned(rate_interval(count, of))
    rate = percent(count / of)
    return {f"{name}.count": str(count), f"{name}.rate": rate, f"{name}.interval": interval}


def rounded(value: float, digits: int) -> str:
    """A number as text, halves rounded up, as ``toFixed`` of a browser does."""
    return str(Decimal(value).quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP))


def percent(share: float, digits: int = 1) -> str:
    """A share as percent."""
    return f"{rounded(100 * float(share), digits)}%"


def spanned(interval: Interval, digits: int = 1) -> str:
    """An interval of shares as percent."""
    return f"{rounded(100 * interval.low, digits)} to {percent(interval.high, digits)}"
