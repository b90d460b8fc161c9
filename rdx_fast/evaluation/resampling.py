"""The bootstrap over the images of a test set, and map values rounded for it."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rdx_fast.cpu import usable_cores

RESAMPLES = 2000
CONFIDENCE = 0.95
BINS = 4096
_CELL_BITS = 16

Floats = NDArray[np.float64]
Values = NDArray[np.float32]


class Binned(NamedTuple):
    """Maps with their values rounded to about ``BINS`` quantiles of all values.

    Attributes:
        maps: uint16 [H, W] for each image, the bin of each pixel
        lowest: float32 [BINS], ascending; at or below the values of the bin, above those of lower
            bins
    """

    maps: Sequence[NDArray[np.uint16]]
    lowest: Values


def resamples(labels: NDArray[np.bool_], rng: np.random.Generator) -> Floats:
    """How often each image is drawn, good and defective images separately.

    Args:
        labels: bool [n], True for defective
        rng: source of the draws

    Returns:
        float64 [RESAMPLES, n].
    """
    counts = np.zeros((RESAMPLES, len(labels)))
    for kind in (labels, ~labels):
        if n := int(kind.sum()):
            counts[:, kind] = rng.multinomial(n, np.full(n, 1 / n), RESAMPLES)
    return counts


def middle(values: Floats) -> tuple[float, float]:
    """Ends of the middle ``CONFIDENCE`` of the values that are numbers."""
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.nanpercentile(values, (tail, 100 - tail))
    return float(low), float(high)


def binned(maps: Sequence[Values]) -> Binned:
    """Round map values to at most 65536 values at about equal ratios, and these to quantiles.

    Args:
        maps: float32 [H, W] for each image, finite; negative values count as 0
    """

    def bits(values: Values) -> NDArray[np.int32]:
        """Integers in the order of the values. Only rounding makes a map negative."""
        return np.maximum(values, 0).view(np.int32)

    extremes = [min(m.min() for m in maps), max(m.max() for m in maps)]
    low, high = bits(np.array(extremes, np.float32)).tolist()
    shift = max(0, (high - low).bit_length() - _CELL_BITS)

    def cells_of(values: Values) -> NDArray[np.uint16]:
        return ((bits(values) - low) >> shift).astype(np.uint16)

    with ThreadPoolExecutor(usable_cores()) as pool:
        cells = list(pool.map(cells_of, maps))
        total = sum(np.bincount(one.ravel(), minlength=2**_CELL_BITS) for one in cells)
        below = np.cumsum(total) - total
        bin_of = (below * BINS // int(np.sum(total))).clip(max=BINS - 1).astype(np.uint16)
        found = list(pool.map(lambda one: bin_of[one], cells))
    first = np.searchsorted(bin_of, np.arange(BINS))  # a bin without cells starts with the next
    lowest = np.minimum(low + (first << shift), high).astype(np.int32).view(np.float32)
    return Binned(found, lowest)
