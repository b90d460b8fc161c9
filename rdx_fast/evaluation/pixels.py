"""Metrics of anomaly maps, overall and for each defect type, from one sort of all map values.

A curve bends only at values that occur inside a mask, and those are few. It is exact if the pixels
outside the masks are counted at each of these values. So the values outside are sorted once, those
of the good images and of each type apart, and the values inside are looked up in them. The counts
of a type are those of the good images plus its own; the counts of all types are the sum.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from threading import Lock

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from rdx_fast.cpu import usable_cores
from rdx_fast.evaluation.curves import FPR_LIMIT, Counts, Floats, Ints, Values, image_area

_WORKERS = min(4, usable_cores())
_LARGE = 2**20  # more values than this are sorted in parts, one for each worker

Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class PixelFigures:
    """Metrics of the maps of one defect type, or of all types, with those of all good images.

    Attributes:
        pixel_auroc: area under the ROC curve of the map values
        pixel_ap: average precision of the map values
        pixel_best_f1: largest F1 of the map values over all thresholds
        aupro: AUPRO as MVTec AD defines it, see ``Counts.aupro``
        aupro_per_image_mean: mean over the defective images of ``image_area``
    """

    pixel_auroc: float
    pixel_ap: float
    pixel_best_f1: float
    aupro: float
    aupro_per_image_mean: float


@dataclass(frozen=True, slots=True)
class _Pixels:
    """Map values of some images.

    Attributes:
        inside: [k], values inside masks
        overlap: [k], what each adds to the overlap with its region, 1 / size of the region
        regions: number of regions
        areas: ``image_area`` of each image with a region
        outside: values outside masks, in ascending parts
    """

    inside: Values
    overlap: Floats
    regions: int
    areas: list[float]
    outside: list[Values]


def pixel_figures(
    masks: Sequence[Mask],
    maps: Sequence[Values],
    types: Sequence[str | None],
    fpr_limit: float = FPR_LIMIT,
) -> tuple[PixelFigures | None, dict[str, PixelFigures | None]]:
    """Compute the metrics of all types together, and of each type.

    Args:
        masks: bool [H, W], True where defective, one for each image
        maps: float32 [H, W], finite, one for each image
        types: defect type of each image; None for a good image, whose mask is all False
        fpr_limit: largest false-positive rate of both kinds of AUPRO

    Returns:
        The metrics overall, and by type. None instead where no pixel is defective, or all are.
    """
    names = sorted({name for name in types if name is not None})
    with ThreadPoolExecutor(_WORKERS) as pool:

        def sorting(name: str | None) -> list[Future[_Pixels]]:
            images = [(m, k) for m, k, of in zip(maps, masks, types, strict=True) if of == name]
            parts = _WORKERS if sum(m.size for m, _ in images) > _LARGE else 1
            return [pool.submit(_pixels, images[i::parts], fpr_limit) for i in range(parts)]

        started = [sorting(name) for name in (None, *names)]
        good, *defective = (_joined([part.result() for part in parts]) for parts in started)
        # One order of all values inside masks; that of a type is a selection from it.
        inside = np.concatenate([p.inside for p in (good, *defective)])
        order = np.argsort(inside)
        inside = inside[order]
        overlap = np.concatenate([p.overlap for p in (good, *defective)])[order]
        of_type = np.repeat(np.arange(len(names)), [len(p.inside) for p in defective])[order]
        is_new = np.append(True, inside[1:] != inside[:-1])[: len(inside)]
        values, rank = inside[is_new], np.cumsum(is_new, dtype=np.int32) - 1

        chunks = pool.map(partial(_count, good.outside), np.array_split(values, _WORKERS))
        of_good = np.concatenate(list(chunks), axis=1)
        of_all, adding = of_good.copy(), Lock()

        def figures_of(i: int) -> PixelFigures | None:
            own = _count(defective[i].outside, values)
            with adding:
                np.add(of_all, own, out=of_all)
            own += of_good
            chosen = of_type == i
            images = [good, defective[i]]
            return _figures(images, rank[chosen], overlap[chosen], own, fpr_limit)

        by_type = dict(zip(names, pool.map(figures_of, range(len(names))), strict=True))
    return _figures([good, *defective], rank, overlap, of_all, fpr_limit), by_type


def _pixels(images: Sequence[tuple[Values, Mask]], fpr_limit: float) -> _Pixels:
    """The values of some maps with their masks."""
    inside, overlap, areas, outside = [], [], [], []
    regions = 0
    for values, mask in images:
        if not mask.any():
            outside.append(values.ravel())
            continue
        labelled, count = ndimage.label(mask, structure=np.ones((3, 3)))
        region = labelled[mask] - 1
        inside.append(values[mask])
        overlap.append((1.0 / np.bincount(region))[region])
        outside.append(np.sort(values[~mask]))
        areas.append(image_area(inside[-1], overlap[-1] / count, outside[-1], fpr_limit))
        regions += count
    together = np.concatenate(outside) if outside else np.empty(0, np.float32)
    together.sort()
    return _Pixels(
        inside=np.concatenate(inside) if inside else np.empty(0, np.float32),
        overlap=np.concatenate(overlap) if overlap else np.empty(0),
        regions=regions,
        areas=areas,
        outside=[together],
    )


def _joined(found: Sequence[_Pixels]) -> _Pixels:
    return _Pixels(
        inside=np.concatenate([p.inside for p in found]),
        overlap=np.concatenate([p.overlap for p in found]),
        regions=sum(p.regions for p in found),
        areas=[area for p in found for area in p.areas],
        outside=[values for p in found for values in p.outside],
    )


def _count(parts: Sequence[Values], values: Values) -> Ints:
    """How many of the sorted parts' values are at or above, and above, each value: [2, n]."""
    counts = np.full((2, len(values)), sum(map(len, parts)))
    for part in parts:
        if len(part):
            below = np.searchsorted(part, values)
            counts -= below
            # Few are equal, so only these are searched again.
            equal = np.flatnonzero(part.take(below, mode="clip") == values)
            to = np.searchsorted(part, values[equal], side="right")
            counts[1, equal] -= to - below[equal]
    return counts


def _figures(
    images: Sequence[_Pixels],
    rank: NDArray[np.int32],
    overlap: Floats,
    outside: Ints,
    fpr_limit: float,
) -> PixelFigures | None:
    """The metrics of some images.

    Args:
        images: their values
        rank: [k], index into ``outside`` of each value inside masks, ascending
        overlap: [k], what each of these adds to the overlap with its region
        outside: [2, n], pixels outside masks at or above, and above
        fpr_limit: largest false-positive rate of both kinds of AUPRO
    """
    normal = sum(len(part) for p in images for part in p.outside)
    if not len(rank) or not normal:
        return None
    first = np.flatnonzero(np.append(True, rank[1:] != rank[:-1]))
    counts = Counts(
        inside=len(rank) - first,
        overlap=np.cumsum(overlap[::-1])[::-1][first] / sum(p.regions for p in images),
        outside_from=outside[0, rank[first]],
        outside_above=outside[1, rank[first]],
        outside=normal,
    )
    return PixelFigures(
        pixel_auroc=counts.auroc(),
        pixel_ap=counts.average_precision(),
        pixel_best_f1=counts.best_f1(),
        aupro=counts.aupro(fpr_limit),
        aupro_per_image_mean=float(np.mean([area for p in images for area in p.areas])),
    )
