"""Anomaly map of multiplied scales. A product is not linear: upsample, multiply, then blur."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rdx_fast.kernels.serial_matmul import serial_matmul


def fuse_mul(
    distances: Sequence[NDArray[np.float32]],
    rows: Sequence[NDArray[np.float32]],
    columns: Sequence[NDArray[np.float32]],
    blur_rows: NDArray[np.float32],
    blur_columns: NDArray[np.float32],
) -> NDArray[np.float32]:
    """``blur_rows @ prod_s(rows[s] @ distances[s] @ columns[s].T) @ blur_columns.T``.

    ``distances[s]: [B, h_s, w_s]``, ``rows[s]: [H, h_s]`` and ``columns[s]: [W, w_s]`` (upsampling
    alone), ``blur_rows: [H, H]``, ``blur_columns: [W, W]``, all float32. Returns ``[B, H, W]``
    float32.
    """
    product = _both_axes(rows[0], distances[0], columns[0])
    for a, d, b in zip(rows[1:], distances[1:], columns[1:], strict=True):
        product *= _both_axes(a, d, b)
    return _both_axes(blur_rows, product, blur_columns)


def _both_axes(
    rows: NDArray[np.float32], maps: NDArray[np.float32], columns: NDArray[np.float32]
) -> NDArray[np.float32]:
    return serial_matmul(serial_matmul(rows, maps), columns.T)
