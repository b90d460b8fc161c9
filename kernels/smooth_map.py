"""Anomaly map of summed scales: upsampling, summing and Gaussian smoothing as one linear operator.

Bilinear upsampling with aligned corners is a matrix ``U_s``, the Gaussian a matrix ``G``, so with
``A_s = G @ U_s`` the map is ``sum_s A_s @ d_s @ B_s.T`` (``B_s`` the same along the width).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rdx_fast.kernels.serial_matmul import serial_matmul


def upsample_matrix(in_size: int, out_size: int) -> NDArray[np.float64]:
    """Linear interpolation with aligned corners along one axis: ``[out_size, in_size]``."""
    position = np.arange(out_size) * ((in_size - 1) / max(out_size - 1, 1))
    left = np.minimum(position.astype(np.int64), max(in_size - 2, 0))
    weight = position - left
    matrix = np.zeros((out_size, in_size))
    rows = np.arange(out_size)
    matrix[rows, left] = 1 - weight
    matrix[rows, np.minimum(left + 1, in_size - 1)] += weight
    return matrix


def gaussian_matrix(size: int, sigma: float, truncate: float) -> NDArray[np.float64]:
    """``scipy.ndimage.gaussian_filter1d`` with its border "reflect" as a ``[size, size]`` matrix.

    The border repeats the edge sample (``dcba|abcd|dcba``), unlike torch's "reflect".
    """
    radius = int(truncate * sigma + 0.5)
    offsets = np.arange(-radius, radius + 1)
    weights = np.exp(-0.5 * (offsets / sigma) ** 2)
    weights /= weights.sum()
    source = (np.arange(size)[:, None] + offsets) % (2 * size)
    source = np.where(source < size, source, 2 * size - 1 - source)
    matrix = np.zeros((size, size))
    np.add.at(matrix, (np.arange(size)[:, None], source), weights[None, :])
    return matrix


def smooth_map(
    distances: Sequence[NDArray[np.float32]],
    rows: Sequence[NDArray[np.float32]],
    columns: Sequence[NDArray[np.float32]],
) -> NDArray[np.float32]:
    """``sum_s rows[s] @ distances[s] @ columns[s].T``.

    ``distances[s]: [B, h_s, w_s]`` float32, ``rows[s]: [H, h_s]`` and ``columns[s]: [W, w_s]``
    float32. Returns ``[B, H, W]`` float32. Raises ``ValueError`` for shapes that do not fit.
    """
    for s, (d, a, b) in enumerate(zip(distances, rows, columns, strict=True)):
        if d.ndim != 3 or d.shape[1:] != (a.shape[1], b.shape[1]):
            raise ValueError(
                f"distance map {s} is {list(d.shape)}, its operators want "
                f"[B, {a.shape[1]}, {b.shape[1]}]"
            )
    tall = [serial_matmul(a, d) for a, d in zip(rows, distances, strict=True)]
    return serial_matmul(np.concatenate(tall, axis=2), np.concatenate(columns, axis=1).T)
