"""What is read off an anomaly map while it is made: score, mean of the largest, area."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class MapStats(NamedTuple):
    """What was computed from each map of a batch, inside the region of interest.

    A map with NaN anywhere, inside or outside, has NaN for maximum and top mean: it must not count
    as inspected.

    Attributes:
        maxima: float32 [B], the largest value
        top_means: float32 [B], mean of the largest values; None unless requested
        areas: int64 [B], pixels above the threshold
    """

    maxima: NDArray[np.float32]
    top_means: NDArray[np.float32] | None
    areas: NDArray[np.int64]

    @classmethod
    def empty(cls, batch: int, top_k: int) -> MapStats:
        """Buffers to be written: NaN until they are."""
        nothing = np.full(batch, np.nan, np.float32)
        return cls(nothing, nothing.copy() if top_k else None, np.zeros(batch, np.int64))

    def put(self, where: slice, part: MapStats) -> None:
        """Write the summary of some images of the batch."""
        for mine, its in zip(self, part, strict=True):
            if mine is not None and its is not None:
                mine[where] = its


@dataclass(frozen=True, slots=True)
class Epilogue:
    """What to compute from each map.

    Attributes:
        mask: bool [H, W], True inside the region of interest; None for the whole map
        threshold: areas count the pixels above it
        top_k: number of largest values in the top mean; 0 for no top mean

    Raises:
        ValueError: a mask that is not boolean, not [H, W] or empty; a threshold that is NaN; a
            ``top_k`` that is negative or larger than the region
    """

    mask: NDArray[np.bool_] | None = None
    threshold: float = math.inf
    top_k: int = 0

    def __post_init__(self) -> None:
        if self.mask is not None:
            if self.mask.dtype != np.bool_ or self.mask.ndim != 2:
                raise ValueError(
                    f"the region of interest is {self.mask.dtype} {list(self.mask.shape)}, wanted "
                    f"bool [H, W]"
                )
            if not self.mask.any():
                raise ValueError("the region of interest is empty: nothing would be inspected")
            object.__setattr__(self, "mask", np.ascontiguousarray(self.mask))
        if math.isnan(self.threshold):
            raise ValueError("the threshold is NaN")
        if self.top_k < 0:
            raise ValueError(f"top_k is {self.top_k}, wanted 0 or more")

    def check(self, height: int, width: int) -> None:
        """Raises ``ValueError`` unless this fits maps of ``[height, width]``."""
        if self.mask is not None and self.mask.shape != (height, width):
            raise ValueError(
                f"the region of interest is {list(self.mask.shape)}, the map is [{height}, {width}]"
            )
        if not self.top_k:
            return
        inside = height * width if self.mask is None else int(self.mask.sum())
        if self.top_k > inside:
            raise ValueError(f"top_k is {self.top_k}, the region of interest has {inside} pixels")


def summarize_numpy(maps: NDArray[np.float32], epilogue: Epilogue) -> MapStats:
    """Plain reference: read ``maps: [B, H, W]`` float32 as ``epilogue`` says."""
    flat = maps.reshape(len(maps), -1)
    inside = flat if epilogue.mask is None else flat[:, epilogue.mask.ravel()]
    broken = np.isnan(flat).any(axis=1)
    areas = (inside > np.float32(epilogue.threshold)).sum(axis=1, dtype=np.int64)
    maxima = np.where(broken, np.float32(np.nan), inside.max(axis=1))
    if not epilogue.top_k:
        return MapStats(maxima, None, areas)
    largest = np.partition(inside, -epilogue.top_k, axis=1)[:, -epilogue.top_k :]
    means = largest.mean(axis=1, dtype=np.float64).astype(np.float32)
    return MapStats(maxima, np.where(broken, np.float32(np.nan), means), areas)
