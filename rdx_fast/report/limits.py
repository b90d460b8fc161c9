"""The limits between OK, REVIEW and NG."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

VERDICTS = ("OK", "REVIEW", "NG")


@dataclass(frozen=True, slots=True)
class Limits:
    """OK at or below one limit, NG above the other, REVIEW between. One limit is both.

    Attributes:
        ok_below: scores at or below it are OK
        ng_above: scores above it are NG

    Raises:
        ValueError: a limit is not a positive number, or ``ok_below`` is above ``ng_above``
    """

    ok_below: float
    ng_above: float

    def __post_init__(self) -> None:
        # Written so that NaN fails.
        if not 0 < self.ok_below <= self.ng_above < float("inf"):
            raise ValueError(
                f"limits are {self.ok_below} (OK) and {self.ng_above} (NG), wanted positive "
                f"numbers, the second no less than the first"
            )

    @property
    def are_two(self) -> bool:
        """Whether a score can be between them."""
        return self.ok_below < self.ng_above

    @property
    def by_name(self) -> dict[str, float]:
        """Both as "ok" and "ng"; one limit is that of NG."""
        both = {"ok": self.ok_below, "ng": self.ng_above}
        return both if self.are_two else {"ng": self.ng_above}

    def verdicts(self, scores: NDArray[np.float32]) -> NDArray[np.int64]:
        """Index into ``VERDICTS`` of each score, int64 of the scores' shape."""
        return (scores > self.ok_below).astype(int) + (scores > self.ng_above)

    def confusion(
        self, scores: NDArray[np.float32], labels: NDArray[np.bool_]
    ) -> NDArray[np.int64]:
        """Count verdicts.

        Args:
            scores: float32 [n]
            labels: bool [n], True for defective

        Returns:
            int64 [2, 3]: rows good and defective, columns as ``VERDICTS``.
        """
        both = 3 * labels.astype(int) + self.verdicts(scores)
        return np.bincount(both, minlength=6).reshape(2, 3)
