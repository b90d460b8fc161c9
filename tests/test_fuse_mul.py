from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from test_smooth_map import RELATIVE_TOLERANCE, upsampled

from rdx_fast.kernels.fuse_mul import fuse_mul
from rdx_fast.kernels.smooth_map import gaussian_matrix, upsample_matrix


@pytest.mark.parametrize(
    ("scales", "size", "batch"),
    [
        ([(64, 64), (32, 32), (16, 16)], (256, 256), 1),
        ([(37, 53), (19, 27)], (255, 317), 3),
        ([(5, 4)], (20, 17), 2),
    ],
)
def test_against_published_chain(scales, size, batch) -> None:
    rng = np.random.default_rng(0)
    distances = [rng.uniform(0, 2, (batch, *scale)).astype(np.float32) for scale in scales]
    product = np.prod([upsampled(d, size) for d in distances], axis=0)
    expected = np.stack([gaussian_filter(m, sigma=4) for m in product])
    rows = [upsample_matrix(h, size[0]).astype(np.float32) for h, _ in scales]
    columns = [upsample_matrix(w, size[1]).astype(np.float32) for _, w in scales]
    blur = [gaussian_matrix(n, 4.0, 4.0).astype(np.float32) for n in size]
    result = fuse_mul(distances, rows, columns, *blur)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, expected, rtol=0, atol=RELATIVE_TOLERANCE * expected.max())
