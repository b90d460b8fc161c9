from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from rdx_fast.kernels.serial_matmul import serial_matmul


@given(
    st.integers(1, 300), st.integers(1, 200), st.integers(1, 300), st.sampled_from([(), (1,), (3,)])
)
def test_is_the_product(m: int, k: int, n: int, stack: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    left = rng.standard_normal((*stack, m, k), np.float32)
    right = rng.standard_normal((n, k), np.float32).T
    expected = left.astype(np.float64) @ right.astype(np.float64)
    np.testing.assert_allclose(serial_matmul(left, right), expected, atol=1e-4)


def test_stack_on_the_right() -> None:
    rng = np.random.default_rng(0)
    left = rng.standard_normal((256, 64), np.float32)
    right = rng.standard_normal((2, 64, 70), np.float32)
    np.testing.assert_allclose(serial_matmul(left, right), left @ right, atol=1e-4)
