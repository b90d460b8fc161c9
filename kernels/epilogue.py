"""What is read off an anomaly map while it is made: score and area of each region, mean of the
largest values."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rdx_fast.kernels.native import ISAS, check_threads, native

if TYPE_CHECKING:
    from rdx_fast import _C

Place = tuple[int, int]
"""Row and column of a map."""
Part = tuple[slice, slice]
"""Rows and columns of a map."""

MAX_LABEL = 255  # labels are uint8, and 0 is taken


class MapStats(NamedTuple):
    """What was read off each map of a batch.

    A map with NaN anywhere, also outside all regions, has NaN for all maxima and for the top mean:
    it must not count as inspected.

    Attributes:
        maxima: float32 [B, R], the largest value of each region
        top_means: float32 [B], mean of the largest values of all regions together; None unless
            requested
        areas: int64 [B, R], pixels of each region above its threshold
    """

    maxima: NDArray[np.float32]
    top_means: NDArray[np.float32] | None
    areas: NDArray[np.int64]

    @classmethod
    def empty(cls, batch: int, epilogue: Epilogue) -> MapStats:
        """Buffers to be written: NaN until they are."""
        maxima = np.full((batch, epilogue.regions), np.nan, np.float32)
        top_means = np.full(batch, np.nan, np.float32) if epilogue.top_k else None
        return cls(maxima, top_means, np.zeros(maxima.shape, np.int64))

    def put(self, where: slice, part: MapStats) -> None:
        """Write the summary of some images of the batch."""
        for mine, its in zip(self, part, strict=True):
            if mine is not None and its is not None:
                mine[where] = its

    def joined(self, other: MapStats) -> MapStats:
        """The summary of maps from those of two parts of them, see :func:`summarize`.

        Raises:
            ValueError: one has a top mean, which follows from no top means of parts
        """
        if self.top_means is not None or other.top_means is not None:
            raise ValueError("the top mean of a map does not follow from those of its parts")
        return MapStats(np.maximum(self.maxima, other.maxima), None, self.areas + other.areas)


@dataclass(frozen=True, slots=True)
class Epilogue:
    """What to read off each map, whose pixels belong to R regions.

    Attributes:
        labels: uint8 [H, W]: 0 is not inspected, r = 1..R belongs to region r; None for one region
            that is the whole map
        thresholds: of each region; its area counts the pixels above it
        top_k: number of largest values in the top mean; 0 for no top mean
        extents: int32 [H, R, 2], for each row the columns [first, end) outside which a region has
            no pixels, [0, 0) where it has none at all; None without labels

    Raises:
        ValueError: labels that are not uint8 [H, W]; no or more than ``MAX_LABEL`` thresholds, or
            one that is NaN; a region without pixels, or labels without a threshold; a ``top_k``
            that is negative
    """

    labels: NDArray[np.uint8] | None = None
    thresholds: tuple[float, ...] = (math.inf,)
    top_k: int = 0
    extents: NDArray[np.int32] | None = field(init=False, repr=False, default=None)

    def __post_init__(self) -> None:
        if not 1 <= self.regions <= MAX_LABEL:
            raise ValueError(
                f"there are {self.regions} thresholds, wanted one for each region and at most "
                f"{MAX_LABEL}"
            )
        for region, threshold in enumerate(self.thresholds, start=1):
            if math.isnan(threshold):
                raise ValueError(f"the threshold of region {region} is NaN")
        if self.top_k < 0:
            raise ValueError(f"top_k is {self.top_k}, wanted 0 or more")
        if self.labels is None:
            if self.regions > 1:
                raise ValueError(
                    f"there are {self.regions} thresholds and no labels: without labels the whole "
                    f"map is one region"
                )
            return
        labels = _checked_labels(self.labels, self.regions)
        object.__setattr__(self, "labels", labels)
        object.__setattr__(self, "extents", _extents(labels, self.regions))

    @property
    def regions(self) -> int:
        """How many there are, R."""
        return len(self.thresholds)

    def check(self, height: int, width: int) -> None:
        """Raises ``ValueError`` unless this fits maps of ``[height, width]``."""
        if self.labels is not None and self.labels.shape != (height, width):
            raise ValueError(
                f"the regions are marked in {list(self.labels.shape)} pixels, the map is "
                f"[{height}, {width}]"
            )
        if not self.top_k:
            return
        inside = height * width if self.labels is None else int(np.count_nonzero(self.labels))
        if self.top_k > inside:
            raise ValueError(f"top_k is {self.top_k}, the regions have {inside} pixels")


def region_labels(region: NDArray[np.bool_] | None) -> NDArray[np.uint8] | None:
    """Labels of one region of interest, bool [H, W]; None is the whole map.

    Raises:
        ValueError: it is not bool [H, W]
    """
    if region is None:
        return None
    if region.dtype != np.bool_ or region.ndim != 2:
        raise ValueError(
            f"the region of interest is {region.dtype} {list(region.shape)}, wanted bool [H, W]"
        )
    return region.astype(np.uint8)


def summarize(
    maps: NDArray[np.float32], epilogue: Epilogue, first: Place = (0, 0), threads: int = 1
) -> MapStats:
    """Read maps that already exist, with the results of the kernels that read while they make them.

    The maps may come in parts: what is read off all parts, ``joined``, is what would be read off
    the whole. In one part a region that has no pixels there has minus infinity for its maximum.

    Args:
        maps: float32 [B, H, W], or a part of them, [B, h, w]
        epilogue: what to read
        first: row and column of the map that the part begins with
        threads: CPU threads, for the call alone

    Raises:
        ValueError: maps that do not fit the epilogue; with ``top_k``, a part alone
    """
    check_threads(threads)
    _check_part(maps, epilogue, first)
    if native is None:
        return summarize_numpy(maps, epilogue, first)
    if epilogue.top_k or maps.strides[2] != maps.itemsize:
        maps = np.ascontiguousarray(maps)
    summary = MapStats.empty(len(maps), epilogue)
    target = native_epilogue(epilogue, None, summary, part_at(first, maps.shape[1:]))
    native.summarize(maps, target, threads, ISAS[0])
    return summary


def summarize_numpy(
    maps: NDArray[np.float32], epilogue: Epilogue, first: Place = (0, 0)
) -> MapStats:
    """Plain reference of :func:`summarize`."""
    flat = maps.reshape(len(maps), -1)
    labels = None
    if epilogue.labels is not None:
        labels = epilogue.labels[part_at(first, maps.shape[1:])].ravel()
    summary = MapStats.empty(len(maps), epilogue)
    for r, threshold in enumerate(epilogue.thresholds):
        inside = flat if labels is None else flat[:, labels == r + 1]
        summary.maxima[:, r] = inside.max(axis=1, initial=-np.inf)
        summary.areas[:, r] = (inside > np.float32(threshold)).sum(axis=1)
    broken = np.isnan(flat).any(axis=1)
    summary.maxima[broken] = np.nan
    if summary.top_means is not None:
        inspected = flat if labels is None else flat[:, labels != 0]
        largest = np.partition(inspected, -epilogue.top_k, axis=1)[:, -epilogue.top_k :]
        summary.top_means[:] = largest.mean(axis=1, dtype=np.float64)
        summary.top_means[broken] = np.nan
    return summary


def part_at(first: Place, size: tuple[int, ...]) -> Part:
    """The part of a map that begins at a place."""
    (top, left), (height, width) = first, size
    return slice(top, top + height), slice(left, left + width)


def native_epilogue(
    epilogue: Epilogue,
    out: NDArray[np.float32] | None,
    summary: MapStats,
    part: Part | None = None,
) -> _C.Epilogue:
    """What the compiled kernels read off a part of the maps, and where they put it."""
    labels, extents = epilogue.labels, epilogue.extents
    if part is not None and labels is not None and extents is not None:
        labels = labels[part]
        extents = np.clip(extents[part[0]] - np.int32(part[1].start), 0, labels.shape[1])
    return native.Epilogue(
        out,
        labels,
        extents,
        np.array(epilogue.thresholds, np.float32),
        epilogue.top_k,
        summary.maxima,
        summary.top_means,
        summary.areas,
    )


def _check_part(maps: NDArray[np.float32], epilogue: Epilogue, first: Place) -> None:
    if maps.dtype != np.float32 or maps.ndim != 3 or maps.size == 0:
        raise ValueError(f"the maps are {maps.dtype} {list(maps.shape)}, wanted float32 [B, H, W]")
    if epilogue.top_k or epilogue.labels is None:
        epilogue.check(*maps.shape[1:])
    if epilogue.labels is None:
        return
    (top, left), (height, width) = first, epilogue.labels.shape
    bottom, right = top + maps.shape[1], left + maps.shape[2]
    if min(first) < 0 or bottom > height or right > width:
        raise ValueError(
            f"the maps are rows {top} to {bottom} and columns {left} to {right}, the regions are "
            f"marked in [{height}, {width}]"
        )


def _checked_labels(labels: NDArray[np.uint8], regions: int) -> NDArray[np.uint8]:
    """A copy of them, which nobody can change."""
    if labels.dtype != np.uint8 or labels.ndim != 2:
        raise ValueError(
            f"the labels of regions are {labels.dtype} {list(labels.shape)}, wanted uint8 [H, W]"
        )
    pixels = np.bincount(labels.ravel(), minlength=regions + 1)
    if len(pixels) > regions + 1:
        raise ValueError(
            f"the labels of regions go up to {len(pixels) - 1}, there are {regions} thresholds"
        )
    empty = np.flatnonzero(pixels[1:] == 0) + 1
    if len(empty):
        raise ValueError(f"region {empty[0]} has no pixels: nothing of it would be inspected")
    copied = np.array(labels, order="C")
    copied.flags.writeable = False
    return copied


def _extents(labels: NDArray[np.uint8], regions: int) -> NDArray[np.int32]:
    """See ``Epilogue.extents``."""
    extents = np.zeros((labels.shape[0], regions, 2), np.int32)
    for r in range(regions):
        inside = labels == r + 1
        rows = np.flatnonzero(inside.any(axis=1))
        extents[rows, r, 0] = inside[rows].argmax(axis=1)
        extents[rows, r, 1] = labels.shape[1] - inside[rows, ::-1].argmax(axis=1)
    return extents
