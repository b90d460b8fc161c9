from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from rdx_fast.kernels.cosine_map import cosine_map
from rdx_fast.kernels.cosine_map import cosine_maps as checked_cosine_maps
from support.kernel_runs import COMPILED, IMPLEMENTATIONS, cosine_maps

# Of a map whose range is [0, 2]. Inputs of half precision are exact numbers; sums are float32's.
TOLERANCE = 2e-6
DTYPES = [np.float32, np.float16, ml_dtypes.bfloat16]


def pair(shape: tuple[int, ...], dtype: type = np.float32, factor: float = 1) -> list[NDArray]:
    rng = np.random.default_rng(0)
    teacher = rng.standard_normal(shape)
    # Alike here and unlike there, so that distances range from 0 to 2.
    student = teacher * np.linspace(1, -1, shape[-1]) + 0.1 * rng.standard_normal(shape)
    return [(factor * x).astype(dtype) for x in (teacher, student)]


def published(teacher: NDArray, student: NDArray) -> NDArray[np.float64]:
    t, s = (torch.from_numpy(x.astype(np.float64)) for x in (teacher, student))
    return (1 - torch.nn.functional.cosine_similarity(t, s)).numpy()


def check(implementation: str, teacher: NDArray, student: NDArray) -> None:
    (result,) = cosine_maps(implementation, [teacher], [student])
    assert result.dtype == np.float32
    expected = published(teacher, student)
    np.testing.assert_allclose(result, expected, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@given(
    st.integers(1, 3),
    st.integers(1, 70),
    st.integers(1, 40),
    st.integers(1, 40),
    st.sampled_from(DTYPES),
    st.booleans(),
)
def test_against_torch(implementation, b, c, h, w, dtype, channels_last) -> None:
    teacher, student = pair((b, c, h, w), dtype)
    if channels_last:
        teacher, student = (
            np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
            for x in (teacher, student)
        )
    check(implementation, teacher, student)


@pytest.mark.parametrize(
    ("implementation", "batch"),
    [
        # 32 images take the interpreter as long as all of the others together.
        pytest.param(i, b, marks=[pytest.mark.slow] if (i, b) == ("triton", 32) else [])
        for i in IMPLEMENTATIONS
        for b in (1, 3, 32)
    ],
)
def test_several_scales_at_once(implementation: str, batch: int) -> None:
    pairs = [pair((batch, *scale)) for scale in ((16, 37, 53), (48, 19, 27), (100, 7, 5))]
    teacher, student = zip(*pairs, strict=True)
    results = cosine_maps(implementation, teacher, student)
    for result, t, s in zip(results, teacher, student, strict=True):
        np.testing.assert_allclose(result, published(t, s), rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "view",
    [
        lambda x: x[:, ::2, 1:, ::3],
        lambda x: x[:, :, 2:9],  # images that do not follow each other
        lambda x: x[:, :, :, 3:],  # rows that do not
        lambda x: x[:, ::-1, ::-1],
        lambda x: x.transpose(0, 3, 1, 2),
        lambda x: x.transpose(0, 3, 1, 2)[:, 3:],
        lambda x: np.broadcast_to(x[:, :, :1], x.shape),
    ],
)
def test_strides(implementation: str, dtype: type, view) -> None:
    teacher, student = pair((2, 20, 22, 36), dtype)
    check(implementation, view(teacher), view(student))


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_teacher_and_student_laid_out_differently(implementation: str) -> None:
    teacher, student = pair((2, 24, 9, 11))
    other = np.ascontiguousarray(student.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    check(implementation, teacher, other)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("factor", [1e3, 1, 1e-4])
@pytest.mark.parametrize("channels_last", [False, True])
def test_half_precision_keeps_its_range(implementation, factor, channels_last) -> None:
    teacher, student = pair((1, 64, 8, 40), np.float16, factor)
    if channels_last:
        teacher, student = (x.transpose(0, 3, 2, 1) for x in (teacher, student))
    (result,) = cosine_maps(implementation, [teacher], [student])
    expected = published(teacher, student)
    naive = 1 - torch.nn.functional.cosine_similarity(
        *(torch.from_numpy(x.copy()) for x in (teacher, student))
    )
    naive_error = np.abs(naive.float().numpy() - expected).max()
    error = np.abs(result - expected).max()
    assert error <= TOLERANCE
    assert not error > 2 * naive_error  # NaN where half precision overflows


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("shape", [(1, 8, 4, 40), (1, 40, 4, 4)])
def test_zero_vectors_as_torch(implementation: str, shape: tuple[int, ...]) -> None:
    teacher, student = pair(shape)
    teacher[:, :, 0] = 0
    student[:, :, :2] = 0
    for t, s in ((teacher, student), (x.transpose(0, 2, 3, 1) for x in (teacher, student))):
        (result,) = cosine_maps(implementation, [t], [s])
        np.testing.assert_allclose(result, published(t, s), rtol=0, atol=TOLERANCE)
    (result,) = cosine_maps(implementation, [teacher], [student])
    np.testing.assert_array_equal(result[:, :2], 1.0)


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning:triton")
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("channels", [5, 64])
def test_broken_features_show(implementation: str, bad: float, channels: int) -> None:
    teacher, student = pair((1, channels, 3, 50))
    teacher[0, 2, 1, 7] = bad
    for t, s in (
        (teacher, student),
        (teacher.transpose(0, 2, 3, 1), student.transpose(0, 2, 3, 1)),
    ):
        (result,) = cosine_maps(implementation, [t], [s])
        assert np.isnan(result).sum() == np.isnan(published(t, s)).sum() > 0


@pytest.mark.parametrize("implementation", COMPILED)
@pytest.mark.parametrize("threads", [2, 5, 64])
def test_threads_change_nothing(implementation: str, threads: int) -> None:
    pairs = [pair((2, *scale)) for scale in ((256, 30, 32), (40, 5, 3))]
    teacher, student = zip(*pairs, strict=True)
    alone = cosine_maps(implementation, teacher, student)
    together = cosine_maps(implementation, teacher, student, threads)
    for a, b in zip(alone, together, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("teacher", "student", "message"),
    [
        (np.zeros((1, 2, 3, 3), np.float32), np.zeros((1, 2, 3, 4), np.float32), "differ"),
        (np.zeros((2, 3, 3), np.float32), np.zeros((2, 3, 3), np.float32), "differ or are not"),
        (np.zeros((1, 0, 3, 3), np.float32), np.zeros((1, 0, 3, 3), np.float32), "differ or are"),
        (np.zeros((1, 2, 3, 3)), np.zeros((1, 2, 3, 3)), "float64, wanted one of"),
        (np.zeros((1, 2, 3, 3), np.float32), np.zeros((1, 2, 3, 3), np.float16), "wanted one of"),
    ],
)
def test_refused(teacher: NDArray, student: NDArray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        cosine_map(teacher, student)


def test_other_refusals() -> None:
    x = np.zeros((1, 2, 3, 3), np.float32)
    with pytest.raises(ValueError, match="1 teacher and 2 student maps"):
        checked_cosine_maps([x], [x, x])
    with pytest.raises(ValueError, match="0 teacher"):
        checked_cosine_maps([], [])
    with pytest.raises(ValueError, match="threads is 0"):
        cosine_map(x, x, threads=0)
