"""Labels: which region of the recipe each pixel belongs to, of the frame and of the anomaly map."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from rdx_fast.kernels.resize_normalize import check_crop
from rdx_fast.limits.limits import WHOLE
from rdx_fast.recipe.recipe import InspectionRecipe, Point
from rdx_fast.recipe.tiling import tiling

Labels = NDArray[np.uint8]
ReadMask = Callable[[str], NDArray[np.uint8]]


def map_size(recipe: InspectionRecipe, network: tuple[int, int]) -> tuple[int, int]:
    """Height and width of the anomaly map of a recipe's frames, whose size it states.

    ``network`` are those of the network's input, and of its map.
    """
    if recipe.tiles is None:
        return network
    assert recipe.frame.shown is not None
    return tiling(recipe.tiles, recipe.frame.shown, network).size


def map_labels(recipe: InspectionRecipe, size: tuple[int, int], read_mask: ReadMask) -> Labels:
    """Labels of the anomaly map.

    A map pixel covers one or more frame pixels, some of them in part. It gets the largest of their
    labels: it is inspected if any of them is.

    Args:
        recipe: with the frame's size
        size: height and width of the anomaly map, which shows the recipe's crop
        read_mask: reads a mask by its file name, uint8 [H, W]

    Returns:
        uint8 [height, width]: 0 where nothing is inspected, else the number of the region in
        ``recipe.inspected``, counted from 1.

    Raises:
        ValueError: a mask has another size than the frame, or a region has no pixel in the crop
            that no later region covers
    """
    assert recipe.frame.size is not None  # the recipe of regions states it
    top, left, height, width = check_crop(recipe.frame.size, recipe.frame.crop)
    shown = frame_labels(recipe, read_mask)[top : top + height, left : left + width]
    labels = _largest_covered(_largest_covered(shown, size[0]).T, size[1]).T
    for number, name in enumerate(recipe.inspected, start=1):
        if not (labels == number).any():
            raise ValueError(
                f"region {name!r} has no pixel to inspect: it lies outside the crop, or later "
                f"regions cover it"
            )
    return np.ascontiguousarray(labels)


def frame_labels(recipe: InspectionRecipe, read_mask: ReadMask) -> Labels:
    """Labels of the whole frame, uint8 [H, W]. Raises ``ValueError`` as ``map_labels`` does."""
    assert recipe.frame.size is not None
    included = [region for region in recipe.regions if region.kind == "include"]
    labels = np.full(recipe.frame.size, 0 if included else 1, np.uint8)
    for region in recipe.regions:
        if region.polygon is not None:
            inside = polygon_mask(region.polygon, recipe.frame.size)
        else:
            assert region.mask is not None
            grey = read_mask(region.mask)
            if grey.shape != recipe.frame.size:
                raise ValueError(
                    f"the mask of region {region.name!r} is {' x '.join(map(str, grey.shape))}, "
                    f"wanted the frame's {' x '.join(map(str, recipe.frame.size))} pixels: "
                    f"paint it on a frame of that size, or correct the recipe's height and width"
                )
            inside = grey > 127
            if not inside.any():
                what = "inspect" if region in included else "ignore"
                raise ValueError(
                    f"region {region.name!r}: the mask is black: paint what to {what} white"
                )
        if not inside.any():
            raise ValueError(f"region {region.name!r} holds the centre of no pixel of the frame")
        labels[inside] = included.index(region) + 1 if region in included else 0
    return labels


def named_by_pixels(
    recipe: InspectionRecipe, masks: Mapping[str, NDArray[np.uint8]]
) -> tuple[InspectionRecipe, dict[str, NDArray[np.uint8]]]:
    """Rename masks to their files in a bundle, so that different masks have different names.

    Args:
        recipe: which may name masks that are not given; they keep their names
        masks: uint8 [H, W], by the names that ``recipe`` uses

    Returns:
        the recipe with the new names, and its masks by these
    """
    files: dict[str, NDArray[np.uint8]] = {}
    regions = []
    for region in recipe.regions:
        name = region.mask
        if name is not None and name in masks:
            mask = masks[name]
            pixels = hashlib.sha256(f"{mask.shape}".encode() + mask.tobytes()).hexdigest()
            name = f"region-{pixels[:12]}.png"
            files[name] = mask
        regions.append(replace(region, mask=name))
    return replace(recipe, regions=tuple(regions)), files


def shares_outside_crop(recipe: InspectionRecipe, read_mask: ReadMask) -> dict[str, float]:
    """By region, the share of its pixels that lies outside the crop and is not inspected.

    Regions that the crop holds as a whole are left out. Raises ``ValueError`` as ``map_labels``
    does.
    """
    if recipe.frame.crop is None or not recipe.regions:
        return {}
    labels = frame_labels(recipe, read_mask)
    top, left, height, width = recipe.frame.crop
    whole = np.bincount(labels.ravel(), minlength=len(recipe.inspected) + 1)
    shown = labels[top : top + height, left : left + width]
    inside = np.bincount(shown.ravel(), minlength=len(whole))
    return {
        name: float((whole[number] - inside[number]) / whole[number])
        for number, name in enumerate(recipe.inspected, start=1)
        if inside[number] < whole[number] and name != WHOLE
    }


def polygon_mask(corners: tuple[Point, ...], size: tuple[int, int]) -> NDArray[np.bool_]:
    """The pixels whose centres lie inside a polygon, bool of ``size``.

    Of two polygons with a common side, each pixel belongs to one.
    """
    mask = np.zeros(size, bool)
    centres = np.arange(size[1]) + 0.5
    for side in zip(corners, (*corners[1:], corners[0]), strict=True):
        # From top to bottom whatever the order, so that a common side rounds alike.
        (x0, y0), (x1, y1) = sorted(side, key=lambda corner: corner[1])
        rows = np.arange(math.ceil(y0 - 0.5), math.ceil(y1 - 0.5))
        if len(rows):
            crossing = x0 + (rows + 0.5 - y0) / (y1 - y0) * (x1 - x0)
            mask[rows[0] : rows[-1] + 1] ^= centres >= crossing[:, None]
    return mask


def _largest_covered(labels: Labels, count: int) -> Labels:
    """The largest label among the rows that each of ``count`` equal shares of all rows covers."""
    edges = np.arange(count + 1) * labels.shape[0]  # of the shares, in rows, times count
    first, end = edges[:-1] // count, -(-edges[1:] // count)
    pairs = np.stack([first, end], axis=1).ravel()
    padded = np.concatenate([labels, np.zeros_like(labels[:1])])  # for the last end
    return np.maximum.reduceat(padded, pairs, axis=0)[::2]
