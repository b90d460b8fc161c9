from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from rdx_fast.kernels.epilogue import Epilogue, summarize_numpy
from rdx_fast.kernels.fuse_mul import fuse_mul as checked_fuse_mul
from rdx_fast.kernels.operators import Band, gaussian_matrix, upsample_matrix
from support.kernel_runs import COMPILED, IMPLEMENTATIONS, fuse_mul
from support.smooth_map_cases import RELATIVE_TOLERANCE, upsampled


def generated(batch, scales, size):
    rng = np.random.default_rng(0)
    distances = [rng.uniform(0, 2, (batch, *scale)).astype(np.float32) for scale in scales]
    rows = [Band.of(upsample_matrix(h, size[0])) for h, _ in scales]
    columns = [Band.of(upsample_matrix(w, size[1])) for _, w in scales]
    return distances, rows, columns, tuple(Band.of(gaussian_matrix(n, 4.0, 4.0)) for n in size)


def published(distances: list[NDArray], size: tuple[int, int]) -> NDArray[np.float64]:
    product = np.prod([upsampled(d, size) for d in distances], axis=0)
    return np.stack([gaussian_filter(m, sigma=4) for m in product])


CASES = [
    ([(64, 64), (32, 32), (16, 16)], (256, 256), 1),
    ([(37, 53), (19, 27)], (255, 317), 3),
    ([(37, 53), (19, 27)], (255, 317), 32),
    ([(37, 53), (19, 27), (10, 14)], (65, 83), 1),
    ([(5, 4)], (20, 17), 2),
    ([(1, 4), (3, 1)], (7, 1), 2),
]


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize(("scales", "size", "batch"), CASES)
def test_against_published_chain(implementation, scales, size, batch) -> None:
    if implementation == "triton" and batch * size[0] * size[1] > 10_000:
        pytest.skip("the interpreter would take minutes")
    distances, rows, columns, blur = generated(batch, scales, size)
    expected = published(distances, size)
    result, summary = fuse_mul(implementation, distances, rows, columns, blur)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, expected, rtol=0, atol=RELATIVE_TOLERANCE * expected.max())
    np.testing.assert_array_equal(summary.maxima[:, 0], result.max(axis=(1, 2)))


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_same_epilogue(implementation: str) -> None:
    size = (20, 33)
    labels = np.random.default_rng(2).integers(0, 4, size).astype(np.uint8)
    epilogue = Epilogue(labels, (0.9, 1.0, 1.1), 5)
    maps, found = fuse_mul(implementation, *generated(2, [(6, 7), (3, 4)], size), epilogue)
    expected = summarize_numpy(maps, epilogue)
    np.testing.assert_array_equal(found.maxima, expected.maxima)
    np.testing.assert_array_equal(found.areas, expected.areas)
    np.testing.assert_allclose(found.top_means, expected.top_means, rtol=1e-6)


@pytest.mark.parametrize("implementation", COMPILED)
def test_threads_change_nothing(implementation: str) -> None:
    given = generated(3, [(6, 7), (3, 4)], (41, 33))
    alone, _ = fuse_mul(implementation, *given)
    together, _ = fuse_mul(implementation, *given, threads=3)
    np.testing.assert_array_equal(alone, together)


def test_gaussian_of_another_size_is_refused() -> None:
    distances, rows, columns, _ = generated(1, [(4, 5)], (8, 9))
    blur = Band.of(gaussian_matrix(7, 4.0, 4.0))
    across = [b.transposed for b in columns]
    with pytest.raises(ValueError, match=r"the Gaussian is for maps of \[7, 7\]"):
        checked_fuse_mul(distances, rows, across, blur, blur.transposed, Epilogue())
