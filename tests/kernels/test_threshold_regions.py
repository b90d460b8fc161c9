from __future__ import annotations

import numpy as np
import pytest

from rdx_fast.kernels.threshold_regions import threshold_regions


def drawn() -> np.ndarray:
    anomaly_map = np.zeros((10, 20), np.float32)
    anomaly_map[2:4, 3:6] = 2
    anomaly_map[4, 6] = 3  # touches at a corner
    anomaly_map[8, 15] = 5
    anomaly_map[0, 19] = 1  # not above
    return anomaly_map


def test_regions_of_the_map_itself() -> None:
    high, large = threshold_regions(drawn(), 1.0)
    assert (high.peak, high.area_px, high.box_px) == (5, 1, (8, 15, 1, 1))
    assert high.centroid_px == (8.5, 15.5)
    assert (large.peak, large.area_px, large.box_px) == (3, 7, (2, 3, 3, 4))
    assert large.centroid_px == pytest.approx(
        (0.5 + (3 * 2 + 3 * 3 + 4) / 7, 0.5 + (2 * (3 + 4 + 5) + 6) / 7)
    )


def test_frame_pixels() -> None:
    high, large = threshold_regions(drawn(), 1.0, (100, 100))
    assert high.box_px == (80, 75, 10, 5)
    assert high.area_px == 50
    # The middle of map pixel 8 is 8.5 tenths of the frame's edges.
    assert high.centroid_px == pytest.approx((85, 77.5))
    assert large.box_px == (20, 15, 30, 20)


def test_crop_of_the_frame() -> None:
    (high, _) = threshold_regions(drawn(), 1.0, (300, 400), (100, 200, 100, 100))
    assert high.box_px == (180, 275, 10, 5)
    assert high.centroid_px == pytest.approx((185, 277.5))


def test_boxes_hold_every_pixel_they_touch() -> None:
    (high, _) = threshold_regions(drawn(), 1.0, (15, 30))
    assert high.box_px == (12, 22, 2, 2)  # 12 to 13.5, 22.5 to 24


def test_region_of_interest_and_nothing_found() -> None:
    mask = np.zeros((10, 20), bool)
    mask[:6] = True
    (large,) = threshold_regions(drawn(), 1.0, mask=mask)
    assert large.peak == 3
    assert threshold_regions(drawn(), 5.0) == []


def test_area_is_the_epilogues_count() -> None:
    anomaly_map = np.random.default_rng(0).random((30, 40), np.float32)
    found = threshold_regions(anomaly_map, 0.9)
    assert sum(r.area_px for r in found) == (anomaly_map > np.float32(0.9)).sum()
    assert max(r.peak for r in found) == anomaly_map.max()


@pytest.mark.parametrize(
    ("anomaly_map", "arguments", "message"),
    [
        (np.zeros((2, 3, 4), np.float32), {}, r"\[2, 3, 4\], wanted \[H, W\]"),
        (np.full((2, 3), np.nan, np.float32), {}, "holds NaN"),
        (drawn(), {"mask": np.ones((3, 3), bool)}, "is not the map's"),
        (drawn(), {"frame_size": (5, 5), "crop": (0, 0, 6, 5)}, "beyond the frame"),
    ],
)
def test_refused(anomaly_map, arguments, message) -> None:
    with pytest.raises(ValueError, match=message):
        threshold_regions(anomaly_map, 1.0, **arguments)
