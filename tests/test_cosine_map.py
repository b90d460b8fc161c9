from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from rdx_fast.kernels.cosine_map import cosine_map

TOLERANCE = {"float32": 2e-6, "float16": 1e-3}  # of a map whose range is [0, 2]


def pair(shape: tuple[int, ...], dtype: str = "float32") -> tuple[NDArray, NDArray]:
    rng = np.random.default_rng(0)
    return tuple(rng.standard_normal(shape).astype(dtype) for _ in range(2))  # type: ignore[return-value]


def published(teacher: NDArray, student: NDArray) -> NDArray:
    t, s = (torch.from_numpy(np.ascontiguousarray(x)).double() for x in (teacher, student))
    return (1 - torch.nn.functional.cosine_similarity(t, s)).numpy()


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 3), st.integers(1, 70), st.integers(1, 40), st.integers(1, 40))
def test_against_torch(b: int, c: int, h: int, w: int) -> None:
    teacher, student = pair((b, c, h, w))
    result = cosine_map(teacher, student)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, published(teacher, student), atol=TOLERANCE["float32"])


def test_channels_last_and_slices() -> None:
    teacher, student = pair((2, 37, 53, 48))
    last = [x.transpose(0, 3, 1, 2) for x in (teacher, student)]
    np.testing.assert_allclose(cosine_map(*last), published(*last), atol=TOLERANCE["float32"])
    cut = [x[:, ::2, 1:, ::3] for x in (teacher, student)]
    np.testing.assert_allclose(cosine_map(*cut), published(*cut), atol=TOLERANCE["float32"])


@pytest.mark.parametrize("factor", [1e3, 1, 1e-4])
def test_half_precision_does_not_overflow(factor: float) -> None:
    teacher, student = pair((1, 64, 8, 8))
    halves = [(x * factor).astype(np.float16) for x in (teacher, student)]
    np.testing.assert_allclose(cosine_map(*halves), published(*halves), atol=TOLERANCE["float16"])


def test_zero_vectors_as_torch() -> None:
    teacher, student = pair((1, 8, 4, 4))
    teacher[:, :, 0] = 0
    student[:, :, :2] = 0
    result = cosine_map(teacher, student)
    np.testing.assert_array_equal(result[:, :2], 1.0)
    np.testing.assert_allclose(result, published(teacher, student), atol=TOLERANCE["float32"])


@pytest.mark.parametrize(
    ("teacher", "student"),
    [
        (np.zeros((1, 2, 3, 3), np.float32), np.zeros((1, 2, 3, 4), np.float32)),
        (np.zeros((2, 3, 3), np.float32), np.zeros((2, 3, 3), np.float32)),
        (np.zeros((1, 2, 3, 3)), np.zeros((1, 2, 3, 3))),
    ],
)
def test_refused(teacher: NDArray, student: NDArray) -> None:
    with pytest.raises(ValueError, match=r"differ|wanted"):
        cosine_map(teacher, student)
