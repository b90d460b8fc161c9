"""Camera frame to network input: antialiased bilinear resize, then normalisation.

Both are linear and separable: with ``R_h [h, H]`` and ``R_w [w, W]`` the banded matrices of PIL's
bilinear filter, ``out[c] = (R_h @ frame[..., c] @ R_w.T / 255 - mean[c]) / std[c]``. Nothing is
rounded to grey levels on the way, so the result lies within one level of PIL's. A crop is a band
that starts later; demosaicing is linear as well and is folded into the bands.

A frame of 10, 12 or 16 bits comes with the grey levels of black and white. Each pixel is clipped
to them before anything is filtered, as a conversion to 8 bits would do: a reflection brighter than
white counts as white, and does not spread into its neighbours. Grey levels then count from black,
and the span from black to white takes the place of 255.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rdx_fast.kernels.native import ISAS, check_threads, native
from rdx_fast.kernels.resize_taps import Window, resize_matrix, window_taps

# Bayer patterns by their first two rows (GenICam's BayerRG8 is rggb): where red lies, row, column.
BAYER = {"bayer_rggb": (0, 0), "bayer_grbg": (0, 1), "bayer_gbrg": (1, 0), "bayer_bggr": (1, 1)}
PIXEL_FORMATS = ("rgb", "bgr", "mono", *BAYER)

WHITE = 255  # of uint8
WHITEST = 65535  # of uint16

Crop = tuple[int, int, int, int]
Levels = tuple[int, int]
Pixels = NDArray[np.uint8 | np.uint16]
NetworkInput = NDArray[np.float32] | NDArray[np.float16]


def resize_normalize(
    frame: Pixels,
    out: NetworkInput,
    mean: Sequence[float],
    std: Sequence[float],
    pixel_format: str | None = None,
    crop: Crop | None = None,
    threads: int = 1,
    levels: Levels | None = None,
    window: Window | None = None,
) -> None:
    """Resize a frame and normalise it into ``out``.

    Bayer patterns are demosaiced bilinearly.

    Args:
        frame: uint8 or uint16 [H, W, 3] or [H, W], any strides; a row pitch costs nothing
        out: float32 or float16 [3, h, w], any strides (pass a channels-last buffer transposed), to
            which the result is written
        mean: of the three channels, for values in [0, 1]
        std: likewise
        pixel_format: one of ``PIXEL_FORMATS``; None is "rgb" for three channels and "mono", which
            fills all three, for one
        crop: top, left, height, width in frame pixels
        threads: CPU threads, for the call alone
        levels: grey levels of black and white of a uint16 frame, 0 <= black < white <= 65535, such
            as (0, 4095) for 12 bits; pixels beyond them are clipped. None for uint8, which goes
            from 0 to 255
        window: ``out`` is this part of the resized frame; None for all of it

    Raises:
        ValueError: another dtype, shape or pixel format, a crop that exceeds the frame, levels that
            do not fit it, or a window that exceeds the resized frame
    """
    pixel_format = _check(frame, out, pixel_format)
    crop = check_crop(frame.shape[:2], crop)
    black, white = check_levels(frame.dtype, levels)
    window = _check_window(out, window)
    check_threads(threads)
    if native is None:
        resize_normalize_numpy(frame, out, mean, std, pixel_format, crop, levels, window)
        return
    bayer = pixel_format in BAYER
    rows, columns = window_taps(frame.shape, crop, window, out.shape[1:], bayer)
    span = white - black
    gain, offset = affine(mean, std, span)
    kind, red = ("bayer", BAYER[pixel_format]) if bayer else (pixel_format, (0, 0))
    native.resize_normalize(
        frame,
        out,
        kind,
        *red,
        black,
        span,
        rows,
        columns,
        gain,
        offset,
        threads=threads,
        isa=ISAS[0],
    )


def resize_normalize_numpy(
    frame: Pixels,
    out: NetworkInput,
    mean: Sequence[float],
    std: Sequence[float],
    pixel_format: str | None = None,
    crop: Crop | None = None,
    levels: Levels | None = None,
    window: Window | None = None,
) -> None:
    """Plain reference of :func:`resize_normalize`."""
    pixel_format = _check(frame, out, pixel_format)
    top, left, height, width = check_crop(frame.shape[:2], crop)
    black, white = check_levels(frame.dtype, levels)
    if levels is not None:
        frame = np.clip(frame, black, white) - np.uint16(black)
    window = _check_window(out, window)
    rows, vertical = _axis(top, height, window.height, window.top, out.shape[1])
    columns, horizontal = _axis(left, width, window.width, window.left, out.shape[2])
    resized = _planes(frame, pixel_format, rows, columns)
    if vertical is not None:
        resized = vertical @ resized
    if horizontal is not None:
        resized = resized @ horizontal.T
    gain, offset = affine(mean, std, white - black)
    out[...] = resized * gain[:, None, None] + offset[:, None, None]


def _axis(
    start: int, length: int, out_size: int, first: int, count: int
) -> tuple[slice, NDArray[np.float32] | None]:
    """The pixels of an axis that ``count`` outputs draw on, and the matrix ``[count, pixels]`` from
    them; None where the outputs are the pixels."""
    if length == out_size:
        return slice(start + first, start + first + count), None
    matrix = resize_matrix(length, out_size)[first : first + count]
    used = np.flatnonzero(matrix.any(axis=0))
    begin, end = int(used[0]), int(used[-1]) + 1
    return slice(start + begin, start + end), matrix[:, begin:end].astype(np.float32)


def _planes(frame: Pixels, pixel_format: str, rows: slice, columns: slice) -> NDArray[np.float32]:
    """Red, green and blue ``[3, rows, columns]`` of some pixels; of a mono frame one plane."""
    if pixel_format in BAYER:
        # Demosaicing draws on neighbours; an even number of lines before keeps the pattern.
        y, x = (max(0, part.start // 2 * 2 - 2) for part in (rows, columns))
        planes = demosaic_numpy(frame[y : rows.stop + 2, x : columns.stop + 2], pixel_format)
        return planes[:, rows.start - y : rows.stop - y, columns.start - x : columns.stop - x]
    part = frame[rows, columns].astype(np.float32)
    if pixel_format == "mono":
        return part[None]
    return part[..., :: -1 if pixel_format == "bgr" else 1].transpose(2, 0, 1)


def demosaic_numpy(frame: Pixels, pattern: str) -> NDArray[np.float32]:
    """Bilinear demosaicing of ``[H, W]`` to red, green and blue planes ``[3, H, W]`` float32.

    Neighbours beyond the edge are mirrored about it.
    """
    row, column = BAYER[pattern]
    height, width = frame.shape
    raw = np.pad(frame.astype(np.float32), 1, mode="reflect")
    cross = (raw[:-2, 1:-1] + raw[2:, 1:-1] + raw[1:-1, :-2] + raw[1:-1, 2:]) / 4
    y, x = np.indices((height + 2, width + 2)) - 1
    red = (y % 2 == row) & (x % 2 == column)
    blue = (y % 2 != row) & (x % 2 != column)
    green = ~(red | blue)[1:-1, 1:-1]
    planes = [np.where(green, raw[1:-1, 1:-1], cross)]
    for own in (red, blue):
        lone = np.where(own, raw, 0)
        tall = lone[1:-1] + (lone[:-2] + lone[2:]) / 2
        planes.append(tall[:, 1:-1] + (tall[:, :-2] + tall[:, 2:]) / 2)
    return np.stack([planes[1], planes[0], planes[2]])


def affine(
    mean: Sequence[float], std: Sequence[float], span: int = WHITE
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Gain and offset per channel that take grey levels to normalised values.

    Args:
        mean: of the three channels, for values in [0, 1]
        std: likewise
        span: grey levels from black, which is 0, to white
    """
    return _affine(tuple(mean), tuple(std), span)


@lru_cache(maxsize=64)
def _affine(
    mean: tuple[float, ...], std: tuple[float, ...], span: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    m, s = np.array(mean, np.float64), np.array(std, np.float64)
    gain, offset = (1 / (span * s)).astype(np.float32), (-m / s).astype(np.float32)
    gain.flags.writeable = offset.flags.writeable = False
    return gain, offset


def check_pixel_format(shape: tuple[int, ...], pixel_format: str | None) -> str:
    """The pixel format of a frame of ``shape``. Raises ``ValueError`` if they do not fit."""
    if pixel_format is None:
        return "rgb" if len(shape) == 3 else "mono"
    if pixel_format not in PIXEL_FORMATS:
        raise ValueError(
            f"pixel_format is {pixel_format!r}, wanted one of {', '.join(PIXEL_FORMATS)}"
        )
    channels = 3 if pixel_format in ("rgb", "bgr") else 1
    if (3 if len(shape) == 3 else 1) != channels:
        wanted = "[H, W, 3]" if channels == 3 else "[H, W]"
        raise ValueError(f"a frame of {list(shape)} is not {pixel_format}, which is {wanted}")
    if pixel_format in BAYER and min(shape) < 2:
        raise ValueError(f"a frame of {list(shape)} holds no Bayer pattern of 2 x 2 pixels")
    return pixel_format


def check_crop(size: tuple[int, ...], crop: Crop | None) -> Crop:
    """The crop, or the whole frame of ``size`` (height, width). Raises ``ValueError`` unless it
    lies in the frame."""
    if crop is None:
        return (0, 0, size[0], size[1])
    top, left, height, width = crop
    if min(top, left) < 0 or min(height, width) < 1:
        raise ValueError(f"crop {list(crop)} is not top, left, height, width")
    if top + height > size[0] or left + width > size[1]:
        raise ValueError(
            f"crop {list(crop)} (top, left, height, width) reaches beyond the frame of {size[0]} x "
            f"{size[1]} pixels: choose one inside it"
        )
    return crop


def _check_window(out: NetworkInput, window: Window | None) -> Window:
    """The window, or the whole resized frame. Raises ``ValueError`` unless it lies in that."""
    height, width = out.shape[1:]
    if window is None:
        return Window(height, width, 0, 0)
    if (
        min(window.top, window.left) < 0
        or window.top + height > window.height
        or window.left + width > window.width
    ):
        raise ValueError(
            f"a window of {height} x {width} pixels at row {window.top}, column {window.left} "
            f"reaches beyond the resized frame of {window.height} x {window.width}"
        )
    return window


def check_levels(dtype: np.dtype[Any], levels: Levels | None) -> Levels:
    """Black and white of a frame of a dtype, uint8 or uint16; (0, 255) for uint8.

    Raises ``ValueError`` if a uint16 frame has no levels, a uint8 frame has some, or they are out
    of range.
    """
    if levels is not None:
        check_level_range(levels)
    if dtype == np.uint8:
        if levels is not None:
            raise ValueError(
                f"levels {list(levels)} are for uint16 frames, and this one is uint8, which goes "
                f"from 0 to {WHITE}: leave the levels out"
            )
        return (0, WHITE)
    if levels is None:
        raise ValueError(
            "a uint16 frame's range is unknown: give the grey levels of black and white, for 12 "
            "bits levels=(0, 4095), --levels 0 4095"
        )
    return levels


def check_level_range(levels: Levels) -> Levels:
    """The levels. Raises ``ValueError`` unless 0 <= black < white <= 65535, whole numbers."""
    whole = len(levels) == 2 and all(isinstance(x, int | np.integer) for x in levels)
    if not (whole and 0 <= levels[0] < levels[1] <= WHITEST):
        raise ValueError(
            f"levels are {list(levels)}, wanted the grey levels of black and white, 0 <= black < "
            f"white <= {WHITEST}, such as 0 4095 for 12 bits"
        )
    return levels


def _check(frame: Pixels, out: NetworkInput, pixel_format: str | None) -> str:
    if (
        frame.dtype not in (np.uint8, np.uint16)
        or frame.ndim not in (2, 3)
        or frame.shape[2:] not in ((), (3,))
    ):
        raise ValueError(
            f"frame is {frame.dtype} {list(frame.shape)}, wanted uint8 or uint16 [H, W, 3] or "
            f"[H, W]"
        )
    if out.dtype not in (np.float32, np.float16) or out.ndim != 3 or out.shape[0] != 3:
        raise ValueError(
            f"out is {out.dtype} {list(out.shape)}, wanted float32 or float16 [3, h, w]"
        )
    if min(*frame.shape[:2], *out.shape[1:]) < 1:
        raise ValueError(f"frame {list(frame.shape)} or out {list(out.shape)} is empty")
    return check_pixel_format(frame.shape, pixel_format)
