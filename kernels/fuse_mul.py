"""Anomaly map of multiplied scales. A product is not linear: upsample, multiply, then blur."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rdx_fast.kernels.epilogue import Epilogue, MapStats, native_epilogue, summarize_numpy
from rdx_fast.kernels.native import ISAS, native
from rdx_fast.kernels.operators import Band
from rdx_fast.kernels.serial_matmul import serial_matmul
from rdx_fast.kernels.smooth_map import Maps, check_call


def fuse_mul(
    distances: Sequence[Maps],
    rows: Sequence[Band],
    columns: Sequence[Band],
    blur_rows: Band,
    blur_columns: Band,
    epilogue: Epilogue,
    out: Maps | None = None,
    threads: int = 1,
) -> MapStats:
    """Compute ``blur_rows @ prod_s(rows[s] @ distances[s] @ columns[s].T) @ blur_columns.T`` and
    its epilogue.

    Args:
        distances: float32 [B, h_s, w_s] for each scale
        rows: operator [H, h_s] for each scale, upsampling alone
        columns: operator [W, w_s] for each scale, likewise, its ``Band.transposed``
        blur_rows: operator [H, H]
        blur_columns: operator [W, W], its ``Band.transposed``
        epilogue: what is computed from the maps
        out: float32 [B, H, W], C-contiguous, to which the maps are written; None writes no map
        threads: CPU threads, for the call alone

    Raises:
        ValueError: shapes that do not fit
    """
    check_call(distances, rows, columns, epilogue, out, threads)
    size = (len(blur_rows.first), len(blur_columns.first))
    if size != (len(rows[0].first), len(columns[0].first)):
        raise ValueError(f"the Gaussian is for maps of {list(size)}, the scales are upsampled else")
    if native is None:
        return fuse_mul_numpy(distances, rows, columns, blur_rows, blur_columns, epilogue, out)
    summary = MapStats.empty(len(distances[0]), epilogue)
    contiguous = [np.ascontiguousarray(d) for d in distances]
    target = native_epilogue(epilogue, out, summary)
    native.fuse_mul(contiguous, rows, columns, blur_rows, blur_columns, target, threads, ISAS[0])
    return summary


def fuse_mul_numpy(
    distances: Sequence[Maps],
    rows: Sequence[Band],
    columns: Sequence[Band],
    blur_rows: Band,
    blur_columns: Band,
    epilogue: Epilogue,
    out: Maps | None = None,
) -> MapStats:
    """Plain reference of :func:`fuse_mul`."""
    product = _both_axes(rows[0], distances[0], columns[0])
    for a, d, b in zip(rows[1:], distances[1:], columns[1:], strict=True):
        product *= _both_axes(a, d, b)
    maps = _both_axes(blur_rows, product, blur_columns)
    if out is not None:
        out[...] = maps
    return summarize_numpy(maps, epilogue)


def _both_axes(rows: Band, maps: Maps, columns: Band) -> Maps:
    return serial_matmul(serial_matmul(rows.matrix, maps), columns.matrix)
