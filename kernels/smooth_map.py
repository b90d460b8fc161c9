"""Anomaly map of summed scales: upsampling, summing and Gaussian smoothing as one linear operator.

Bilinear upsampling with aligned corners is a matrix ``U_s``, the Gaussian a matrix ``G``, so with
``A_s = G @ U_s`` the map is ``sum_s A_s @ d_s @ B_s.T`` (``B_s`` the same along the width).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rdx_fast.kernels.epilogue import Epilogue, MapStats, native_epilogue, summarize_numpy
from rdx_fast.kernels.native import ISAS, check_threads, native
from rdx_fast.kernels.operators import Band
from rdx_fast.kernels.serial_matmul import serial_matmul

Maps = NDArray[np.float32]


def smooth_map(
    distances: Sequence[Maps],
    rows: Sequence[Band],
    columns: Sequence[Band],
    epilogue: Epilogue,
    out: Maps | None = None,
    threads: int = 1,
) -> MapStats:
    """Compute ``sum_s rows[s] @ distances[s] @ columns[s].T`` and its epilogue.

    Args:
        distances: float32 [B, h_s, w_s] for each scale
        rows: operator [H, h_s] for each scale
        columns: operator [W, w_s] for each scale, its ``Band.transposed``
        epilogue: what is computed from the maps
        out: float32 [B, H, W], C-contiguous, to which the maps are written; None writes no map
        threads: CPU threads, for the call alone

    Raises:
        ValueError: shapes that do not fit
    """
    check_call(distances, rows, columns, epilogue, out, threads)
    if native is None:
        return smooth_map_numpy(distances, rows, columns, epilogue, out)
    summary = MapStats.empty(len(distances[0]), epilogue)
    contiguous = [np.ascontiguousarray(d) for d in distances]
    target = native_epilogue(epilogue, out, summary)
    native.smooth_map(contiguous, rows, columns, target, threads, ISAS[0])
    return summary


def smooth_map_numpy(
    distances: Sequence[Maps],
    rows: Sequence[Band],
    columns: Sequence[Band],
    epilogue: Epilogue,
    out: Maps | None = None,
) -> MapStats:
    """Plain reference of :func:`smooth_map`."""
    tall = [serial_matmul(a.matrix, d) for a, d in zip(rows, distances, strict=True)]
    wide = np.concatenate([b.matrix for b in columns])
    maps = serial_matmul(np.concatenate(tall, axis=2), wide)
    if out is not None:
        out[...] = maps
    return summarize_numpy(maps, epilogue)


def check_call(
    distances: Sequence[Maps],
    rows: Sequence[Band],
    columns: Sequence[Band],
    epilogue: Epilogue,
    out: Maps | None,
    threads: int,
) -> None:
    """Raises ``ValueError`` unless each distance map fits its operators, and ``epilogue`` and
    ``out`` the maps that these make."""
    if not distances:
        raise ValueError("no distance maps: wanted one a scale")
    for s, (d, a, b) in enumerate(zip(distances, rows, columns, strict=True)):
        wanted = (len(distances[0]), a.matrix.shape[1], b.matrix.shape[0])
        if d.shape != wanted or d.dtype != np.float32:
            raise ValueError(
                f"distance map {s} is {d.dtype} {list(d.shape)}, its operators want float32 "
                f"{list(wanted)}"
            )
    wanted = (len(distances[0]), len(rows[0].first), len(columns[0].first))
    if out is not None and (
        out.dtype != np.float32 or out.shape != wanted or not out.flags.c_contiguous
    ):
        raise ValueError(
            f"out is {out.dtype} {list(out.shape)}, wanted contiguous float32 {list(wanted)}"
        )
    epilogue.check(*wanted[1:])
    check_threads(threads)
