"""Drift in generated values: p-values of two kinds, and two ways to bet."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from rdx_fast.drift import SIGNALS, OnlinePValues, ShiryaevRoberts

EVERY = 100_000  # parts, of the stated rate of false alarms
BEFORE = 1000  # parts before a change
_AFTER, _RUNS = 2000, 100


class Statistic(Protocol):
    """What ``ShiryaevRoberts`` does."""

    def add(self, p: float) -> float:
        """S after the next p-value."""


class FixedPValues:
    """p-values among the same values for ever, for comparison."""

    def __init__(self, rng: np.random.Generator, values: NDArray[np.float64]) -> None:
        self._rng, self._values = rng, np.sort(values)

    def add(self, value: float) -> float:
        larger = len(self._values) - int(self._values.searchsorted(value, "right"))
        return (larger + 1 - self._rng.random()) / (len(self._values) + 1)


class SimpleJumper:
    """The betting of Vovk's example, for comparison: one bet that may change its density."""

    def __init__(self) -> None:
        self._capital, self.value = np.ones(3) / 3, 0.0

    def add(self, p: float) -> float:
        mixed = 0.99 * self._capital + 0.01 / 3
        capital = mixed * (1 + np.array([-1, 0, 1]) * (p - 0.5))
        growth = float(capital.sum())
        self._capital = capital / growth
        self.value = (self.value + 1) * growth
        return self.value


BETS: dict[str, Callable[[], Statistic]] = {
    "Simple Jumper": SimpleJumper,
    "seven densities": ShiryaevRoberts,
}


def normal_alarms(fixed: bool, every: int, runs: int, parts: int) -> int:
    """Alarms of one signal of normal values, with 168 values before the first."""
    alarms = 0
    for seed in range(runs):
        rng = np.random.default_rng(seed)
        earlier = rng.normal(size=168)
        p_values = FixedPValues(rng, earlier) if fixed else OnlinePValues(rng, earlier)
        statistic = ShiryaevRoberts()
        for value in rng.normal(size=parts).tolist():
            if statistic.add(p_values.add(value)) >= every:
                alarms += 1
                statistic = ShiryaevRoberts()
    return alarms


def bets(shift: float, scale: float) -> dict[str, Any]:
    """Delays of a change of one normal signal, by both ways to bet."""
    limit = EVERY * len(SIGNALS)
    delays: dict[str, list[float]] = {name: [] for name in BETS}
    for seed in range(_RUNS):
        rng = np.random.default_rng(seed)
        p_values = OnlinePValues(rng)
        ps = [p_values.add(v) for v in rng.normal(size=BEFORE).tolist()]
        ps += [p_values.add(v) for v in rng.normal(shift, scale, _AFTER).tolist()]
        for name, bet in BETS.items():
            statistic = bet()
            over = (i for i, p in enumerate(ps, 1 - BEFORE) if statistic.add(p) >= limit and i > 0)
            delays[name].append(next(over, np.inf))
    return {name: percentiles(of) for name, of in delays.items()}


def rows_of_normal(tell: Callable[[str], None]) -> Iterator[dict[str, Any]]:
    """Rows about generated values."""
    for name, fixed in (("among all earlier values", False), ("among 168 fixed values", True)):
        tell(name)
        yield rate(name, 1000, 100, 20_000, normal_alarms(fixed, 1000, 100, 20_000))
    for shift, scale in ((0.25, 1), (0.5, 1), (1, 1), (2, 1), (4, 1), (0, 1.5), (0, 2)):
        tell(f"bets {shift} {scale}")
        yield {"step": "bets", "shift": shift, "scale": scale, **bets(shift, scale)}


def rate(kind: str, every: int, runs: int, parts: int, alarms: int) -> dict[str, Any]:
    counts = {"runs": runs, "parts": parts, "alarms": alarms}
    return {"step": "false alarms", "kind": kind, "stated": every, **counts}


def percentiles(delays: Sequence[float]) -> dict[str, int | None]:
    """Median and 90th percentile; None where so many are not found."""
    ordered = sorted(delays)
    found = {name: ordered[int(q * len(ordered))] for name, q in (("p50", 0.5), ("p90", 0.9))}
    return {name: int(d) if np.isfinite(d) else None for name, d in found.items()}
