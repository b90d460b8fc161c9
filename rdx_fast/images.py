"""Finds image files and decodes them to uint8 arrays."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from rdx_fast.cpu import usable_cores
from rdx_fast.errors import DatasetError, ImageError

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})
# Pillow modes with at most 8 bits per channel, and the mode that each is converted to.
_TAKEN_AS = dict.fromkeys(("1", "L", "LA"), "L") | dict.fromkeys(
    ("RGB", "RGBA", "RGBX", "P", "CMYK", "YCbCr"), "RGB"
)


def list_images(folder: Path) -> list[Path]:
    """List all images in a folder and its subfolders. Hidden files and folders are ignored.

    Args:
        folder: the folder

    Returns:
        The image files, sorted by path.

    Raises:
        DatasetError: the folder is missing or holds no images
    """
    if not folder.is_dir():
        raise DatasetError(f"{folder} is not a folder: give a folder of images")
    found = sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in SUFFIXES
        and path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )
    if not found:
        kinds = ", ".join(sorted(SUFFIXES))
        raise DatasetError(f"{folder} holds no images: wanted at least one file of {kinds}")
    return found


def read_image(path: Path | str) -> NDArray[np.uint8]:
    """Decode an image file.

    Args:
        path: the file

    Returns:
        uint8 [H, W] for a grey image, else uint8 [H, W, 3] RGB.

    Raises:
        ImageError: the file is missing, truncated, not an image, or has more than 8 bits per
            channel; the message names the file
    """
    try:
        with Image.open(path) as image:
            mode = _TAKEN_AS.get(image.mode)
            if mode is None:
                raise ImageError(
                    path,
                    f"pixel format {image.mode} is not supported: save it with 8 bits per "
                    f"channel, grey or RGB",
                )
            return np.array(image.convert(mode))
    except FileNotFoundError:
        raise ImageError(path, "no such file") from None
    except UnidentifiedImageError:
        raise ImageError(path, "not an image, or in an unknown format") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ImageError(path, f"cannot be decoded: {error}") from error


def image_size(path: Path | str) -> tuple[int, int]:
    """Height and width of an image file in pixels, without decoding it.

    Raises:
        ImageError: the file is missing or not an image
    """
    try:
        with Image.open(path) as image:
            return image.height, image.width
    except FileNotFoundError:
        raise ImageError(path, "no such file") from None
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise ImageError(path, f"cannot be read: {error}") from error


def read_grey(path: Path | str) -> NDArray[np.uint8]:
    """Decode a mask.

    Args:
        path: the file

    Returns:
        uint8 [H, W]; the brightest channel of a colour image.

    Raises:
        ImageError: as for ``read_image``
    """
    image = read_image(path)
    return image if image.ndim == 2 else image.max(axis=2)


def resize_mask(
    grey: NDArray[np.uint8], height: int, width: int, share: float = 0.5
) -> NDArray[np.bool_]:
    """Resize a mask bilinearly.

    Args:
        grey: uint8 [H, W], white (255) inside
        height: new height in pixels
        width: new width in pixels
        share: share of a pixel that must be exceeded by white, 0 to 1

    Returns:
        bool [height, width], True where more than ``share`` of a pixel is white.
    """
    resized = Image.fromarray(grey).resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(resized) > share * 255


def find_bad_images(paths: Iterable[Path]) -> list[ImageError]:
    """Decode every file, in several threads.

    Args:
        paths: the image files

    Returns:
        The errors of the files that cannot be read, in order.
    """

    def check(path: Path) -> ImageError | None:
        try:
            read_image(path)
        except ImageError as error:
            return error
        return None

    with ThreadPoolExecutor(usable_cores()) as pool:
        return [error for error in pool.map(check, paths) if error is not None]
