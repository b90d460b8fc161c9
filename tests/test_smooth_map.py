from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, gaussian_filter1d

from rdx_fast.kernels.smooth_map import gaussian_matrix, smooth_map, upsample_matrix

RELATIVE_TOLERANCE = 2e-6  # of the map's range


def upsampled(distance: NDArray, size: tuple[int, int]) -> NDArray[np.float64]:
    tensor = torch.from_numpy(distance).double()[:, None]
    return torch.nn.functional.interpolate(
        tensor, size=size, mode="bilinear", align_corners=True
    ).numpy()[:, 0]


def published(distances: list[NDArray], size: tuple[int, int], sigma: float) -> NDArray:
    total = sum(upsampled(d, size) for d in distances)
    return np.stack([gaussian_filter(m, sigma=sigma) for m in total])


def operators(sizes: list[int], out: int, sigma: float) -> list[NDArray[np.float32]]:
    blur = gaussian_matrix(out, sigma, truncate=4.0)
    return [(blur @ upsample_matrix(size, out)).astype(np.float32) for size in sizes]


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 3),
    st.lists(st.tuples(st.integers(1, 40), st.integers(1, 40)), min_size=1, max_size=3),
    st.tuples(st.integers(1, 130), st.integers(1, 130)),
    st.floats(0.3, 9.0),
)
def test_against_published_chain(batch, scales, size, sigma) -> None:
    rng = np.random.default_rng(0)
    distances = [rng.uniform(0, 2, (batch, *scale)).astype(np.float32) for scale in scales]
    rows = operators([h for h, _ in scales], size[0], sigma)
    columns = operators([w for _, w in scales], size[1], sigma)
    result = smooth_map(distances, rows, columns)
    assert result.dtype == np.float32
    expected = published(distances, size, sigma)
    np.testing.assert_allclose(result, expected, rtol=0, atol=RELATIVE_TOLERANCE * expected.max())


def test_published_sizes() -> None:
    rng = np.random.default_rng(1)
    distances = [rng.uniform(0, 2, (2, n, n)).astype(np.float32) for n in (64, 32, 16)]
    matrices = operators([64, 32, 16], 256, 4.0)
    expected = published(distances, (256, 256), 4.0)
    result = smooth_map(distances, matrices, matrices)
    np.testing.assert_allclose(result, expected, rtol=0, atol=RELATIVE_TOLERANCE * expected.max())


@pytest.mark.parametrize("size", [1, 2, 5, 16, 17, 100])
def test_gaussian_matrix_is_scipys_filter(size: int) -> None:
    # Sizes below the radius of 16 reflect more than once.
    expected = gaussian_filter1d(np.eye(size), sigma=4.0, axis=0)
    np.testing.assert_allclose(gaussian_matrix(size, 4.0, 4.0), expected, atol=1e-14)


def test_misfit_is_refused() -> None:
    matrix = np.zeros((8, 4), np.float32)
    with pytest.raises(ValueError, match="distance map 0 is"):
        smooth_map([np.zeros((1, 4, 5), np.float32)], [matrix], [matrix])
