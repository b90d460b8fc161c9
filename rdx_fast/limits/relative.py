"""Scores and maps relative to the limits of their regions, so that regions can be compared."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rdx_fast.limits.limits import Limits

Floats = NDArray[np.float32]


def relative_map(
    anomaly_map: Floats, limits: Sequence[Limits], labels: NDArray[np.uint8] | None
) -> Floats:
    """An anomaly map as multiples of the OK limit of each pixel's region.

    Args:
        anomaly_map: float32 [H, W]
        limits: of the regions
        labels: uint8 [H, W], see ``regions.map_labels``; None for one region, the whole map

    Returns:
        float32 [H, W]: 1 at the limit, 0 where nothing is inspected.
    """
    # A quotient of float32 exceeds 1 where the value exceeds the limit, and only there.
    by_label = np.array([np.inf, *(limit.ok_below.value for limit in limits)], np.float32)
    return anomaly_map / (by_label[1] if labels is None else by_label[labels])


def common_ng(limits: Sequence[Limits]) -> float:
    """Where ``to_common_scale`` places the NG limits: the largest multiple of a region's OK limit
    that is its NG limit; 1 if no region has REVIEW."""
    return float(max(np.float32(of.ng_above.value / of.ok_below.value) for of in limits))


def to_common_scale(values: Floats, limits: Limits, ng: float) -> Floats:
    """Scores or map values of one region on a scale that has the same limits for all regions.

    Up to the OK limit they are multiples of it. The NG limit is at ``ng``; between the limits the
    scale is linear, and above values are in proportion to the NG limit. So a value has the same
    verdict by the limits 1 and ``ng`` as by those of its region.

    Args:
        values: float32 of any shape
        limits: of the region
        ng: of all regions, from ``common_ng``

    Returns:
        float32 of the same shape, ascending with the values.
    """
    # Compared in float32, as the verdict is; rounding must then not change sides.
    ok_below, ng_above = np.float32(limits.ok_below.value), np.float32(limits.ng_above.value)
    one, top = np.float32(1), np.float32(ng)
    if values.ndim and not (values > ok_below).any():  # most maps of good parts
        return np.minimum(values / ok_below, one)
    between = one + (values - ok_below) / (ng_above - ok_below or one) * (top - one)
    return np.select(
        [values <= ok_below, values <= ng_above],
        [np.minimum(values / ok_below, one), np.clip(between, _after(one), top)],
        np.maximum(values / ng_above * top, _after(top)),
    )


def map_on_common_scale(
    anomaly_map: Floats, limits: Sequence[Limits], labels: NDArray[np.uint8] | None
) -> Floats:
    """A map whose values have the limits of the report's scores.

    Args:
        anomaly_map: float32 [H, W]
        limits: of the regions
        labels: as for ``relative_map``

    Returns:
        float32 [H, W]: as it is for one region, on the common scale for several; 0 where nothing
        is inspected.
    """
    if labels is None:
        return anomaly_map
    if len(limits) == 1:
        return np.where(labels == 1, anomaly_map, np.float32(0))
    ng, shown = common_ng(limits), np.zeros_like(anomaly_map)
    for number, of in enumerate(limits, start=1):
        inside = labels == number
        shown[inside] = to_common_scale(anomaly_map[inside], of, ng)
    return shown


def _after(value: np.float32) -> np.float32:
    """The next larger number."""
    return np.nextafter(value, np.float32(np.inf))
