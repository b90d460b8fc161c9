"""Foreground masks: where the part is, and where synthetic anomalies may therefore be."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rdx_fast.errors import DatasetError, ImageError, listed
from rdx_fast.images import read_grey, resize_mask
from rdx_fast.preprocess import to_input, unit_spec
from rdx_fast.training.frames import Frames

SEGMENTATIONS = ("grabcut", "otsu-dark", "otsu-bright")
FOREGROUNDS = ("none", "files", *SEGMENTATIONS)
SHARE = (0.01, 0.99)  # of the image; a mask of less or more has missed the part
# MVTec AD's categories, by the foreground of the published training.
_PUBLISHED = {
    "grabcut": ("bottle", "cable", "hazelnut", "metal_nut", "pill", "toothbrush", "zipper"),
    "otsu-dark": ("capsule", "screw"),
    "none": ("carpet", "grid", "leather", "tile", "transistor", "wood"),
}

Mask = NDArray[np.bool_]


def published_foreground(folder: str) -> str | None:
    """The one of ``FOREGROUNDS`` that the published training uses for a category of MVTec AD.

    Args:
        folder: name of the category's folder, which may have other words around it, such as
            "mvtec_screw_256"

    Returns:
        "grabcut", "otsu-dark" or "none"; None where the folder has no category's name
    """
    for way, categories in _PUBLISHED.items():
        if any(re.search(f"(?<![a-z]){name}(?![a-z])", folder) for name in categories):
            return way
    return None


def foreground_masks(
    method: str,
    given: Path | None,
    frames: Frames,
    height: int,
    width: int,
    skip_bad: bool = False,
) -> tuple[list[int], Mask | None]:
    """Make or read the foreground masks of images, in several threads.

    Args:
        method: one of ``FOREGROUNDS``
        given: for the method "files", see ``mask_files``
        frames: the images
        height: of the masks in pixels
        width: likewise
        skip_bad: leave out images without a usable mask instead of raising

    Returns:
        Indices of the images that have a mask, and the masks: ``[n, height, width]`` bool, True
        where the part is, one for each of these images, or one for all; None for "none". They are
        always the same for the same images.

    Raises:
        DatasetError: masks cannot be used, all of which the message lists
        MissingDependencyError: OpenCV is needed and not installed
        ValueError: "files" without files, or files for another method
    """
    if (method == "files") != (given is not None):
        raise ValueError(
            f"foreground is {method!r}, and the mask files are {given}: give files for the "
            f"foreground 'files', and for no other"
        )
    everything = list(range(len(frames)))
    if method == "none":
        return everything, None
    if method == "files":
        files = mask_files(given, frames.paths)
        masks, faults = _each(lambda i: _read(files[i], height, width), len(files))
        wanted = (
            "give one image for all parts, or a folder with a .png of each image's name; white "
            "(255) marks the part"
        )
    else:
        masks, faults = _each(_segmenting(method, frames, height, width), len(frames))
        others = ", ".join(name for name in SEGMENTATIONS if name != method)
        wanted = (
            f"{method} does not find the part in them: make the masks in another way ({others}), "
            f"give masks that you drew, or train without, which is right where the part fills the "
            f"image"
        )
    if faults and (not skip_bad or len(masks) < len(frames)):
        lines = list(faults.values())
        raise DatasetError(
            f"{len(faults)} of {len(masks)} foreground masks cannot be used ({wanted}; or leave "
            f"these images out: skip_bad=True, --skip-bad):{listed(lines, len(lines))}"
        )
    kept = [i for i in everything if i not in faults]
    return kept, masks[kept] if len(masks) == len(frames) else masks


def _each(mask: Callable[[int], Mask | str], count: int) -> tuple[Mask, dict[int, str]]:
    """All masks, and by index what is wrong with those that are empty for it."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = list(pool.map(mask, range(count)))
    faults = {i: one for i, one in enumerate(found) if isinstance(one, str)}
    shape = next((one.shape for one in found if not isinstance(one, str)), (0, 0))
    masks = [np.zeros(shape, np.bool_) if isinstance(one, str) else one for one in found]
    return np.stack(masks), faults


def _segmenting(
    method: str, frames: Frames, height: int, width: int
) -> Callable[[int], Mask | str]:
    from rdx_fast.training.segment import segment

    spec = unit_spec(height, width)

    def mask(index: int) -> Mask | str:
        pixels = to_input([frames[index]], spec)[0].transpose(1, 2, 0) * 255
        found = segment(np.ascontiguousarray(pixels.round(), np.uint8), method)
        share = found.mean()
        if SHARE[0] <= share <= SHARE[1]:
            return found
        return f"{frames.paths[index]}: {share:.1%} of the image"

    return mask


def _read(file: Path, height: int, width: int) -> Mask | str:
    try:
        mask = resize_mask(read_grey(file), height, width)
    except ImageError as error:
        return f"mask {error}"
    return mask if mask.any() else f"mask {file} is black"


def mask_files(given: Path | None, images: Sequence[Path]) -> list[Path]:
    """Find the mask files of images.

    Args:
        given: one mask file for all images, or a folder with a .png of each image's name; None for
            no masks
        images: images of good parts

    Returns:
        the files, one or as many as images; empty if ``given`` is None

    Raises:
        DatasetError: there is no such file or folder, or images have the same name
    """
    if given is None:
        return []
    if not given.exists():
        raise DatasetError(
            f"foreground is {given}, where there is nothing: give an image for all parts, a folder "
            f"with a .png of each image's name, or a way to make masks (auto, "
            f"{', '.join(SEGMENTATIONS)})"
        )
    if not given.is_dir():
        return [given]
    names = Counter(path.stem for path in dict.fromkeys(images))
    if shared := [name for name, count in names.items() if count > 1]:
        raise DatasetError(
            f"{len(shared)} names belong to several images, whose masks in {given} cannot be told "
            f"apart: rename the images:{listed(shared)}"
        )
    return [given / f"{path.stem}.png" for path in images]
