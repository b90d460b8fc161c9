"""Conformal p-values of a sequence, and a statistic that grows when they cease to be uniform."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right, insort

import numpy as np
from numpy.typing import ArrayLike, NDArray

Values = NDArray[np.float64]
MEMORY = 100_000  # values that are ranked against; above it, a random half is kept

_NEWEST = 256
_DENSITIES = 7
_LEAST = 2.0**-53  # at 0 three of the densities are infinite


class OnlinePValues:
    """Conformal p-values of one value after the other.

    Args:
        rng: breaks ties
        earlier: values before the first one
        memory: values that are ranked against, about. Beyond it a random half is forgotten, which
            leaves the p-values independent and uniform

    Attributes:
        older: sorted float64, all values but the newest
        newest: sorted, at most 256, so that a value need not move all others
    """

    def __init__(
        self, rng: np.random.Generator, earlier: ArrayLike = (), memory: int = MEMORY
    ) -> None:
        self._rng, self._most = rng, memory
        self.older: Values = np.sort(np.asarray(earlier, np.float64).ravel())
        self.newest: list[float] = []

    @property
    def values(self) -> Values:
        """All values in memory, sorted."""
        return np.sort(np.concatenate([self.older, self.newest]), kind="stable")

    def add(self, value: float) -> float:
        """The p-value of the next value, in (0, 1]: small if it is large."""
        count = len(self.older) + len(self.newest)
        low = int(self.older.searchsorted(value)) + bisect_left(self.newest, value)
        high = int(self.older.searchsorted(value, "right")) + bisect_right(self.newest, value)
        insort(self.newest, value)
        if len(self.newest) >= _NEWEST:
            self.older, self.newest = self.values, []
            if len(self.older) > self._most:
                self.older = self.older[self._rng.random(len(self.older)) < 0.5]
        larger, equal = count - high, high - low + 1
        return (larger + equal * (1 - self._rng.random())) / (count + 1)


class ShiryaevRoberts:
    """The statistic S of a sequence of p-values: what bets begun at each of them are worth by now.

    A bet is one of seven densities on [0, 1], chosen at random when it begins. They favour large
    values or small ones, or those at both ends.

    Attributes:
        wealth: the part of S by each density
    """

    def __init__(self) -> None:
        self.wealth = [0.0] * _DENSITIES

    @property
    def value(self) -> float:
        """S. It is 0 at the start; without a change, S less the number of values is a
        martingale."""
        return math.fsum(self.wealth)

    @property
    def of_spread(self) -> bool:
        """Whether values at both ends make most of S."""
        return self.wealth[-1] >= max(self.wealth)

    def add(self, p: float) -> float:
        """S after the next p-value."""
        share = 1 / _DENSITIES
        densities = _densities(p)
        self.wealth = [(w + share) * d for w, d in zip(self.wealth, densities, strict=True)]
        return self.value


def _densities(p: float) -> tuple[float, ...]:
    """Of p, by each density."""
    tilt = p - 0.5
    ends = (p, 1 - p, 1 - 2 * abs(tilt))
    return (
        *(1 + slope * tilt for slope in (-2, -1, 1, 2)),
        *(0.5 / math.sqrt(max(end, _LEAST)) for end in ends),
    )
