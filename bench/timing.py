"""Statistics of series of times."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

# A percentile is given only if there are enough calls for some to lie beyond it.
_PERCENTILES = {"p50": 50.0, "p90": 90.0, "p99": 99.0, "p99.9": 99.9}


def summary(ms: NDArray[np.float64]) -> dict[str, float]:
    """Percentiles, worst and jitter of calls, in milliseconds.

    ``p99`` needs 100 calls and ``p99.9`` 1000, otherwise they are left out. Jitter is the mean
    absolute difference between consecutive calls; a single call has none.

    Args:
        ms: milliseconds of the calls, in the order they were made
    """
    found = {
        name: float(np.percentile(ms, percent))
        for name, percent in _PERCENTILES.items()
        if len(ms) * (100 - percent) >= 100 - 1e-6 or percent < 99
    }
    found |= {"worst": float(ms.max())}
    if len(ms) > 1:
        found["jitter"] = float(np.abs(np.diff(ms)).mean())
    return {name: round(value, 4) for name, value in found.items()}


def slope(sizes: NDArray[np.float64], values: NDArray[np.float64]) -> float:
    """Exponent of growth: slope of a line fitted to the points on log-log axes."""
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])


def repeat(call: Callable[[], object], seconds: float, least: int, most: int) -> int:
    """Call for ``seconds``, but between ``least`` and ``most`` times. Returns the number of
    calls."""
    end = perf_counter() + seconds
    done = 0
    while done < least or (done < most and perf_counter() < end):
        call()
        done += 1
    return done
