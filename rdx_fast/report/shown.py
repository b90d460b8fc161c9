"""The numbers of a report that follow from its limits.

The page's script (``templates/report.js``) computes the same texts when a limit is moved.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal

import numpy as np
from numpy.typing import NDArray

from rdx_fast.evaluation import ScoredSet
from rdx_fast.evaluation.intervals import Interval, rate_interval
from rdx_fast.evaluation.pro import ProCurve
from rdx_fast.report.limits import VERDICTS, Limits

_CURVE_POINTS = 400


@dataclass(frozen=True, slots=True)
class Scores:
    """What the numbers are computed from.

    Attributes:
        scores: float32 [n]
        labels: bool [n], True for defective
        types: names of the defect types
        type_of: int64 [n], index into ``types``; -1 for a good image
        pro: some points of the curve; None if it cannot be computed
    """

    scores: NDArray[np.float32]
    labels: NDArray[np.bool_]
    types: Sequence[str]
    type_of: NDArray[np.int64]
    pro: ProCurve | None

    @property
    def digits(self) -> int:
        """Decimals to show of scores and limits: four, more where scores are small."""
        return max(4, 3 - math.floor(math.log10(max(float(self.scores.max()), 1e-9))))

    @classmethod
    def of(cls, scored: ScoredSet, pro: ProCurve | None) -> Scores:
        """The scores of a test set, and its curve, of which some points are kept."""
        types = sorted({i.defect_type for i in scored.images if i.is_defective})
        index = {name: k for k, name in enumerate(types)}
        type_of = np.array(
            [index[i.defect_type] if i.is_defective else -1 for i in scored.images], np.int64
        )
        kept = None if pro is None else _thinned(pro)
        return cls(scored.scores, scored.labels, types, type_of, kept)

    def shown(self, limits: Limits) -> dict[str, str]:
        """The texts of all numbers at these limits, by name."""
        confusion = limits.confusion(self.scores, self.labels)
        good, defective = map(int, confusion.sum(axis=1))
        found = {
            "limit.ok": rounded(limits.ok_below, self.digits),
            "limit.ng": rounded(limits.ng_above, self.digits),
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
        above_ok = confusion[:, 1:].sum(axis=1)
        found |= _rate("above_ok.good", int(above_ok[0]), good)
        found |= _rate("above_ok.defective", int(above_ok[1]), defective)
        if self.pro is not None:
            for name, limit in (("ok", limits.ok_below), ("ng", limits.ng_above)):
                fpr, overlap = self.pro_at(limit)
                found[f"pro.{name}.fpr"] = percent(fpr, 2)
                found[f"pro.{name}.overlap"] = percent(overlap)
        return found

    def pro_at(self, limit: float) -> tuple[float, float]:
        """The curve's point for map values above a limit: false-positive rate and overlap,
        interpolated."""
        assert self.pro is not None
        values, *shares = (of[::-1] for of in self.pro)
        fpr, overlap = (float(np.interp(limit, values, of, right=0)) for of in shares)
        return fpr, overlap


def _thinned(curve: ProCurve) -> ProCurve:
    """Points at about equal distances on the curve, at most one for each value."""
    # Of points of one value, the last has all pixels of it.
    last = np.flatnonzero(np.append(np.diff(curve.values) < 0, True))
    along = curve.fpr[last] + curve.overlap[last]
    wanted = np.linspace(along[0], along[-1], _CURVE_POINTS)
    chosen = last[np.unique(np.searchsorted(along, wanted).clip(max=len(last) - 1))]
    shares = (np.round(of[chosen], 6) for of in (curve.fpr, curve.overlap))
    return ProCurve(curve.values[chosen], *shares)


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
