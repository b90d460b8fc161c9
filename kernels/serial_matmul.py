"""Matrix products that stay on the calling thread."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# OpenBLAS hands larger products (multiply-adds) to threads of its own, which then spin for
# milliseconds on the cores that the engine needs: it nearly doubled the latency on two cores.
_SERIAL_LIMIT = 2**18
_COLUMNS = 64


def serial_matmul(left: NDArray[np.float32], right: NDArray[np.float32]) -> NDArray[np.float32]:
    """``left @ right`` for ``left: [..., M, K]``, ``right: [..., K, N]`` float32, in blocks small
    enough to be computed by the caller alone."""
    height, (inner, width) = left.shape[-2], right.shape[-2:]
    stack = np.broadcast_shapes(left.shape[:-2], right.shape[:-2])
    out = np.empty((*stack, height, width), np.float32)
    rows = max(1, _SERIAL_LIMIT // (inner * _COLUMNS))
    rows -= rows % 8 if rows > 8 else 0  # whole vectors
    for i in range(0, height, rows):
        for j in range(0, width, _COLUMNS):
            block = (..., slice(i, i + rows), slice(j, j + _COLUMNS))
            np.matmul(left[..., i : i + rows, :], right[..., j : j + _COLUMNS], out=out[block])
    return out
