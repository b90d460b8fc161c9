from __future__ import annotations

import shutil
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from rdx_fast.kernels.resize_normalize import (
    IMPLEMENTATION,
    resize_normalize,
    resize_normalize_numpy,
)

GREY_LEVELS = ((0.0,) * 3, (1 / 255,) * 3)  # mean and std that leave grey levels as they are
IMPLEMENTATIONS = [resize_normalize, resize_normalize_numpy]
SIZES = [
    ((1024, 1024, 3), (256, 256)),
    ((300, 300), (256, 256)),
    ((500, 1260), (256, 256)),
    ((37, 53, 3), (64, 96)),
    ((255, 317, 3), (32, 64)),
    ((64, 96, 3), (64, 96)),
    ((1, 1), (32, 32)),
]


def noise(shape: tuple[int, ...]) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def poisoned(size: tuple[int, int]) -> NDArray[np.float32]:
    return np.full((3, *size), np.nan, np.float32)


def pil(frame: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.float64]:
    resized = Image.fromarray(frame).resize(size[::-1], Image.Resampling.BILINEAR)
    levels = np.asarray(resized, np.float64)
    return np.stack([levels] * 3) if levels.ndim == 2 else levels.transpose(2, 0, 1)


@pytest.mark.skipif(
    not any(map(shutil.which, ("c++", "g++", "clang++", "cl"))), reason="no compiler"
)
def test_extension_is_built() -> None:
    assert IMPLEMENTATION == "c++"


def test_without_the_extension() -> None:
    # None in sys.modules is how Python spells "not installed".
    code = """
import sys
sys.modules["rdx_fast._C"] = None
import numpy as np
from rdx_fast.kernels.resize_normalize import IMPLEMENTATION, resize_normalize
out = np.full((3, 2, 2), np.nan, np.float32)
resize_normalize(np.full((4, 4), 51, np.uint8), out, (0, 0, 0), (1, 1, 1))
print(IMPLEMENTATION, f"{out.min():.6f}", f"{out.max():.6f}")
"""
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["numpy", "0.200000", "0.200000"]


@pytest.mark.parametrize("run", IMPLEMENTATIONS)
@pytest.mark.parametrize(("shape", "size"), SIZES)
def test_within_one_grey_level_of_pil(run, shape, size) -> None:
    frame, out = noise(shape), poisoned(size)
    run(frame, out, *GREY_LEVELS)
    assert np.abs(out - pil(frame, size)).max() <= 1.0


@settings(max_examples=50, deadline=None)
@given(
    st.integers(1, 90), st.integers(1, 90), st.booleans(), st.integers(1, 70), st.integers(1, 70)
)
def test_implementations_agree(height: int, width: int, mono: bool, h: int, w: int) -> None:
    frame = noise((height, width) if mono else (height, width, 3))
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    out, reference = poisoned((h, w)), poisoned((h, w))
    resize_normalize(frame, out, mean, std)
    resize_normalize_numpy(frame, reference, mean, std)
    np.testing.assert_allclose(out, reference, rtol=0, atol=2e-5)


@pytest.mark.parametrize("run", IMPLEMENTATIONS)
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
def test_strides(run, view) -> None:
    frame = view(noise((60, 80, 3)))
    expected, out = poisoned((32, 32)), poisoned((32, 32))
    run(np.ascontiguousarray(frame), expected, *GREY_LEVELS)
    run(frame, out, *GREY_LEVELS)
    np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize("run", IMPLEMENTATIONS)
def test_normalisation(run) -> None:
    frame = np.full((5, 7, 3), (0, 51, 255), np.uint8)
    out = poisoned((4, 4))
    run(frame, out, (0.5, 0.2, 0.0), (0.5, 0.1, 2.0))
    np.testing.assert_allclose(out[:, 0, 0], [-1.0, 0.0, 0.5], atol=1e-6)


@pytest.mark.parametrize(
    ("frame", "out"),
    [
        (np.zeros((4, 4), np.float32), poisoned((2, 2))),
        (np.zeros((4, 4, 4), np.uint8), poisoned((2, 2))),
        (np.zeros((4,), np.uint8), poisoned((2, 2))),
        (np.zeros((0, 4, 3), np.uint8), poisoned((2, 2))),
        (np.zeros((4, 4), np.uint8), np.zeros((3, 2, 2))),
        (np.zeros((4, 4), np.uint8), np.zeros((1, 2, 2), np.float32)),
        (np.zeros((4, 4), np.uint8), np.zeros((3, 4, 2), np.float32)[:, ::2]),
    ],
)
def test_refused(frame, out) -> None:
    with pytest.raises(ValueError, match=r"wanted|empty"):
        resize_normalize(frame, out, *GREY_LEVELS)
