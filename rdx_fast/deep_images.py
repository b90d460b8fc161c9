"""Image files with 16 bits per channel, of which Pillow reads colour in part and writes none."""

from __future__ import annotations

import struct
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rdx_fast.errors import ImageError
from rdx_fast.kernels.resize_normalize import WHITEST, Pixels

_BITS_PER_SAMPLE = 258  # TIFF's tag
# Of 16-bit colour Pillow keeps the high bytes. Read with the other byte order, it keeps the low
# ones. "N" is the machine's order.
_SWAPPED = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}
_DEEP_COLOURS = {f"{kind};16{order}" for kind in ("RGB", "RGBA", "RGBX") for order in _SWAPPED}


def is_deep(image: Image.Image) -> bool:
    """Whether a file that is not decoded yet has more than 8 bits per channel."""
    if image.format == "TIFF":
        return max(image.tag_v2.get(_BITS_PER_SAMPLE, (1,))) > 8  # type: ignore[attr-defined]
    return image.format == "PNG" and any(raw.endswith("16B") for raw in _raw_modes(image))


def read_deep(image: Image.Image, path: Path | str) -> NDArray[np.uint16]:
    """Decode a file with more than 8 bits per channel.

    Args:
        image: the file, opened by Pillow and not decoded yet
        path: likewise, to open it again

    Returns:
        uint16 [H, W], or [H, W, 3] RGB; alpha is left out.

    Raises:
        ImageError: its pixel format is not supported
        OSError: it cannot be decoded
    """
    if image.mode == "I" or image.mode.startswith("I;16"):
        pixels = np.array(image)
        if pixels.min() < 0 or pixels.max() > WHITEST:
            raise ImageError(
                path,
                f"holds grey levels from {pixels.min()} to {pixels.max()}: save it with 16 bits "
                f"per channel, 0 to {WHITEST}",
            )
        return pixels.astype(np.uint16)
    if not _raw_modes(image) <= _DEEP_COLOURS:
        raise unsupported(path, image)
    high = np.array(image)
    with Image.open(path) as again:
        again.tile = [_in_other_order(tile) for tile in again.tile]
        low = np.array(again)
    return (high[..., :3].astype(np.uint16) << 8) | low[..., :3]


def _raw_modes(image: Image.Image) -> set[str]:
    """How Pillow's decoders will take the file's pixels, such as "RGB;16B"."""
    return {
        str(t[3] if isinstance(t[3], str) else t[3][0]) for t in getattr(image, "tile", ()) if t[3]
    }


def _in_other_order(tile: Any) -> Any:
    raw, *rest = [tile.args] if isinstance(tile.args, str) else tile.args
    other = raw[:-1] + _SWAPPED[raw[-1]]
    return tile._replace(args=(other, *rest) if rest else other)


def unsupported(path: Path | str, image: Image.Image) -> ImageError:
    """The refusal of a file with another pixel format."""
    found = ", ".join(sorted(_raw_modes(image))) or image.mode
    return ImageError(
        path,
        f"pixel format {found} is not supported: save it with 8 or 16 bits per channel, grey or "
        f"RGB",
    )


def write_png(path: Path | str, pixels: Pixels, compression: int = 6) -> None:
    """Write a PNG file, which ``read_image`` reads as it was.

    Args:
        path: the file
        pixels: uint8 or uint16, [H, W] or [H, W, 3] RGB
        compression: zlib's level, 0 to 9

    Raises:
        OSError: the file cannot be written
    """
    if pixels.dtype == np.uint8 or pixels.ndim == 2:
        Image.fromarray(pixels).save(path, format="PNG", compress_level=compression)
        return
    # 16-bit RGB, which Pillow does not write. Each row is stored as its difference to the one
    # above (PNG's filter 2).
    height, width = pixels.shape[:2]
    rows = np.full((height, 1 + 6 * width), 2, np.uint8)
    values = pixels.astype(">u2").view(np.uint8).reshape(height, -1)
    rows[:, 1:] = np.diff(values, axis=0, prepend=np.uint8(0))
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    data = zlib.compress(rows.tobytes(), compression)
    with Path(path).open("wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n")
        for name, content in ((b"IHDR", header), (b"IDAT", data), (b"IEND", b"")):
            checked = name + content
            file.write(struct.pack(">I", len(content)) + checked)
            file.write(struct.pack(">I", zlib.crc32(checked)))
