"""The curve of the per-region overlap, from map values rounded to quantiles."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from rdx_fast.cpu import usable_cores
from rdx_fast.evaluation.resampling import BINS, Floats, Values, binned
from rdx_fast.evaluation.scored import ScoredSet

_AT_ONCE = 200  # resamples, whose curves take some megabytes


class ProCurve(NamedTuple):
    """Points of the curve, from the highest map value down.

    Attributes:
        values: float32 [k], pixels at or above it count as found
        fpr: float64 [k], share of the pixels outside masks that is found
        overlap: float64 [k], share of a region that is found, mean over all regions
    """

    values: Values
    fpr: Floats
    overlap: Floats


@dataclass(frozen=True, slots=True)
class Overlaps:
    """What the curve consists of, by image; bins are from the highest value down.

    Attributes:
        values: float32 [BINS], lowest value of each bin
        outside: float64 [n, BINS], pixels outside masks at or above it
        overlap: float64 [n, BINS], overlap with regions at or above it, summed over the regions
        regions: float64 [n], number of regions
    """

    values: Values
    outside: Floats
    overlap: Floats
    regions: Floats

    def curve(self) -> ProCurve:
        """The curve of all images. Raises ``ValueError`` unless they have pixels of both kinds."""
        regions, outside = self.regions.sum(), self.outside[:, -1].sum()
        if not (regions and outside):
            raise ValueError("a curve needs pixels inside and outside masks, and one kind is none")
        fpr, overlap = self.outside.sum(axis=0) / outside, self.overlap.sum(axis=0) / regions
        return ProCurve(self.values, fpr, overlap)

    def aupro(self, counts: Floats, fpr_limit: float) -> Floats:
        """AUPRO of each resample.

        Args:
            counts: how often each image is drawn, float64 [r, n]
            fpr_limit: largest false-positive rate, as for ``Counts.aupro``

        Returns:
            float64 [r]; NaN for a resample without pixels of both kinds.
        """
        parts = np.array_split(counts, max(1, len(counts) // _AT_ONCE))
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.concatenate([self._areas(part, fpr_limit) for part in parts])

    def _areas(self, counts: Floats, limit: float) -> Floats:
        regions, outside = counts @ self.regions, counts @ self.outside[:, -1]
        x = np.pad(counts @ self.outside, ((0, 0), (1, 0))) / outside[:, None]
        # Nothing counts beyond the first bin that is above the limit in every resample.
        end = int(np.count_nonzero(~(x > limit).all(axis=0)))
        x = x[:, : end + 1]
        y = np.pad(counts @ self.overlap[:, :end], ((0, 0), (1, 0))) / regions[:, None]
        width, height = np.diff(x), np.diff(y)
        # The share of each step that lies below the limit.
        share = np.clip((limit - x[:, :-1]) / np.where(width > 0, width, 1), 0, 1)
        area = np.sum(share * width * (y[:, :-1] + share * height / 2), axis=1) / limit
        return np.where((regions > 0) & (outside > 0), area, np.nan)


def overlaps_by_image(scored: ScoredSet) -> Overlaps:
    """Count pixels and overlaps of each image of a set with masks."""
    bins = binned(scored.maps)

    def counted(of: NDArray[np.uint16], mask: NDArray[np.bool_]) -> tuple[Floats, Floats, int]:
        labelled, regions = ndimage.label(mask, structure=np.ones((3, 3)))
        region = labelled[mask] - 1
        share = 1 / np.bincount(region, minlength=regions)
        outside = np.bincount(of[~mask], minlength=BINS)
        overlap = np.bincount(of[mask], share[region], minlength=BINS)
        return np.cumsum(outside[::-1]).astype(float), np.cumsum(overlap[::-1]), regions

    with ThreadPoolExecutor(usable_cores()) as pool:
        outside, overlap, regions = zip(*pool.map(counted, bins.maps, scored.masks), strict=True)
    return Overlaps(
        bins.lowest[::-1], np.array(outside), np.array(overlap), np.array(regions, float)
    )
