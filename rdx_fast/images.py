"""Finds image files, and decodes them to uint8 or uint16 arrays."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from rdx_fast.cpu import usable_cores
from rdx_fast.deep_images import is_deep, read_deep, unsupported
from rdx_fast.errors import DatasetError, ImageError
from rdx_fast.kernels.resize_normalize import WHITE, WHITEST, Levels, Pixels, check_levels

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


def read_image(path: Path | str) -> Pixels:
    """Decode an image file.

    Args:
        path: the file

    Returns:
        [H, W] for a grey image, else [H, W, 3] RGB; uint8, or uint16 for PNG and TIFF files with 16
        bits per channel.

    Raises:
        ImageError: the file is missing, truncated, not an image, or has a pixel format that is not
            supported; the message names the file
    """
    try:
        with Image.open(path) as image:
            if is_deep(image):
                return read_deep(image, path)
            mode = _TAKEN_AS.get(image.mode)
            if mode is None:
                raise unsupported(path, image)
            return np.array(image.convert(mode))
    except FileNotFoundError:
        raise ImageError(path, "no such file") from None
    except UnidentifiedImageError:
        raise ImageError(path, "not an image, or in an unknown format") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ImageError(path, f"cannot be decoded: {error}") from error


def to_8bit(frame: Pixels, levels: Levels | None = None) -> NDArray[np.uint8]:
    """A frame in 8 bits, for people to look at.

    Args:
        frame: uint8 or uint16, [H, W] or [H, W, 3]
        levels: as for ``Detector.score``

    Returns:
        uint8 of the same shape: black is 0, white is 255. A uint8 frame is returned as it is.

    Raises:
        ValueError: the levels do not fit the frame
    """
    black, white = check_levels(frame.dtype, levels)
    if frame.dtype == np.uint8:
        return frame.astype(np.uint8, copy=False)
    return _table(black, white)[frame]


@lru_cache(maxsize=8)
def _table(black: int, white: int) -> NDArray[np.uint8]:
    """The 8-bit level of each 16-bit one."""
    level = np.clip((np.arange(WHITEST + 1) - black) / (white - black), 0, 1)
    return (level * WHITE).round().astype(np.uint8)


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
        ImageError: as for ``read_image``, and for a mask with 16 bits per channel
    """
    image = read_image(path)
    if image.dtype != np.uint8:
        raise ImageError(path, "has 16 bits per channel: save a mask with 8, white (255) inside")
    mask = image.astype(np.uint8, copy=False)
    return mask if mask.ndim == 2 else mask.max(axis=2)


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


def find_bad_images(
    paths: Iterable[Path], check: Callable[[Pixels], object] = lambda frame: None
) -> list[ImageError]:
    """Decode every file, in several threads.

    Args:
        paths: the image files
        check: called with each image; raises ``ValueError`` for one that must not be used

    Returns:
        The errors of the files that cannot be read or used, in order.
    """

    def error_of(path: Path) -> ImageError | None:
        try:
            check(read_image(path))
        except ImageError as error:
            return error
        except ValueError as error:
            return ImageError(path, str(error))
        return None

    with ThreadPoolExecutor(usable_cores()) as pool:
        return [error for error in pool.map(error_of, paths) if error is not None]
