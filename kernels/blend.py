"""Sum of weighted tiles: how the maps of overlapping tiles become one map."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rdx_fast.kernels.native import ISAS, native

Floats = NDArray[np.float32]


def blend(
    tiles: Floats,
    rows: Floats,
    columns: Floats,
    places: NDArray[np.int64],
    canvas: Floats,
) -> None:
    """Add ``tiles[i] * rows[i][:, None] * columns[i]`` to the canvas, for each i in this order.

    Products and sums are rounded one by one, so that every implementation has the same result, bit
    for bit but for the sign of zeros.

    Args:
        tiles: float32 [N, h, w]
        rows: float32 [N, h], weights of each tile's rows
        columns: float32 [N, w], weights of its columns
        places: int64 [N, 2], row and column of the canvas that each tile begins at
        canvas: float32 [H, W], C-contiguous, to which the tiles are added

    Raises:
        ValueError: shapes that do not fit, or a tile that lies outside of the canvas
    """
    _check(tiles, rows, columns, places, canvas)
    if native is None:
        blend_numpy(tiles, rows, columns, places, canvas)
        return
    tiles, rows, columns = (np.ascontiguousarray(array) for array in (tiles, rows, columns))
    native.blend(tiles, rows, columns, np.ascontiguousarray(places), canvas, ISAS[0])


def blend_numpy(
    tiles: Floats, rows: Floats, columns: Floats, places: NDArray[np.int64], canvas: Floats
) -> None:
    """Plain reference of :func:`blend`."""
    height, width = tiles.shape[1:]
    for tile, down, across, (top, left) in zip(tiles, rows, columns, places, strict=True):
        canvas[top : top + height, left : left + width] += tile * down[:, None] * across


def _check(
    tiles: Floats, rows: Floats, columns: Floats, places: NDArray[np.int64], canvas: Floats
) -> None:
    if tiles.ndim != 3 or tiles.size == 0 or canvas.ndim != 2:
        raise ValueError(
            f"the tiles are {list(tiles.shape)} and the canvas {list(canvas.shape)}, wanted "
            f"[N, h, w] and [H, W]"
        )
    count, height, width = tiles.shape
    for name, array, shape, dtype in (
        ("tiles", tiles, tiles.shape, np.float32),
        ("weights of rows", rows, (count, height), np.float32),
        ("weights of columns", columns, (count, width), np.float32),
        ("places", places, (count, 2), np.int64),
        ("canvas", canvas, canvas.shape, np.float32),
    ):
        if array.shape != shape or array.dtype != dtype:
            raise ValueError(
                f"{name}: {array.dtype} {list(array.shape)} given, wanted {np.dtype(dtype)} "
                f"{list(shape)}"
            )
    if not canvas.flags.c_contiguous:
        raise ValueError("the canvas is not C-contiguous: the sums would be lost in a copy of it")
    if (places < 0).any() or (places > np.subtract(canvas.shape, (height, width))).any():
        raise ValueError(
            f"a tile of {height} x {width} lies outside of the canvas of {canvas.shape[0]} x "
            f"{canvas.shape[1]}: the places are {places.tolist()}"
        )
