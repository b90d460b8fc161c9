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


def overlay(
    frame: Pixels,
    anomaly_map: NDArray[np.float32],
    threshold: float,
    crop: Crop | None = None,
    levels: Levels | None = None,
) -> NDArray[np.uint8]:
    """Blend an anomaly map as a heat map into its frame.

    The heat map is transparent up to half the threshold and saturates at twice the threshold; a
    white line surrounds what is above the threshold. The scale depends on the threshold only, so
    overlays can be compared.

    Args:
        frame: uint8 or uint16, [H, W, 3] RGB or [H, W]
        anomaly_map: float32 [h, w]
        threshold: the threshold of the scores
        crop: top, left, height and width in frame pixels of what the map shows; None for all
        levels: grey levels of black and white of a uint16 frame, which is shown in 8 bits; None for
            uint8

    Returns:
        uint8 [H, W, 3] RGB; as the frame outside the crop.

    Raises:
        ValueError: the levels do not fit the frame
    """
    top, left, height, width = crop or (0, 0, *frame.shape[:2])
    level = Image.fromarray(anomaly_map / np.float32(threshold)).resize(
        (width, height), Image.Resampling.BILINEAR
    )
    heat = np.clip((np.asarray(level) - 0.5) / 1.5, 0.0, 1.0)
    line = _contour(np.asarray(level) > 1, max(1, min(frame.shape[:2]) // _LINE_SHARE))
    steps = np.linspace(0, 1, len(_HEAT))
    colour = np.stack([np.interp(heat, steps, _HEAT[:, c]) for c in range(3)], axis=-1)
    blended = _as_rgb(to_8bit(frame, levels)).copy()
    shown = blended[top : top + height, left : left + width]
    alpha = _STRENGTH * np.minimum(4 * heat, 1.0)[..., None]
    shown[...] = ((1 - alpha) * shown + alpha * colour).round()
    shown[line] = _LINE
    return blended


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
    anomaly_map: NDArray[np.float32],
    threshold: float,
    crop: Crop | None = None,
    levels: Levels | None = None,
) -> None:
    """Write a frame and its overlay side by side.

    Args:
        path: PNG file to write; its folder is created
        frame: as for ``overlay``
        anomaly_map: float32 [h, w]
        threshold: the threshold of the scores
        crop: as for ``overlay``
        levels: as for ``overlay``

    Raises:
        ValueError: the levels do not fit the frame
    """
    shown = to_8bit(frame, levels)
    heat = overlay(shown, anomaly_map, threshold, crop)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.concatenate([_as_rgb(shown), heat], axis=1)).save(path)


def _contour(above: NDArray[np.bool_], width: int) -> NDArray[np.bool_]:
    """The outermost pixels of what is True."""
    from scipy import ndimage  # a quarter of a second, which scoring alone need not pay

    return above & ~ndimage.binary_erosion(above, iterations=width)


def _as_rgb(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return frame if frame.ndim == 3 else np.repeat(frame[..., None], 3, axis=2)
