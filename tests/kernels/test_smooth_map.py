from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from rdx_fast.bench import triton_operations
from rdx_fast.kernels.epilogue import Epilogue
from rdx_fast.kernels.smooth_map import smooth_map as checked_smooth_map
from support.kernel_runs import COMPILED, DEVICE, IMPLEMENTATIONS, smooth_map
from support.smooth_map_cases import RELATIVE_TOLERANCE, generated, upsampled


def published(distances: list[NDArray], size: tuple[int, int], sigma: float) -> NDArray:
    total = sum(upsampled(d, size) for d in distances)
    return np.stack([gaussian_filter(m, sigma=sigma) for m in total])


def check(implementation, batch, scales, size, sigma=4.0) -> None:
    distances, rows, columns = generated(batch, scales, size, sigma)
    result, summary = smooth_map(implementation, distances, rows, columns)
    assert result is not None
    assert result.dtype == np.float32
    expected = published(distances, size, sigma)
    atol = RELATIVE_TOLERANCE * expected.max()
    np.testing.assert_allclose(result, expected, rtol=0, atol=atol)
    np.testing.assert_array_equal(summary.maxima[:, 0], result.max(axis=(1, 2)))


@pytest.mark.parametrize("implementation", ["numpy", *COMPILED])
@given(
    st.integers(1, 3),
    st.lists(st.tuples(st.integers(1, 40), st.integers(1, 40)), min_size=1, max_size=4),
    st.tuples(st.integers(1, 130), st.integers(1, 130)),
    st.floats(0.3, 9.0),
)
def test_against_published_chain(implementation, batch, scales, size, sigma) -> None:
    check(implementation, batch, scales, size, sigma)


@settings(max_examples=settings().max_examples // 4)  # the interpreter is slow
@given(
    st.integers(1, 2),
    st.lists(st.tuples(st.integers(1, 20), st.integers(1, 20)), min_size=1, max_size=3),
    st.tuples(st.integers(1, 40), st.integers(1, 70)),
    st.floats(0.3, 6.0),
)
def test_against_published_chain_on_triton(batch, scales, size, sigma) -> None:
    check("triton", batch, scales, size, sigma)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_published_sizes(implementation: str) -> None:
    check(implementation, 1, [(64, 64), (32, 32), (16, 16)], (256, 256))


@pytest.mark.parametrize("implementation", ["numpy", *COMPILED])
@pytest.mark.parametrize("batch", [1, 3, 32])
def test_odd_sizes(implementation: str, batch: int) -> None:
    check(implementation, batch, [(37, 53), (19, 27), (10, 14)], (255, 317))


def test_odd_sizes_on_triton() -> None:
    check("triton", 1, [(37, 53), (19, 27), (10, 14)], (65, 83))
    check("triton", 32, [(5, 7)], (9, 11))


@pytest.mark.parametrize("implementation", COMPILED)
@pytest.mark.parametrize("threads", [2, 7])
def test_threads_change_nothing(implementation: str, threads: int) -> None:
    given = generated(3, [(16, 20), (8, 10)], (61, 83))
    labels = np.random.default_rng(1).integers(0, 4, (61, 83)).astype(np.uint8)
    epilogue = Epilogue(labels, (1.9, 2.0, 2.1), top_k=9)
    alone, first = smooth_map(implementation, *given, epilogue)
    together, second = smooth_map(implementation, *given, epilogue, threads=threads)
    np.testing.assert_array_equal(alone, together)
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_distances_that_are_views(implementation: str) -> None:
    (distances,), rows, columns = generated(2, [(9, 11)], (20, 30))
    wide = np.zeros((2, 9, 22), np.float32)
    wide[..., ::2] = distances
    expected, _ = smooth_map(implementation, [distances], rows, columns)
    result, _ = smooth_map(implementation, [wide[..., ::2]], rows, columns)
    np.testing.assert_array_equal(result, expected)


def test_misfits_are_refused() -> None:
    (distances,), rows, columns = generated(1, [(4, 5)], (8, 9))
    across = [b.transposed for b in columns]
    nothing = Epilogue()
    with pytest.raises(ValueError, match=r"distance map 0 is float32 \[1, 5, 4\]"):
        checked_smooth_map([distances.transpose(0, 2, 1)], rows, across, nothing)
    with pytest.raises(ValueError, match="distance map 0 is float64"):
        checked_smooth_map([distances.astype(float)], rows, across, nothing)
    with pytest.raises(ValueError, match="no distance maps"):
        checked_smooth_map([], [], [], nothing)
    with pytest.raises(ValueError, match=r"out is float32 \[1, 9, 8\], wanted"):
        checked_smooth_map([distances], rows, across, nothing, np.zeros((1, 9, 8), np.float32))
    with pytest.raises(ValueError, match=r"marked in \[3, 3\] pixels, the map is \[8, 9\]"):
        checked_smooth_map([distances], rows, across, Epilogue(np.ones((3, 3), np.uint8)))


def test_misfits_are_refused_on_triton() -> None:
    (distances,), rows, columns = generated(1, [(4, 5)], (8, 9))
    operators = triton_operations.Operators.of(rows, [b.transposed for b in columns], DEVICE)
    given = torch.from_numpy(distances).to(DEVICE)
    with pytest.raises(ValueError, match=r"the operators want \[\(1, 4, 5\)\] of float32"):
        triton_operations.smooth_map([given.transpose(1, 2)], operators)
    with pytest.raises(ValueError, match=r"of torch\.float64, the operators want"):
        triton_operations.smooth_map([given.double()], operators)
    with pytest.raises(ValueError, match=r"out is torch\.float32 \[1, 9, 8\], wanted"):
        triton_operations.smooth_map([given], operators, out=given.new_zeros(1, 9, 8))
    with pytest.raises(ValueError, match=r"marked in \[3, 3\] pixels, the map is \[8, 9\]"):
        triton_operations.smooth_map([given], operators, Epilogue(np.ones((3, 3), np.uint8)))
