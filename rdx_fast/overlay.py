"""Overlays of anomaly maps on their frames."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rdx_fast.images import to_8bit
from rdx_fast.kernels.resize_normalize import Crop, Levels, Pixels

# Nine colours of matplotlib's "inferno": equal steps look equal, in grey too.
_HEAT = np.array(
    [
        [0, 0, 4],
        [33, 12, 74],
        [87, 16, 110],
        [138, 34, 106],
        [188, 55, 84],
        [228, 90, 49],
        [249, 142, 9],
        [249, 203, 53],
        [252, 255, 164],
    ],
    float,
)
_STRENGTH = 0.6
_LINE = (255, 255, 255)
_MARK, _EDGE = (0, 229, 255), (0, 0, 0)
_LINE_SHARE = 256  # of the frame's smaller side: the width of a line
_HATCH = 8  # widths of a line from one stripe to the next
_STRIPE = 48  # grey levels, added


def overlay(
    frame: Pixels,
    relative: NDArray[np.float32],
    labels: NDArray[np.uint8] | None = None,
    crop: Crop | None = None,
    levels: Levels | None = None,
) -> NDArray[np.uint8]:
    """Blend an anomaly map as a heat map into its frame.

    The heat map is transparent up to half the limit of each pixel's region and saturates at twice
    the limit; a white line surrounds what is above it. The scale depends on the limits only, so
    overlays can be compared. What is not inspected is darkened and hatched.

    Args:
        frame: uint8 or uint16, [H, W, 3] RGB or [H, W]
        relative: float32 [h, w], the map as multiples of the limits, see
            ``Detector.relative_map``; for one limit the map divided by it
        labels: uint8 [h, w], 0 where nothing is inspected; None for a map that is inspected as a
            whole
        crop: top, left, height and width in frame pixels of what the map shows; None for all
        levels: grey levels of black and white of a uint16 frame, which is shown in 8 bits; None for
            uint8

    Returns:
        uint8 [H, W, 3] RGB.

    Raises:
        ValueError: the levels do not fit the frame, or the labels do not fit the map
    """
    if labels is not None and labels.shape != relative.shape:
        raise ValueError(f"labels {list(labels.shape)} are not the map's {list(relative.shape)}")
    top, left, height, width = crop or (0, 0, *frame.shape[:2])
    blended = _as_rgb(to_8bit(frame, levels)).copy()
    level, inspected = _resized(relative, labels, (width, height))
    colour, alpha = _heat(level)
    line_width = max(1, min(frame.shape[:2]) // _LINE_SHARE)
    line = _contour((level > 1) & inspected, line_width)
    shown = blended[top : top + height, left : left + width]
    alpha = alpha[..., None] * inspected[..., None]
    shown[...] = ((1 - alpha) * shown + alpha * colour).round()
    shown[line] = _LINE
    whole = np.zeros(frame.shape[:2], bool)
    whole[top : top + height, left : left + width] = inspected
    return _hatched(blended, ~whole, line_width)


def heat_layer(relative: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The heat map of ``overlay`` by itself, to be laid over a frame.

    Args:
        relative: float32 [h, w], as for ``overlay``, 0 where nothing is inspected

    Returns:
        uint8 [h, w, 4] RGBA, transparent up to half the limit.
    """
    colour, alpha = _heat(relative)
    return np.concatenate([colour, 255 * alpha[..., None]], axis=-1).round().astype(np.uint8)


def _heat(level: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Colour [h, w, 3] and opacity [h, w] of multiples of the limit."""
    heat = np.clip((level - 0.5) / 1.5, 0.0, 1.0)
    steps = np.linspace(0, 1, len(_HEAT))
    colour = np.stack([np.interp(heat, steps, _HEAT[:, c]) for c in range(3)], axis=-1)
    return colour, _STRENGTH * np.minimum(4 * heat, 1.0)


def _resized(
    relative: NDArray[np.float32], labels: NDArray[np.uint8] | None, size: tuple[int, int]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """A map at ``size``, width and height, and where it is inspected."""

    def resized(values: NDArray[np.float32], how: Image.Resampling) -> NDArray[np.float32]:
        return np.asarray(Image.fromarray(values).resize(size, how))

    if labels is None:
        whole = np.ones(size[::-1], bool)
        return resized(relative, Image.Resampling.BILINEAR), whole
    inside = (labels > 0).astype(np.float32)
    # What is not inspected has no share in the values beside it.
    share = resized(inside, Image.Resampling.BILINEAR)
    level = resized(relative * inside, Image.Resampling.BILINEAR)
    inspected = (resized(inside, Image.Resampling.NEAREST) > 0) & (share > 0)
    return np.where(inspected, level / np.maximum(share, 1e-6), np.float32(0)), inspected


def _hatched(
    shown: NDArray[np.uint8], where: NDArray[np.bool_], line_width: int
) -> NDArray[np.uint8]:
    """Darken pixels, and draw diagonal stripes on them, which are seen on black too."""
    if where.any():
        rows, columns = np.nonzero(where)
        stripe = (rows + columns) % (_HATCH * line_width) < line_width
        shown[where] //= 2
        shown[rows[stripe], columns[stripe]] += _STRIPE
    return shown


def outlined(frame: NDArray[np.uint8], mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Draw a line around what is marked, outside of it.

    Args:
        frame: uint8 [H, W, 3] RGB or [H, W]
        mask: bool [H, W], True where marked

    Returns:
        uint8 [H, W, 3] RGB.
    """
    from scipy import ndimage  # as in ``_contour``

    width = max(1, min(frame.shape[:2]) // _LINE_SHARE)
    drawn = _as_rgb(frame).copy()
    grown = mask
    # Dark, bright, dark: seen on any ground.
    for colour, share in ((_EDGE, 1), (_MARK, 2), (_EDGE, 1)):
        wider = ndimage.binary_dilation(grown, np.ones((3, 3)), iterations=share * width)
        drawn[wider & ~grown] = colour
        grown = wider
    return drawn


def save_overlay(
    path: Path,
    frame: Pixels,
    relative: NDArray[np.float32],
    labels: NDArray[np.uint8] | None = None,
    crop: Crop | None = None,
    levels: Levels | None = None,
) -> None:
    """Write a frame and its overlay side by side.

    Args:
        path: PNG file to write; its folder is created
        frame: as for ``overlay``
        relative: as for ``overlay``
        labels: as for ``overlay``
        crop: as for ``overlay``
        levels: as for ``overlay``

    Raises:
        ValueError: as for ``overlay``
    """
    shown = to_8bit(frame, levels)
    heat = overlay(shown, relative, labels, crop)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.concatenate([_as_rgb(shown), heat], axis=1)).save(path)


def _contour(above: NDArray[np.bool_], width: int) -> NDArray[np.bool_]:
    """The outermost pixels of what is True."""
    from scipy import ndimage  # a quarter of a second, which scoring alone need not pay

    return above & ~ndimage.binary_erosion(above, iterations=width)


def _as_rgb(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return frame if frame.ndim == 3 else np.repeat(frame[..., None], 3, axis=2)
