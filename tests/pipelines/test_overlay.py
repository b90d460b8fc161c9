"""Heat maps on frames."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rdx_fast.images import to_8bit
from rdx_fast.limits.calibration import manual_threshold
from rdx_fast.limits.limits import Limits
from rdx_fast.limits.relative import relative_map
from rdx_fast.overlay import outlined, overlay, save_overlay

GREY = np.full((64, 96), 100, np.uint8)


def levels(*values: float) -> np.ndarray:
    """A map of vertical bands, 8 of 16 pixels wide."""
    return np.repeat(np.float32([values]), 16, axis=1).repeat(8, axis=0)


def limits_of(*values: float) -> list[Limits]:
    return [Limits.single(manual_threshold(v, "test"), f"{v}") for v in values]


def test_colours_follow_the_limit_alone() -> None:
    quiet = overlay(GREY, levels(0.1, 0.45))  # below half of it
    np.testing.assert_array_equal(quiet, np.repeat(GREY[..., None], 3, axis=2))
    for scale in (0.125, 8):
        relative = relative_map(scale * levels(0, 3), limits_of(scale), None)
        np.testing.assert_array_equal(overlay(GREY, relative), overlay(GREY, levels(0, 3)))
    # Twice the limit and more look the same; what is brighter looks brighter, in grey too.
    grades = [overlay(GREY, levels(v, v))[32, 48].mean() for v in (1.2, 1.5, 1.8, 2.0, 5.0)]
    assert grades == sorted(grades)
    assert grades[-1] == grades[-2]
    assert len(set(grades)) == 4


@pytest.mark.parametrize(("size", "width"), [((64, 96), 1), ((1024, 1536), 4)])
def test_a_line_surrounds_what_is_above(size: tuple[int, int], width: int) -> None:
    shown = overlay(np.full(size, 100, np.uint8), levels(0, 0, 2, 2, 0, 0))
    white = (shown == 255).all(axis=2)
    row = np.flatnonzero(white[size[0] // 2])
    assert len(row) == 2 * width  # each side of the band
    assert np.diff(row).max() > size[1] // 4
    assert not (overlay(np.full(size, 100, np.uint8), levels(0, 1)) == 255).all(axis=2).any()


def test_a_crop_is_where_it_was(tmp_path: Path) -> None:
    crop = (8, 16, 32, 64)
    shown = overlay(GREY, levels(0, 2), None, crop)
    part = GREY[8:40, 16:80]
    np.testing.assert_array_equal(shown[8:40, 16:80], overlay(part, levels(0, 2)))
    shown[8:40, 16:80] = 50
    assert set(np.unique(shown)) == {50, 98}  # outside, which is not inspected
    save_overlay(tmp_path / "new" / "a.png", GREY, levels(0, 2), None, crop)
    both = np.asarray(Image.open(tmp_path / "new" / "a.png"))
    np.testing.assert_array_equal(both[:, :96], np.repeat(GREY[..., None], 3, axis=2))
    np.testing.assert_array_equal(both[:, 96:], overlay(GREY, levels(0, 2), None, crop))


@pytest.mark.parametrize("size", [(64, 96), (16, 24), (500, 336)])
def test_each_region_is_compared_with_its_own_limit(size: tuple[int, int]) -> None:
    frame = np.full(size, 100, np.uint8)
    shown, labels = levels(2, 2, 2, 9), np.repeat(np.uint8([[1, 2, 3, 0]]), 16, axis=1)
    labels = labels.repeat(8, axis=0)
    found = overlay(frame, relative_map(shown, limits_of(8, 1, 2), labels), labels)
    bands = np.split(found[:, : size[1] // 4 * 4], 4, axis=1)
    quiet, hot, _, nothing = (band[2:-2, 2:-2] for band in bands)
    assert (quiet == 100).all()
    assert hot.std(axis=2).min() > 20  # coloured
    assert (bands[1] == 255).all(axis=2).any()  # and with a line
    assert set(np.unique(nothing)) == {50, 98}  # no heat, no line, but hatched
    # As hot at the border of what is not inspected as elsewhere, and the border is sharp.
    labels[:, 32:] = 0
    found = overlay(frame, relative_map(shown, limits_of(8, 1, 2), labels), labels)
    middle = hot[0, hot.shape[1] // 2].astype(int)
    row, border = found[size[0] // 2], size[1] // 2
    assert (row[border - 1] == 255).all()
    assert row[border - 3].astype(int) == pytest.approx(middle, abs=1)
    assert {*row[border + 1 :].ravel().tolist()} <= {50, 98}


@pytest.mark.parametrize("grey", [0, 255])
def test_what_is_not_inspected_is_seen_on_any_ground(grey: int) -> None:
    frame, labels = np.full((64, 96), grey, np.uint8), np.zeros((8, 8), np.uint8)
    labels[:, :4] = 1
    shown = overlay(frame, np.zeros((8, 8), np.float32), labels)
    assert (shown[:, :48] == grey).all()
    assert np.ptp(shown[:, 48:].astype(int)) == 48
    with pytest.raises(ValueError, match="are not the map's"):
        overlay(frame, np.zeros((8, 8), np.float32), labels[1:])


def test_16_bits_are_shown_between_their_levels(tmp_path: Path) -> None:
    frame = np.arange(64 * 96, dtype=np.uint16).reshape(64, 96)
    shown = to_8bit(frame, (100, 4095))
    expected = overlay(shown, levels(0, 2))
    np.testing.assert_array_equal(overlay(frame, levels(0, 2), levels=(100, 4095)), expected)
    save_overlay(tmp_path / "a.png", frame, levels(0, 2), levels=(100, 4095))
    both = np.asarray(Image.open(tmp_path / "a.png"))
    np.testing.assert_array_equal(both[:, :96], np.repeat(shown[..., None], 3, axis=2))
    np.testing.assert_array_equal(both[:, 96:], expected)
    with pytest.raises(ValueError, match="range is unknown"):
        overlay(frame, levels(0, 2))


@pytest.mark.parametrize(("size", "width"), [((64, 96), 1), ((1024, 1536), 4)])
def test_an_outline_leaves_what_it_surrounds(size: tuple[int, int], width: int) -> None:
    frame = np.full(size, 100, np.uint8)
    mask = np.zeros(size, bool)
    mask[size[0] // 2 :, size[1] // 2 :] = True
    shown = outlined(frame, mask)
    assert (shown[mask] == 100).all()
    changed = (shown != 100).any(axis=2)
    row = np.flatnonzero(changed[-1])
    assert row.tolist() == list(range(size[1] // 2 - 4 * width, size[1] // 2))
    assert len(np.unique(shown[-1, row], axis=0)) == 2  # dark beside bright
    np.testing.assert_array_equal(outlined(frame, mask & False)[..., 0], frame)
