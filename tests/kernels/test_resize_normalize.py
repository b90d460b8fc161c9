from __future__ import annotations

import shutil
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from rdx_fast.kernels.native import IMPLEMENTATION
from rdx_fast.kernels.resize_normalize import (
    BAYER,
    PIXEL_FORMATS,
    demosaic_numpy,
    resize_normalize_numpy,
)
from rdx_fast.kernels.resize_taps import Window
from support.kernel_runs import COMPILED, IMPLEMENTATIONS, resize_normalize

GREY_LEVELS = ((0.0,) * 3, (1 / 255,) * 3)  # mean and std that leave grey levels as they are
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
SIZES = [
    ((300, 300), (256, 256)),
    ((500, 1260), (256, 256)),
    ((37, 53, 3), (64, 96)),
    ((255, 317, 3), (32, 64)),
    ((64, 96, 3), (64, 96)),
    ((64, 200, 3), (64, 30)),
    ((1, 1), (32, 32)),
]
# Differences of normalised values: float32's rounding, and half a unit of float16 at 2.6.
TOLERANCE = {np.float32: 2e-5, np.float16: 1.1e-3}


def noise(shape: tuple[int, ...]) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def noise16(shape: tuple[int, ...]) -> NDArray[np.uint16]:
    return np.random.default_rng(0).integers(0, 65536, shape, dtype=np.uint16)


def shape_of(pixel_format: str, height: int, width: int) -> tuple[int, ...]:
    return (height, width, 3) if pixel_format in ("rgb", "bgr") else (height, width)


def poisoned(size: tuple[int, int], dtype: type = np.float32, last: bool = False) -> NDArray:
    if last:
        return np.full((*size, 3), np.nan, dtype).transpose(2, 0, 1)
    return np.full((3, *size), np.nan, dtype)


def pil(frame: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.float64]:
    resized = Image.fromarray(frame).resize(size[::-1], Image.Resampling.BILINEAR)
    levels = np.asarray(resized, np.float64)
    return np.stack([levels] * 3) if levels.ndim == 2 else levels.transpose(2, 0, 1)


@pytest.mark.skipif(
    not any(map(shutil.which, ("c++", "g++", "clang++", "cl"))), reason="no compiler"
)
def test_extension_is_built() -> None:
    assert IMPLEMENTATION.startswith("c++ ")


def test_without_the_extension() -> None:
    # None in sys.modules is how Python spells "not installed".
    code = """
import sys
sys.modules["rdx_fast._C"] = None
import numpy as np
from rdx_fast.kernels.native import IMPLEMENTATION
from rdx_fast.kernels.resize_normalize import resize_normalize
out = np.full((3, 4, 4), np.nan, np.float32)
resize_normalize(np.full((8, 9, 3), 51, np.uint8), out, (0.0,) * 3, (1.0,) * 3)
print(IMPLEMENTATION, f"{out.min():.6f}", f"{out.max():.6f}")
"""
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["numpy", "0.200000", "0.200000"]


@pytest.mark.parametrize("implementation", ["numpy", *COMPILED])
@pytest.mark.parametrize(("shape", "size"), SIZES)
def test_within_one_grey_level_of_pil(implementation, shape, size) -> None:
    frame, out = noise(shape), poisoned(size)
    resize_normalize(implementation, frame, out, *GREY_LEVELS)
    assert np.abs(out - pil(frame, size)).max() <= 1.0


@pytest.mark.parametrize(
    ("shape", "size"), [((37, 53, 3), (10, 40)), ((19, 27), (20, 9)), ((1, 1), (2, 3))]
)
def test_within_one_grey_level_of_pil_on_triton(shape, size) -> None:
    frame, out = noise(shape), poisoned(size)
    resize_normalize("triton", frame, out, *GREY_LEVELS)
    assert np.abs(out - pil(frame, size)).max() <= 1.0


@pytest.mark.parametrize("implementation", ["numpy", *COMPILED])
def test_a_large_frame(implementation: str) -> None:
    frame, out = noise((1024, 1024, 3)), poisoned((256, 256))
    resize_normalize(implementation, frame, out, *GREY_LEVELS)
    assert np.abs(out - pil(frame, (256, 256))).max() <= 1.0


@pytest.mark.parametrize("pixel_format", PIXEL_FORMATS)
@pytest.mark.parametrize("crop", [None, (3, 2, 14, 17)])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("channels_last", [False, True])
def test_against_the_reference_on_triton(pixel_format, crop, dtype, channels_last) -> None:
    frame = noise((19, 21, 3) if pixel_format in ("rgb", "bgr") else (19, 21))
    out, reference = poisoned((7, 9), dtype, channels_last), poisoned((7, 9))
    resize_normalize("triton", frame, out, *IMAGENET, pixel_format, crop)
    resize_normalize_numpy(frame, reference, *IMAGENET, pixel_format, crop)
    np.testing.assert_allclose(out, reference, rtol=0, atol=TOLERANCE[dtype])


@pytest.mark.parametrize("implementation", COMPILED)
@pytest.mark.parametrize("pixel_format", PIXEL_FORMATS)
@given(st.data())
def test_against_the_reference(implementation, pixel_format, data) -> None:
    height, width = (data.draw(st.integers(2, 60)) for _ in range(2))
    shape = (height, width, 3) if pixel_format in ("rgb", "bgr") else (height, width)
    frame = noise(shape)
    top, left = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    crop = (
        top,
        left,
        data.draw(st.integers(1, height - top)),
        data.draw(st.integers(1, width - left)),
    )
    crop = data.draw(st.sampled_from([None, crop]))
    size = data.draw(st.tuples(st.integers(1, 40), st.integers(1, 70)))
    dtype = data.draw(st.sampled_from([np.float32, np.float16]))
    out, reference = poisoned(size, dtype, data.draw(st.booleans())), poisoned(size)
    resize_normalize(implementation, frame, out, *IMAGENET, pixel_format, crop)
    resize_normalize_numpy(frame, reference, *IMAGENET, pixel_format, crop)
    np.testing.assert_allclose(out, reference, rtol=0, atol=TOLERANCE[dtype])


@pytest.mark.parametrize("implementation", COMPILED)
@pytest.mark.parametrize("pixel_format", PIXEL_FORMATS)
@given(st.data())
def test_16_bits_against_the_reference(implementation, pixel_format, data) -> None:
    height, width = (data.draw(st.integers(2, 60)) for _ in range(2))
    frame = noise16(shape_of(pixel_format, height, width))
    top, left = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    crop = data.draw(st.sampled_from([None, (top, left, height - top, width - left)]))
    black = data.draw(st.integers(0, 65534))
    levels = (black, data.draw(st.integers(black + 1, 65535)))
    size = data.draw(st.tuples(st.integers(1, 40), st.integers(1, 70)))
    out, reference = poisoned(size), poisoned(size)
    resize_normalize(implementation, frame, out, *IMAGENET, pixel_format, crop, levels=levels)
    resize_normalize_numpy(frame, reference, *IMAGENET, pixel_format, crop, levels)
    np.testing.assert_allclose(out, reference, rtol=0, atol=TOLERANCE[np.float32])


@pytest.mark.parametrize("pixel_format", PIXEL_FORMATS)
def test_16_bits_against_the_reference_on_triton(pixel_format) -> None:
    frame, levels = noise16(shape_of(pixel_format, 13, 15)), (1000, 60_000)
    crop = (3, 2, 9, 11)
    out, reference = poisoned((4, 9)), poisoned((4, 9))
    resize_normalize("triton", frame, out, *IMAGENET, pixel_format, crop, levels=levels)
    resize_normalize_numpy(frame, reference, *IMAGENET, pixel_format, crop, levels)
    np.testing.assert_allclose(out, reference, rtol=0, atol=TOLERANCE[np.float32])


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("pixel_format", ["rgb", "mono", "bayer_grbg"])
def test_12_bits_are_as_8_bits_times_16(implementation: str, pixel_format: str) -> None:
    frame = noise(shape_of(pixel_format, 11, 13))
    expected, out = poisoned((4, 6)), poisoned((4, 6))
    resize_normalize(implementation, frame, expected, *IMAGENET, pixel_format)
    deep = 10 + 16 * frame.astype(np.uint16)
    resize_normalize(implementation, deep, out, *IMAGENET, pixel_format, levels=(10, 4090))
    np.testing.assert_allclose(out, expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("pixel_format", ["bgr", "mono", "bayer_bggr"])
def test_pixels_are_clipped_to_black_and_white(implementation: str, pixel_format: str) -> None:
    frame, levels = noise16(shape_of(pixel_format, 11, 13)), (20_000, 30_001)
    expected, out = poisoned((4, 6)), poisoned((4, 6))
    for given_frame, target in ((frame, out), (frame.clip(*levels), expected)):
        resize_normalize(
            implementation, given_frame, target, *IMAGENET, pixel_format, levels=levels
        )
    np.testing.assert_array_equal(out, expected)
    mean, std = (np.array(x)[:, None, None] for x in IMAGENET)
    assert (out * std + mean).min() > -1e-6
    assert (out * std + mean).max() < 1 + 1e-6


@pytest.mark.parametrize("implementation", ["numpy", *COMPILED])
@pytest.mark.parametrize(
    "view",
    [
        lambda f: f[:, 8:48],
        lambda f: f[::-1, ::3],
        lambda f: f[..., ::-1],
        lambda f: f[..., 1],
        lambda f: np.frombuffer(b"x" + f.tobytes(), np.uint16, offset=1).reshape(f.shape),
    ],
)
def test_strides_of_16_bits(implementation: str, view) -> None:
    frame = view(noise16((60, 80, 3)))
    expected, out = poisoned((32, 32)), poisoned((32, 32))
    for given_frame, target in ((frame, out), (frame.copy(), expected)):
        resize_normalize(implementation, given_frame, target, *GREY_LEVELS, levels=(0, 65535))
    np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("pixel_format", BAYER)
def test_bayer_frames_of_one_colour(implementation: str, pixel_format: str) -> None:
    colour = np.array([200, 90, 30])
    row, column = BAYER[pixel_format]
    y, x = np.mgrid[:23, :34]
    channel = np.where((y % 2 == row) & (x % 2 == column), 0, 1)
    channel[(y % 2 != row) & (x % 2 != column)] = 2
    out = poisoned((9, 16))
    frame = colour[channel].astype(np.uint8)
    resize_normalize(implementation, frame, out, *GREY_LEVELS, pixel_format)
    np.testing.assert_allclose(out, np.broadcast_to(colour[:, None, None], out.shape), atol=1e-3)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("pixel_format", BAYER)
def test_bayer_frames_are_demosaiced_then_resized(implementation: str, pixel_format: str) -> None:
    frame, out = noise((35, 46)), poisoned((16, 20))
    resize_normalize(implementation, frame, out, *GREY_LEVELS, pixel_format)
    for plane, found in zip(demosaic_numpy(frame, pixel_format), out, strict=True):
        expected = Image.fromarray(plane).resize((20, 16), Image.Resampling.BILINEAR)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-3)  # of 255, in float32


def test_demosaic_takes_measured_levels_as_they_are() -> None:
    frame = noise((6, 8))
    planes = demosaic_numpy(frame, "bayer_grbg")
    np.testing.assert_array_equal(planes[0, ::2, 1::2], frame[::2, 1::2])
    np.testing.assert_array_equal(planes[1, ::2, ::2], frame[::2, ::2])
    np.testing.assert_array_equal(planes[1, 1::2, 1::2], frame[1::2, 1::2])
    np.testing.assert_array_equal(planes[2, 1::2, ::2], frame[1::2, ::2])
    around = frame.astype(float)
    assert planes[1, 2, 3] == (around[1, 3] + around[3, 3] + around[2, 2] + around[2, 4]) / 4
    assert planes[0, 1, 2] == (around[0, 1] + around[0, 3] + around[2, 1] + around[2, 3]) / 4


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_bgr_and_crop_are_views(implementation: str) -> None:
    frame = noise((60, 80, 3))
    expected, out = poisoned((32, 30)), poisoned((32, 30))
    view = np.ascontiguousarray(frame[7:47, 12:60, ::-1])
    resize_normalize(implementation, view, expected, *IMAGENET)
    resize_normalize(implementation, frame, out, *IMAGENET, "bgr", (7, 12, 40, 48))
    np.testing.assert_allclose(out, expected, rtol=0, atol=TOLERANCE[np.float32])


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize(
    "view",
    [
        lambda f: f[:, 8:48],  # rows with a pitch
        lambda f: f[::2, ::3],
        lambda f: f[::-1],
        lambda f: f[..., ::-1],  # BGR as RGB
        lambda f: f[..., 1],
        np.asfortranarray,
        lambda f: np.broadcast_to(f[:1], f.shape),
    ],
)
def test_strides(implementation: str, view) -> None:
    frame = view(noise((60, 80, 3)))
    expected, out = poisoned((32, 32)), poisoned((32, 32))
    resize_normalize(implementation, np.ascontiguousarray(frame), expected, *GREY_LEVELS)
    resize_normalize(implementation, frame, out, *GREY_LEVELS)
    np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize("implementation", COMPILED)
@pytest.mark.parametrize("pixel_format", ["rgb", "mono", "bayer_gbrg"])
def test_threads_change_nothing(implementation: str, pixel_format: str) -> None:
    frame = noise((60, 80, 3) if pixel_format == "rgb" else (60, 80))
    alone, together = poisoned((33, 32)), poisoned((33, 32))
    resize_normalize(implementation, frame, alone, *GREY_LEVELS, pixel_format)
    resize_normalize(implementation, frame, together, *GREY_LEVELS, pixel_format, threads=5)
    np.testing.assert_array_equal(alone, together)


@pytest.mark.parametrize("implementation", COMPILED)
def test_half_precision_rounds_as_numpy_does(implementation: str) -> None:
    # Levels times these gains cross float16's normal, subnormal and overflowing numbers.
    frame = np.arange(256, dtype=np.uint8).reshape(16, 16)
    std = (1e-5, 1 / 255, 3e6)
    exact, out = poisoned((16, 16)), poisoned((16, 16), np.float16)
    resize_normalize(implementation, frame, exact, (0.0,) * 3, std)
    resize_normalize(implementation, frame, out, (0.0,) * 3, std)
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(out, exact.astype(np.float16))
    assert np.isinf(out).any()
    assert (np.abs(out[2]) < 2**-14).all()


@pytest.mark.parametrize("implementation", ["numpy", *COMPILED])
@pytest.mark.parametrize("pixel_format", ["bgr", "mono", "bayer_grbg"])
@given(st.data())
def test_windows(implementation, pixel_format, data) -> None:
    """They are slices of the whole resized frame, and the whole is the same as no window."""
    height, width = (data.draw(st.integers(8, 60)) for _ in range(2))
    frame = noise((height, width, 3) if pixel_format in ("rgb", "bgr") else (height, width))
    options = {"pixel_format": pixel_format}
    options["crop"] = data.draw(st.sampled_from([None, (3, 2, height - 4, width - 5)]))
    if data.draw(st.booleans()):
        frame, options["levels"] = frame * np.uint16(257), (2000, 60000)
    rows, columns = data.draw(st.integers(1, 70)), data.draw(st.integers(1, 70))
    whole, again = poisoned((rows, columns)), poisoned((rows, columns))
    resize_normalize(implementation, frame, whole, *IMAGENET, **options)
    window = Window(rows, columns, 0, 0)
    resize_normalize(implementation, frame, again, *IMAGENET, window=window, **options)
    np.testing.assert_array_equal(again, whole)
    top, left = data.draw(st.integers(0, rows - 1)), data.draw(st.integers(0, columns - 1))
    size = data.draw(st.integers(1, rows - top)), data.draw(st.integers(1, columns - left))
    out = poisoned(size)
    window = Window(rows, columns, top, left)
    resize_normalize(implementation, frame, out, *IMAGENET, window=window, **options)
    shown = whole[:, top : top + size[0], left : left + size[1]]
    np.testing.assert_allclose(out, shown, rtol=0, atol=TOLERANCE[np.float32])


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_normalisation(implementation: str) -> None:
    frame = np.full((5, 7, 3), (0, 51, 255), np.uint8)
    out = poisoned((4, 4))
    resize_normalize(implementation, frame, out, (0.5, 0.2, 0.0), (0.5, 0.1, 2.0))
    np.testing.assert_allclose(out[:, 0, 0], [-1.0, 0.0, 0.5], atol=1e-6)
