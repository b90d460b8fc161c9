"""Defects in frame pixels and millimetres."""

from __future__ import annotations

import numpy as np
import pytest

from rdx_fast.defects import find_defects, frame_map
from rdx_fast.limits.calibration import manual_threshold
from rdx_fast.limits.limits import Limits

LOW, HIGH = (
    Limits.single(manual_threshold(value, "test"), name) for value, name in ((1, "a"), (5, "b"))
)


def test_each_region_has_its_own_limit() -> None:
    shown = np.zeros((20, 30), np.float32)
    shown[2:4, 3:5] = 2  # in a, above its limit
    shown[2:4, 20:23] = 4  # in b, below its limit
    shown[10, 20:22] = 15
    labels = np.ones((20, 30), np.uint8)
    labels[:, 15:] = 2
    first, second = find_defects(shown, [LOW, HIGH], labels)
    assert (first.region, first.peak, first.area_px, first.box_px) == ("b", 15, 2, (10, 20, 1, 2))
    assert (second.region, second.peak, second.area_px) == ("a", 2, 4)
    assert (second.area_mm2, second.box_mm, second.centroid_mm) == (None, None, None)
    labels[8:] = 0
    assert [d.region for d in find_defects(shown, [LOW, HIGH], labels)] == ["a"]


def test_millimetres_of_the_frame() -> None:
    shown = np.zeros((10, 10), np.float32)
    shown[2, 3] = 2
    (defect,) = find_defects(shown, [LOW], None, (60, 70), (20, 30, 40, 20), mm_per_pixel=0.5)
    assert defect.box_px == (28, 36, 4, 2)
    assert defect.centroid_px == (30, 37)
    assert (defect.area_px, defect.area_mm2) == (8, 2)
    assert defect.box_mm == (14, 18, 2, 1)
    assert defect.centroid_mm == (15, 18.5)
    # To the digit, though 3 * 0.2 and 3 * 0.2 * 0.2 are not in binary.
    shown[2, 4:6] = 2
    (defect,) = find_defects(shown, [LOW], mm_per_pixel=0.2)
    assert defect.box_mm == (0.4, 0.6, 0.2, 0.6)
    assert (defect.area_mm2, defect.centroid_mm) == (0.12, (0.5, 0.9))


@pytest.mark.parametrize("size", [(64, 96), (100, 90), (256, 256), (500, 1260), (1500, 2048)])
def test_a_planted_defect_is_where_it_is_at_any_frame_size(size: tuple[int, int]) -> None:
    """A blob of the map, found in the map of the frame too."""
    crop = (size[0] // 8, size[1] // 5, size[0] // 2, size[1] // 2)
    shown = np.zeros((64, 48), np.float32)
    y, x = np.indices(shown.shape)
    shown += np.exp(-((y - 20.5) ** 2 + (x - 30.5) ** 2) / 18)
    low = Limits.single(manual_threshold(0.3, "test"))
    (defect,) = find_defects(shown, [low], None, size, crop)
    whole = frame_map(shown, size, crop)
    assert whole.shape == size
    assert not whole[: crop[0]].any()
    wanted = (crop[0] + 21 * crop[2] / 64, crop[1] + 31 * crop[3] / 48)
    assert defect.centroid_px == pytest.approx(wanted, abs=1e-6)
    rows, columns = np.nonzero(whole > 0.3)
    assert (rows.mean() + 0.5, columns.mean() + 0.5) == pytest.approx(wanted, abs=1)
