"""Defects: connected areas of an anomaly map above the OK limit of their region."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rdx_fast.kernels.resize_normalize import Crop, check_crop
from rdx_fast.kernels.threshold_regions import threshold_regions
from rdx_fast.limits.limits import Limits


@dataclass(frozen=True, slots=True)
class Defect:
    """One defect. Millimetres are None where the recipe states no scale.

    Attributes:
        region: name of the recipe's region that it lies in
        peak: largest map value
        area_px: in frame pixels
        box_px: top, left, height, width of the frame pixels that it touches
        centroid_px: y, x in frame pixels from the frame's upper left corner, as polygons' corners:
            the middle of the first pixel is at 0.5, 0.5
        area_mm2: in square millimetres
        box_mm: top, left, height, width in millimetres from the frame's upper left corner
        centroid_mm: y, x likewise
    """

    region: str
    peak: float
    area_px: float
    box_px: tuple[int, int, int, int]
    centroid_px: tuple[float, float]
    area_mm2: float | None
    box_mm: tuple[float, float, float, float] | None
    centroid_mm: tuple[float, float] | None


def find_defects(
    anomaly_map: NDArray[np.float32],
    limits: Sequence[Limits],
    labels: NDArray[np.uint8] | None = None,
    frame_size: tuple[int, int] | None = None,
    crop: Crop | None = None,
    mm_per_pixel: float | None = None,
) -> list[Defect]:
    """Find the defects of one image. What crosses the border of two regions is one in each.

    Args:
        anomaly_map: float32 [H, W]
        limits: of the recipe's regions
        labels: uint8 [H, W], see ``regions.map_labels``; None for one region, the whole map
        frame_size: height and width of the frame that was scored; None for the map's own
        crop: the part of the frame that was scored
        mm_per_pixel: scale of the frame

    Returns:
        The defects, the one that exceeds its limit by the largest factor first.

    Raises:
        ValueError: another shape, NaN in the map, or a crop that exceeds the frame
    """
    scale = mm_per_pixel
    found: list[tuple[float, Defect]] = []
    for number, limit in enumerate(limits, start=1):
        threshold = limit.ok_below.value
        mask = None if labels is None else labels == number
        for area in threshold_regions(anomaly_map, threshold, frame_size, crop, mask):
            defect = Defect(
                region=limit.region,
                peak=area.peak,
                area_px=area.area_px,
                box_px=area.box_px,
                centroid_px=area.centroid_px,
                area_mm2=None if scale is None else _rounded(area.area_px * scale**2),
                box_mm=None if scale is None else _in_mm(area.box_px, scale),
                centroid_mm=None if scale is None else _in_mm(area.centroid_px, scale),
            )
            found.append((area.peak / threshold, defect))
    return [defect for _, defect in sorted(found, key=lambda pair: -pair[0])]


def _in_mm(pixels: tuple[float, ...], scale: float) -> Any:
    """Millimetres, as many as there are pixels."""
    return tuple(_rounded(v * scale) for v in pixels)


def _rounded(value: float) -> float:
    """To nine digits, so that 3 pixels of 0.2 mm are 0.6 mm."""
    return float(f"{value:.9g}")


def frame_map(
    anomaly_map: NDArray[np.float32], frame_size: tuple[int, int], crop: Crop | None = None
) -> NDArray[np.float32]:
    """An anomaly map in frame pixels, interpolated bilinearly.

    Args:
        anomaly_map: float32 [h, w]
        frame_size: height and width of the frame that was scored
        crop: the part of the frame that was scored

    Returns:
        float32 of ``frame_size``; 0 outside the crop, which was not inspected.

    Raises:
        ValueError: the crop exceeds the frame
    """
    top, left, height, width = check_crop(frame_size, crop)
    shown = Image.fromarray(anomaly_map).resize((width, height), Image.Resampling.BILINEAR)
    whole = np.zeros(frame_size, np.float32)
    whole[top : top + height, left : left + width] = np.asarray(shown)
    return whole
