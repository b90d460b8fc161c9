"""The linear operators along one axis: upsampling, Gaussian smoothing, and their products."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Band(NamedTuple):
    """An operator along one axis, and where it is not zero.

    Attributes:
        matrix: float32 [out, in]; row ``o`` holds zeros outside ``[first[o], end[o])``
        first: int32 [out]
        end: int32 [out]
    """

    matrix: NDArray[np.float32]
    first: NDArray[np.int32]
    end: NDArray[np.int32]

    @classmethod
    def of(cls, matrix: NDArray[np.float64]) -> Band:
        """The band of a matrix that has no row of zeros alone."""
        there = matrix.astype(np.float32) != 0
        first = there.argmax(axis=1)
        end = matrix.shape[1] - there[:, ::-1].argmax(axis=1)
        return cls(
            np.ascontiguousarray(matrix, np.float32), first.astype(np.int32), end.astype(np.int32)
        )

    @property
    def transposed(self) -> Band:
        """The same, its matrix ``[in, out]`` in memory: for products from the right."""
        return Band(np.ascontiguousarray(self.matrix.T), self.first, self.end)


def packed(
    rows: Sequence[Band], columns: Sequence[Band]
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """All matrices and all bands in one array each, as the GPU's ``smooth_map`` reads them.

    ``rows[s]: [H, h_s]``; ``columns[s]: [W, w_s]``, transposed.
    """
    pairs = [band for pair in zip(rows, columns, strict=True) for band in pair]
    matrices = np.concatenate([band.matrix.ravel() for band in pairs])
    return matrices, np.concatenate([x for band in pairs for x in (band.first, band.end)])


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
