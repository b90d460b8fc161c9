"""Photographs on disk: finding them and decoding them to uint8 frames."""

from __future__ import annotations

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from rdx_fast.errors import DatasetError, ImageError

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})
# Pillow's pixel formats of 8 bits a channel or less, and what each is decoded to.
_TAKEN_AS = dict.fromkeys(("1", "L", "LA"), "L") | dict.fromkeys(
    ("RGB", "RGBA", "RGBX", "P", "CMYK", "YCbCr"), "RGB"
)


def list_images(folder: Path) -> list[Path]:
    """All images below ``folder``, sorted by path; hidden files and folders are passed over.

    Raises ``DatasetError`` if the folder is missing or holds none.
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
    """Decode an image: ``[H, W]`` uint8 if it is grey, else ``[H, W, 3]`` uint8 RGB.

    Raises ``ImageError`` naming the file if it is missing, truncated, no image, or deeper than
    8 bits a channel.
    """
    try:
        with Image.open(path) as image:
            mode = _TAKEN_AS.get(image.mode)
            if mode is None:
                raise ImageError(
                    path,
                    f"pixel format {image.mode} is not taken: save it with 8 bits a channel, "
                    f"grey or RGB",
                )
            return np.array(image.convert(mode))
    except FileNotFoundError:
        raise ImageError(path, "no such file") from None
    except UnidentifiedImageError:
        raise ImageError(path, "not an image, or of an unknown format") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ImageError(path, f"cannot be decoded: {error}") from error


def read_grey(path: Path | str) -> NDArray[np.uint8]:
    """Decode a mask: ``[H, W]`` uint8, of a coloured one the brightest channel.

    Raises ``ImageError`` as :func:`read_image`.
    """
    image = read_image(path)
    return image if image.ndim == 2 else image.max(axis=2)


def resize_mask(
    grey: NDArray[np.uint8], height: int, width: int, share: float = 0.5
) -> NDArray[np.bool_]:
    """A mask ``[H, W]`` uint8, white inside, resized bilinearly: ``[height, width]`` bool, True
    where more than ``share`` of a pixel is white."""
    resized = Image.fromarray(grey).resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(resized) > share * 255


def find_bad_images(paths: Iterable[Path]) -> list[ImageError]:
    """Decode every file and return the errors of those that fail, in order."""

    def check(path: Path) -> ImageError | None:
        try:
            read_image(path)
        except ImageError as error:
            return error
        return None

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return [error for error in pool.map(check, paths) if error is not None]
