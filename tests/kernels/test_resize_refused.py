"""What ``resize_normalize`` refuses."""

from __future__ import annotations

import numpy as np
import pytest

from rdx_fast.kernels.resize_normalize import resize_normalize
from rdx_fast.kernels.resize_taps import Window

PLAIN = ((0.0,) * 3, (1.0,) * 3)
OUT = np.zeros((3, 2, 2), np.float32)


@pytest.mark.parametrize("place", [(-1, 0), (0, -1), (3, 0), (0, 5)])
def test_windows_that_are_refused(place: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="reaches beyond the resized frame of 4 x 6"):
        resize_normalize(np.zeros((8, 9), np.uint8), OUT, *PLAIN, window=Window(4, 6, *place))


@pytest.mark.parametrize(
    ("frame", "out"),
    [
        (np.zeros((4, 4), np.float32), OUT),
        (np.zeros((4, 4), np.int16), OUT),
        (np.zeros((4, 4), ">u2"), OUT),
        (np.zeros((4, 4, 4), np.uint8), OUT),
        (np.zeros((4,), np.uint8), OUT),
        (np.zeros((0, 4, 3), np.uint8), OUT),
        (np.zeros((4, 4), np.uint8), np.zeros((3, 2, 2))),
        (np.zeros((4, 4), np.uint8), np.zeros((1, 2, 2), np.float32)),
    ],
)
def test_refused(frame, out) -> None:
    with pytest.raises(ValueError, match=r"wanted|empty"):
        resize_normalize(frame, out, *PLAIN)


@pytest.mark.parametrize(
    ("shape", "pixel_format", "crop", "message"),
    [
        ((4, 4, 3), "yuv", None, "pixel_format is 'yuv', wanted one of rgb, bgr, mono, bayer_rggb"),
        ((4, 4), "bgr", None, r"a frame of \[4, 4\] is not bgr, which is \[H, W, 3\]"),
        ((4, 4, 3), "mono", None, "is not mono"),
        ((4, 4, 3), "bayer_rggb", None, "is not bayer_rggb"),
        ((1, 4), "bayer_rggb", None, "holds no Bayer pattern"),
        ((4, 4), None, (0, 0, 5, 4), "beyond the frame"),
        ((4, 4), None, (-1, 0, 2, 2), "is not top, left, height, width"),
        ((4, 4), None, (0, 0, 0, 2), "is not top, left, height, width"),
    ],
)
def test_refused_formats_and_crops(shape, pixel_format, crop, message) -> None:
    frame = np.zeros(shape, np.uint8)
    with pytest.raises(ValueError, match=message):
        resize_normalize(frame, OUT, *PLAIN, pixel_format, crop)


@pytest.mark.parametrize(
    ("dtype", "levels", "message"),
    [
        (np.uint16, None, r"range is unknown: give .* levels=\(0, 4095\), --levels 0 4095"),
        (np.uint8, (0, 4095), "are for uint16 frames, and this one is uint8"),
        (np.uint16, (4095, 0), r"levels are \[4095, 0\], wanted .* 0 <= black < white <= 65535"),
        (np.uint16, (7, 7), "wanted the grey levels of black and white"),
        (np.uint16, (-1, 7), "wanted the grey levels of black and white"),
        (np.uint16, (0, 65536), "wanted the grey levels of black and white"),
        (np.uint16, (0.0, 1.0), "wanted the grey levels of black and white"),
        (np.uint16, (0, 1, 2), "wanted the grey levels of black and white"),
    ],
)
def test_refused_levels(dtype, levels, message) -> None:
    frame = np.zeros((4, 4), dtype)
    with pytest.raises(ValueError, match=message):
        resize_normalize(frame, OUT, *PLAIN, levels=levels)
