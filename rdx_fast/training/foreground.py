"""Foreground masks: where the part is, and where synthetic anomalies may therefore be."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rdx_fast.errors import DatasetError, listed
from rdx_fast.images import read_grey, resize_mask
from rdx_fast.preprocess import to_input, unit_spec
from rdx_fast.training.frames import Frames

FOREGROUNDS = ("none", "grabcut", "otsu-dark", "otsu-bright")
SHARE = (0.01, 0.99)  # of the image; a mask of less or more has missed the part

Masks = NDArray[np.bool_]


def foreground_masks(
    method: str, files: Sequence[Path], frames: Frames, height: int, width: int
) -> Masks | None:
    """Make or read the foreground masks of images.

    Args:
        method: one of ``FOREGROUNDS``
        files: mask files, for the method "none"
        frames: the images
        height: of the masks in pixels
        width: likewise

    Returns:
        ``[n, height, width]`` bool, True where the part is, with one mask for each image or one for
        all; None without method and files

    Raises:
        DatasetError: a mask is black, or one that was made has missed the part
        ImageError: a file cannot be read
        MissingDependencyError: OpenCV is needed and not installed
    """
    if method != "none":
        return make_masks(method, frames, height, width)
    return read_masks(files, height, width) if files else None


def make_masks(method: str, frames: Frames, height: int, width: int) -> Masks:
    """Segment the part in each image, resized to the network's input, in several threads.

    Args:
        method: one of ``FOREGROUNDS`` but "none"
        frames: the images
        height: of the masks in pixels
        width: likewise

    Returns:
        ``[n, height, width]`` bool, True where the part is; always the same for the same images

    Raises:
        DatasetError: masks cover almost nothing or almost everything
        ImageError: a file cannot be read
        MissingDependencyError: OpenCV is not installed
    """
    from rdx_fast.training.segment import segment

    spec = unit_spec(height, width)

    def mask(index: int) -> Masks:
        pixels = to_input([frames[index]], spec)[0].transpose(1, 2, 0) * 255
        return segment(np.ascontiguousarray(pixels.round(), np.uint8), method)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        masks = np.stack(list(pool.map(mask, range(len(frames)))))
    shares = masks.mean(axis=(1, 2))
    missed = [
        f"{path}: {share:.1%} of the image"
        for path, share in zip(frames.paths, shares, strict=True)
        if not SHARE[0] <= share <= SHARE[1]
    ]
    if missed:
        others = ", ".join(name for name in FOREGROUNDS[1:] if name != method)
        raise DatasetError(
            f"{method} does not find the part in {len(missed)} of {len(frames)} images: make the "
            f"foreground masks in another way ({others}), give masks that you drew, or train "
            f"without, which is right where the part fills the image:{listed(missed)}"
        )
    return masks


def mask_files(given: Path | None, images: Sequence[Path]) -> list[Path]:
    """Find the mask files of images.

    Args:
        given: one mask file for all images, or a folder with a .png of each image's name; None for
            no masks
        images: images of good parts

    Returns:
        the files, one or as many as images; empty if ``given`` is None

    Raises:
        DatasetError: a file is missing
    """
    if given is None:
        return []
    if not given.exists():
        raise DatasetError(
            f"foreground is {given}, where there is nothing: give an image for all parts, a folder "
            f"with a .png of each image's name, or a way to make masks (auto, "
            f"{', '.join(FOREGROUNDS[1:])})"
        )
    files = [given / f"{path.stem}.png" for path in images] if given.is_dir() else [given]
    if missing := [path for path in files if not path.is_file()]:
        raise DatasetError(
            f"{len(missing)} foreground masks are missing (give one image for all parts, or a "
            f"folder with a .png of each image's name):{listed(missing)}"
        )
    return files


def read_masks(files: Sequence[Path], height: int, width: int) -> Masks:
    """Read foreground masks.

    Args:
        files: images, white where the part is
        height: to resize them to, in pixels
        width: likewise

    Returns:
        ``[n, height, width]`` bool, True where the part is

    Raises:
        DatasetError: a mask is black
        ImageError: a file cannot be read
    """
    masks = np.empty((len(files), height, width), np.bool_)
    for mask, path in zip(masks, files, strict=True):
        mask[...] = resize_mask(read_grey(path), height, width)
        if not mask.any():
            raise DatasetError(
                f"foreground mask {path} is black: white (255) marks the part; draw it white, or "
                f"leave the mask out"
            )
    return masks
