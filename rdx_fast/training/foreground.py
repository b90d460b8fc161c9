"""Foreground masks: where the part is, and where synthetic anomalies may therefore be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rdx_fast.cpu import usable_cores
from rdx_fast.errors import DatasetError, ImageError, listed
from rdx_fast.images import read_grey, resize_mask
from rdx_fast.preprocess import FrameWindow, unit_spec
from rdx_fast.training.frames import Frames

SEGMENTATIONS = ("grabcut", "otsu-dark", "otsu-bright")
FOREGROUNDS = ("none", "files", *SEGMENTATIONS)
SHARE = (0.01, 0.99)  # of the image; a mask of less or more has missed the part
SEGMENTED = 512  # pixels of the longer side of what is segmented for tiles
Mask = NDArray[np.bool_]
Masks = Mask | list[Mask]


@dataclass(frozen=True, slots=True)
class Foreground:
    """Foreground masks of images.

    Attributes:
        paths: the images
        masks: ``[n, height, width]`` bool, True where the part is, one for each image, or one for
            all; None for the method "none". For tiles a list with one for each image, of the size
            of its tiles together
        faults: what is wrong with a mask that cannot be used, by its index
        remedy: how other masks are made, for the error message
    """

    paths: Sequence[Path]
    masks: Masks | None = None
    faults: Mapping[int, str] = field(default_factory=dict)
    remedy: str = ""

    def usable(self, skip_bad: bool) -> tuple[list[int], Masks | None]:
        """The images to train on.

        Args:
            skip_bad: leave out images without a usable mask instead of raising

        Returns:
            Indices of the images that have a mask, and the masks of these, or the one for all.

        Raises:
            DatasetError: masks cannot be used, all of which the message lists; with ``skip_bad``,
                only if all of them are
        """
        everything = list(range(len(self.paths)))
        if self.masks is None or not self.faults:
            return everything, self.masks
        lost = len(self.faults) == len(self.masks)
        if not skip_bad or lost:
            leave = "" if lost else "; or leave these images out: skip_bad=True, --skip-bad"
            lines = self.told()
            raise DatasetError(
                f"{len(lines)} of {len(self.masks)} foreground masks cannot be used "
                f"({self.remedy}{leave}):{listed(lines, len(lines))}"
            )
        kept = [i for i in everything if i not in self.faults]
        return kept, chosen_masks(self.masks, kept)

    def told(self) -> list[str]:
        """What is wrong with the masks that cannot be used, and of which image they are."""
        for_all = self.masks is not None and len(self.masks) < len(self.paths)
        lines = (
            reason if for_all else f"{self.paths[i]}: {reason}" for i, reason in self.faults.items()
        )
        return list(dict.fromkeys(lines))


def chosen_masks(masks: Masks, which: list[int]) -> Masks:
    """Some of the masks."""
    return masks[which] if isinstance(masks, np.ndarray) else [masks[i] for i in which]


class TileMasks:
    """Masks of tiles, cut out of those of whole images.

    Args:
        masks: one for each image, see ``Foreground``
        windows: the tiles
        size: height and width of a tile
    """

    def __init__(self, masks: Masks, windows: Sequence[FrameWindow], size: tuple[int, int]) -> None:
        self._masks = masks
        self._windows = windows
        self._size = size

    def __len__(self) -> int:
        return len(self._windows)

    def __getitem__(self, index: int) -> Mask:
        image, window = self._windows[index]
        height, width = self._size
        return self._masks[image][
            window.top : window.top + height, window.left : window.left + width
        ]


def foreground_masks(
    method: str, given: Path | None, frames: Frames, height: int, width: int
) -> Foreground:
    """Make or read the foreground masks of images, in several threads.

    Args:
        method: one of ``FOREGROUNDS``
        given: for the method "files", see ``mask_files``
        frames: the images, with the tiles, if any, in their options
        height: of the masks, or of a tile, in pixels
        width: likewise

    Returns:
        The masks, always the same for the same images, and what is wrong with them.

    Raises:
        DatasetError: mask files are missing, or images of the same name share one
        MissingDependencyError: OpenCV is needed and not installed
        ValueError: "files" without files, or files for another method
    """
    if (method == "files") != (given is not None):
        raise ValueError(
            f"foreground is {method!r}, and the mask files are {given}: give files for the "
            f"foreground 'files', and for no other"
        )
    if method == "none":
        return Foreground(frames.paths)

    tiled = frames.options.tiles is not None

    def size(index: int) -> tuple[int, int]:
        """Of an image's mask."""
        return frames.tiling(index, (height, width)).size if tiled else (height, width)

    if method == "files":
        files = mask_files(given, frames.paths)
        if tiled and len(files) == 1:
            files *= len(frames)  # since images may have several sizes
        found = _all(lambda i: _read(files[i], *size(i)), len(files))
        remedy = (
            "give one image for all parts, or a folder with a .png of each image's name; white "
            "(255) marks the part"
        )
    else:
        found = _all(_segmenting(method, frames, size, tiled), len(frames))
        others = ", ".join(name for name in SEGMENTATIONS if name != method)
        remedy = (
            f"{method} does not find the part in them: make the masks in another way ({others}), "
            f"give masks that you drew, or train without, which is right where the part fills the "
            f"image"
        )
    faults = {i: fault for i, (_, fault) in enumerate(found) if fault}
    masks = [mask for mask, _ in found]
    return Foreground(frames.paths, masks if tiled else np.stack(masks), faults, remedy)


def _all(mask: Callable[[int], tuple[Mask, str]], count: int) -> list[tuple[Mask, str]]:
    with ThreadPoolExecutor(usable_cores()) as pool:
        return list(pool.map(mask, range(count)))


def _segmenting(
    method: str, frames: Frames, size: Callable[[int], tuple[int, int]], reduced: bool
) -> Callable[[int], tuple[Mask, str]]:
    """A function that makes the mask of an image; ``reduced``: from a smaller image."""
    from rdx_fast.training.segment import segment

    def mask(index: int) -> tuple[Mask, str]:
        height, width = size(index)
        scale = max(1.0, max(height, width) / SEGMENTED) if reduced else 1.0
        spec = unit_spec(round(height / scale), round(width / scale))
        pixels = frames.input(index, spec).transpose(1, 2, 0) * 255
        found = segment(np.ascontiguousarray(pixels.round(), np.uint8), method)
        share = found.mean()
        if scale > 1:
            found = resize_mask(found.astype(np.uint8) * 255, height, width)
        usable = SHARE[0] <= share <= SHARE[1]
        return found, "" if usable else f"{method} takes {share:.1%} of the image for the part"

    return mask


def _read(file: Path, height: int, width: int) -> tuple[Mask, str]:
    """A mask and what is wrong with it."""
    try:
        mask = resize_mask(read_grey(file), height, width)
    except ImageError as error:
        return np.zeros((height, width), np.bool_), f"mask {error}"
    return mask, "" if mask.any() else f"mask {file} is black"


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
