from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter1d

from rdx_fast.kernels.operators import Band, gaussian_matrix, upsample_matrix


@pytest.mark.parametrize("size", [1, 2, 5, 16, 17, 100])
def test_gaussian_matrix_is_scipys_filter(size: int) -> None:
    # Sizes below the radius of 16 reflect more than once.
    expected = gaussian_filter1d(np.eye(size), sigma=4.0, axis=0)
    np.testing.assert_allclose(gaussian_matrix(size, 4.0, 4.0), expected, atol=1e-14)


@pytest.mark.parametrize(("in_size", "out_size"), [(1, 1), (1, 7), (7, 1), (5, 5), (16, 255)])
def test_upsample_matrix_is_torchs(in_size: int, out_size: int) -> None:
    eye = torch.eye(in_size, dtype=torch.float64)[None]
    expected = torch.nn.functional.interpolate(
        eye[:, None], size=(out_size, in_size), mode="bilinear", align_corners=True
    )
    found = upsample_matrix(in_size, out_size)
    np.testing.assert_allclose(found, expected[0, 0].numpy(), rtol=0, atol=1e-14)


def test_band_knows_its_zeros() -> None:
    band = Band.of(np.array([[0, 1, 2, 0], [3, 0, 0, 4], [0, 0, 0, 5.0]]))
    np.testing.assert_array_equal(band.first, [1, 0, 3])
    np.testing.assert_array_equal(band.end, [3, 4, 4])
    np.testing.assert_array_equal(band.transposed.matrix, band.matrix.T)
    assert band.transposed.matrix.flags.c_contiguous
