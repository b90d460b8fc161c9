"""The filters of ``resize_normalize`` along one axis, as tables of taps and as matrices."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Taps(NamedTuple):
    """The filter along one axis as a table: output ``i`` is the sum over ``k`` of
    ``weights[table, i, k] * input[first[i] + k]``.

    ``first: [out]`` int32, ``weights: [tables, out, taps]`` float32. Table 0 is the plain filter;
    for Bayer patterns table 1 also fills in the rows (columns) between red or blue ones, and table
    2 takes a quarter of each of the two neighbours, as green wants.
    """

    first: NDArray[np.int32]
    weights: NDArray[np.float32]


class Window(NamedTuple):
    """A part of a resized frame, whose size is that of the network's input.

    Attributes:
        height: of the whole resized frame in pixels
        width: likewise
        top: first row of the window in it
        left: first column of the window in it
    """

    height: int
    width: int
    top: int
    left: int


@lru_cache(maxsize=64)
def resize_matrix(in_size: int, out_size: int) -> NDArray[np.float64]:
    """PIL's antialiased bilinear filter along one axis: ``[out_size, in_size]``."""
    first, weights = _windows(in_size, out_size)
    column = first[:, None] + np.arange(weights.shape[1])
    matrix = np.zeros((out_size, in_size))
    row, k = np.nonzero(weights)
    matrix[row, column[row, k]] = weights[row, k]
    matrix.flags.writeable = False
    return matrix


@lru_cache(maxsize=64)
def resize_taps(size: int, start: int, length: int, out_size: int, bayer: bool = False) -> Taps:
    """The filter from pixels ``[start, start + length)`` of an axis of ``size`` to ``out_size``."""
    first, plain = _windows(length, out_size)
    first = first + start
    tables = plain[None]
    if bayer:
        first = first - 1
        pixel = first[:, None] + np.arange(plain.shape[1] + 2)
        before, after = (np.pad(plain, ((0, 0), pad)) for pad in ((2, 0), (0, 2)))
        # Neighbours beyond the edge are mirrored about it, which keeps the pattern's order.
        near = before * (1 + (pixel == 1)) + after * (1 + (pixel == size - 2))
        near[(pixel < 0) | (pixel >= size)] = 0
        plain = np.pad(plain, ((0, 0), (1, 1)))
        tables = np.stack([plain, plain + near / 2, near / 4])
    # A window that would leave the frame is moved inside; its weights stay where they are.
    width = tables.shape[2]
    taps = min(width, size)
    inside = np.clip(first, 0, size - taps)
    k = (inside - first)[:, None] + np.arange(taps)
    weights = np.take_along_axis(tables, np.clip(k, 0, width - 1)[None], axis=2)
    weights = np.where((k >= 0) & (k < width), weights, 0)
    return Taps(inside.astype(np.int32), np.ascontiguousarray(weights, np.float32))


def window_taps(
    shape: tuple[int, ...],
    crop: tuple[int, int, int, int],
    window: Window,
    out_size: tuple[int, int],
    bayer: bool,
) -> tuple[Taps, Taps]:
    """Filters of rows and columns that give a window of the resized crop.

    Args:
        shape: of the frame, height and width first
        crop: top, left, height, width in frame pixels
        window: of the crop's resized image
        out_size: height and width of the window
        bayer: whether the frame is a Bayer pattern
    """
    top, left, height, width = crop
    rows = resize_taps(shape[0], top, height, window.height, bayer)
    columns = resize_taps(shape[1], left, width, window.width, bayer)
    return _cut(rows, window.top, out_size[0]), _cut(columns, window.left, out_size[1])


def _cut(taps: Taps, start: int, count: int) -> Taps:
    """The filters of ``count`` outputs."""
    part = slice(start, start + count)
    return Taps(taps.first[part], np.ascontiguousarray(taps.weights[:, part]))


def _windows(in_size: int, out_size: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """First input and weights ``[out_size, taps]`` of each output; the last may be zeros."""
    scale = in_size / out_size
    reach = max(scale, 1.0)
    centre = (np.arange(out_size) + 0.5) * scale
    first = np.maximum((centre - reach + 0.5).astype(np.int64), 0)
    end = np.minimum((centre + reach + 0.5).astype(np.int64), in_size)
    pixel = first[:, None] + np.arange((end - first).max())
    weights = np.maximum(0.0, 1.0 - np.abs(pixel + 0.5 - centre[:, None]) / reach)
    weights[pixel >= end[:, None]] = 0.0
    return first, weights / weights.sum(axis=1, keepdims=True)
