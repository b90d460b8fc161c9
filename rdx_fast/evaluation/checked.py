"""Checks a test set before it is scored: images that cannot be read, masks that cannot be used."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from rdx_fast.cpu import usable_cores
from rdx_fast.datasets import LabelledImage, has_masks
from rdx_fast.errors import DatasetError, ImageError, listed
from rdx_fast.images import read_grey, read_image
from rdx_fast.kernels.resize_normalize import Crop, Levels
from rdx_fast.preprocess import FrameOptions
from rdx_fast.recipe.tiling import TileSpec


@dataclass(frozen=True, slots=True)
class BadImage:
    """A test image that cannot be evaluated.

    Attributes:
        path: the image file
        reason: what is wrong with it or with its mask
    """

    path: str
    reason: str

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


@dataclass(frozen=True, slots=True)
class CheckedSet:
    """A test set whose images and masks can all be used.

    Attributes:
        images: the images that can be evaluated
        left_out: the others, which are left out
        types_left_out: defect types without an image that can be evaluated
        pixel_format: that the images are scored in, as for ``Detector.score``
        crop: top, left, height and width in pixels of what is scored, likewise
        levels: of images with 16 bits per channel, likewise
    """

    images: Sequence[LabelledImage]
    left_out: Sequence[BadImage]
    types_left_out: Sequence[str] = ()
    pixel_format: str | None = None
    crop: Crop | None = None
    levels: Levels | None = None


def check_images(
    images: Sequence[LabelledImage],
    skip_bad: bool = False,
    on_image: Callable[[int, int], None] = lambda done, total: None,
    pixel_format: str | None = None,
    crop: Crop | None = None,
    levels: Levels | None = None,
    tiles: TileSpec | None = None,
) -> CheckedSet:
    """Decode every image of a test set and its mask, in several threads.

    An image is bad if it cannot be read or does not fit the crop, the pixel format, the levels or
    the tiles, or if it is defective in a set with masks and its mask is missing, cannot be read,
    has another size than the image or marks no pixel, or none inside the crop.

    Args:
        images: the labelled images
        skip_bad: leave bad images out instead of raising
        on_image: called with the number of images done and in all
        pixel_format: that the images will be scored in, as for ``Detector.score``
        crop: top, left, height and width in pixels of what will be scored, likewise
        levels: of images with 16 bits per channel, likewise
        tiles: that they will be scored in; None for whole images

    Returns:
        The images that can be used, in order, and those that are left out.

    Raises:
        DatasetError: images are bad and ``skip_bad`` is false, or no good or no defective image
            of those given would be left; the message lists all bad images
    """
    masked = has_masks(images)
    options = FrameOptions(pixel_format, crop, levels, tiles)
    left_out, usable = [], []
    with ThreadPoolExecutor(usable_cores()) as pool:
        reasons = pool.map(lambda image: _fault(image, masked, options), images)
        for i, (image, reason) in enumerate(zip(images, reasons, strict=True)):
            if reason is None:
                usable.append(image)
            else:
                left_out.append(BadImage(str(image.path), reason))
            on_image(i + 1, len(images))
    found = f"{len(left_out)} of {len(images)} test images cannot be used"
    if left_out and not skip_bad:
        raise DatasetError(
            f"{found}: repair or remove them, or leave them out (skip_bad=True, --skip-bad):"
            f"{listed(left_out, len(left_out))}"
        )
    given, kept = ({image.is_defective for image in of} for of in (images, usable))
    if lost := [("good", "defective")[kind] for kind in sorted(given - kept)]:
        raise DatasetError(
            f"{found}, and without them no {' or '.join(lost)} image is left. Repair them, or add "
            f"others:{listed(left_out, len(left_out))}"
        )
    types, found_types = ({i.defect_type for i in of if i.is_defective} for of in (images, usable))
    lost_types = sorted(types - found_types)
    return CheckedSet(usable, left_out, lost_types, pixel_format, crop, levels)


def _fault(image: LabelledImage, masked: bool, options: FrameOptions) -> str | None:
    """Why an image cannot be evaluated; ``masked``: whether the set has masks."""
    try:
        frame = read_image(image.path)
        shown = options.check(frame)
    except ImageError as error:
        return error.reason
    except ValueError as error:
        return str(error)
    height, width = frame.shape[:2]
    if not masked or not image.is_defective:
        return None
    if image.mask is None:
        return "has no mask, unlike other images of the set"
    fault = _mask_fault(image.mask, height, width, image.mask_above, shown)
    return f"mask {image.mask}: {fault}" if fault else None


def _mask_fault(path: Path, height: int, width: int, above: int, crop: Crop) -> str | None:
    try:
        mask = read_grey(path)
    except ImageError as error:
        return error.reason
    if mask.shape != (height, width):
        rows, columns = mask.shape
        return f"has {columns} x {rows} pixels, but the image {width} x {height}"
    if not (mask > above).any():
        return f"marks no pixel: wanted values above {above} at the defect"
    top, left, rows, columns = crop
    if not (mask[top : top + rows, left : left + columns] > above).any():
        return "marks no pixel inside the crop: the defect is not scored"
    return None
