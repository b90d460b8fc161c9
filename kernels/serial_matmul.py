"""Matrix products that stay on the calling thread."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# OpenBLAS hands larger products (multiply-adds) to threads of its own, which then spin for
# milliseconds on the cores that the engine needs: it nearly doubled the latency on two cores.
_SERIAL_LIMIT = 2**18


def serial_matmul(left: NDArray[np.float32], right: NDArray[np.float32]) -> NDArray[np.float32]:
    """``left @ right`` for ``left: [..., M, K]``, ``right: [..., K, N]`` float32, in slabs of rows
    small enough to be computed by the caller alone."""
    count, (inner, width) = left.shape[-2], right.shape[-2:]
    stack = np.broadcast_shapes(left.shape[:-2], right.shape[:-2])
    out = np.empty((*stack, count, width), np.float32)
    rows = max(1, _SERIAL_LIMIT // (inner * width))
    rows -= rows % 8 if rows > 8 else 0  # whole vectors
    for i in range(0, count, rows):
        np.matmul(left[..., i : i + rows, :], right, out=out[..., i : i + rows, :])
    return out
