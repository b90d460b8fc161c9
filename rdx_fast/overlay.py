"""Overlays of anomaly maps on their frames."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from rdx_fast.kernels.resize_normalize import Crop
from rdx_fast.kernels.threshold_regions import threshold_regions

# Black through red and yellow to white, so that it is also readable in grey.
_HEAT = np.array([[0, 0, 0], [120, 0, 40], [230, 40, 0], [255, 170, 0], [255, 255, 200]], float)
_STRENGTH = 0.6
_BOX = (255, 255, 255)


def overlay(
    frame: NDArray[np.uint8],
    anomaly_map: NDArray[np.float32],
    threshold: float,
    crop: Crop | None = None,
) -> NDArray[np.uint8]:
    """Blend an anomaly map as a heat map into its frame.

    The heat map is transparent up to half the threshold and saturates at twice the threshold. The
    scale depends on the threshold only, so overlays can be compared.

    Args:
        frame: uint8 [H, W, 3] RGB or [H, W]
        anomaly_map: float32 [h, w]
        threshold: the threshold of the scores
        crop: top, left, height and width in frame pixels of what the map shows; None for all

    Returns:
        uint8 [H, W, 3] RGB; as the frame outside the crop.
    """
    top, left, height, width = crop or (0, 0, *frame.shape[:2])
    level = Image.fromarray(anomaly_map / np.float32(threshold)).resize(
        (width, height), Image.Resampling.BILINEAR
    )
    heat = np.clip((np.asarray(level) - 0.5) / 1.5, 0.0, 1.0)
    steps = np.linspace(0, 1, len(_HEAT))
    colour = np.stack([np.interp(heat, steps, _HEAT[:, c]) for c in range(3)], axis=-1)
    blended = _as_rgb(frame).copy()
    shown = blended[top : top + height, left : left + width]
    alpha = _STRENGTH * np.minimum(4 * heat, 1.0)[..., None]
    shown[...] = ((1 - alpha) * shown + alpha * colour).round()
    return blended


def save_overlay(
    path: Path,
    frame: NDArray[np.uint8],
    anomaly_map: NDArray[np.float32],
    threshold: float,
    crop: Crop | None = None,
) -> None:
    """Write a frame and its overlay side by side.

    Each region above the threshold is marked with a box.

    Args:
        path: PNG file to write; its folder is created
        frame: uint8 [H, W, 3] RGB or [H, W]
        anomaly_map: float32 [h, w]
        threshold: the threshold of the scores
        crop: as for ``overlay``
    """
    heat = Image.fromarray(overlay(frame, anomaly_map, threshold, crop))
    draw = ImageDraw.Draw(heat)
    for region in threshold_regions(anomaly_map, threshold, frame.shape[:2], crop=crop):
        top, left, height, width = region.box_px
        draw.rectangle((left, top, left + width - 1, top + height - 1), outline=_BOX)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.concatenate([_as_rgb(frame), np.asarray(heat)], axis=1)).save(path)


def _as_rgb(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return frame if frame.ndim == 3 else np.repeat(frame[..., None], 3, axis=2)
