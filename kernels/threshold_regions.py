"""Connected regions of an anomaly map above the threshold, in the frame's own pixels."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rdx_fast.kernels.resize_normalize import Crop, check_crop


@dataclass(frozen=True, slots=True)
class Region:
    """One defect.

    Attributes:
        area_px: area in frame pixels
        peak: largest map value
        box_px: top, left, height, width of the frame pixels that it touches
        centroid_px: y, x in frame pixels from the frame's upper left corner, as polygons' corners:
            the middle of the first pixel is at 0.5, 0.5
    """

    area_px: float
    peak: float
    box_px: tuple[int, int, int, int]
    centroid_px: tuple[float, float]


def threshold_regions(
    anomaly_map: NDArray[np.float32],
    threshold: float,
    frame_size: tuple[int, int] | None = None,
    crop: Crop | None = None,
    mask: NDArray[np.bool_] | None = None,
) -> list[Region]:
    """Find the regions above a threshold. Pixels that touch at a corner belong together.

    Args:
        anomaly_map: float32 [H, W]
        threshold: map values above it belong to a region
        frame_size: height and width of the frame that was scored; None for the map's own
        crop: the part of the frame that was scored, as for ``Detector.score``
        mask: region of interest, bool [H, W]; None for the whole map

    Returns:
        The regions, the highest peak first.

    Raises:
        ValueError: another shape, NaN in the map, or a crop that exceeds the frame
    """
    from scipy import ndimage  # a quarter of a second, which scoring alone need not pay

    if anomaly_map.ndim != 2 or anomaly_map.size == 0:
        raise ValueError(f"the anomaly map is {list(anomaly_map.shape)}, wanted [H, W]")
    if np.isnan(anomaly_map).any():
        raise ValueError("the anomaly map holds NaN: nothing can be said of it")
    if mask is not None and mask.shape != anomaly_map.shape:
        raise ValueError(f"mask {list(mask.shape)} is not the map's {list(anomaly_map.shape)}")
    top, left, height, width = check_crop(frame_size or anomaly_map.shape, crop)
    scale_y, scale_x = height / anomaly_map.shape[0], width / anomaly_map.shape[1]

    above = anomaly_map > np.float32(threshold)
    if mask is not None:
        above &= mask
    labels, count = ndimage.label(above, structure=np.ones((3, 3)))
    regions = []
    for label, box in enumerate(ndimage.find_objects(labels, count), start=1):
        here = labels[box] == label
        y, x = (axis.mean() for axis in np.nonzero(here))
        rows, columns = box
        first = (math.floor(top + rows.start * scale_y), math.floor(left + columns.start * scale_x))
        end = (math.ceil(top + rows.stop * scale_y), math.ceil(left + columns.stop * scale_x))
        regions.append(
            Region(
                area_px=float(here.sum() * scale_y * scale_x),
                peak=float(anomaly_map[box][here].max()),
                box_px=(*first, end[0] - first[0], end[1] - first[1]),
                centroid_px=(
                    float(top + (rows.start + y + 0.5) * scale_y),
                    float(left + (columns.start + x + 0.5) * scale_x),
                ),
            )
        )
    return sorted(regions, key=lambda region: -region.peak)
