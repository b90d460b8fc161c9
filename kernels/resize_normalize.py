"""Camera frame to network input: antialiased bilinear resize, then normalisation.

Both are linear and separable: with ``R_h [h, H]`` and ``R_w [w, W]`` the banded matrices of PIL's
bilinear filter, ``out[c] = (R_h @ frame[..., c] @ R_w.T / 255 - mean[c]) / std[c]``. Nothing is
rounded to grey levels on the way, so the result lies within one level of PIL's.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

try:
    from rdx_fast._C import resize_normalize as _compiled
except ModuleNotFoundError as error:
    # Built only where a compiler was at hand; one that is there and broken must be heard.
    if error.name != "rdx_fast._C":
        raise
    _compiled = None  # type: ignore[assignment]

IMPLEMENTATION = "c++" if _compiled is not None else "numpy"


@lru_cache(maxsize=64)
def resize_matrix(in_size: int, out_size: int) -> NDArray[np.float32]:
    """PIL's antialiased bilinear filter along one axis: ``[out_size, in_size]`` float32."""
    scale = in_size / out_size
    reach = max(scale, 1.0)
    centre = (np.arange(out_size) + 0.5) * scale
    first = np.maximum((centre - reach + 0.5).astype(np.int64), 0)
    last = np.minimum((centre + reach + 0.5).astype(np.int64), in_size)
    x = np.arange(in_size)
    weights = np.maximum(0.0, 1.0 - np.abs(x + 0.5 - centre[:, None]) / reach)
    weights[(x < first[:, None]) | (x >= last[:, None])] = 0.0
    matrix = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
    matrix.flags.writeable = False
    return matrix


def resize_normalize_numpy(
    frame: NDArray[np.uint8],
    out: NDArray[np.float32],
    mean: Sequence[float],
    std: Sequence[float],
) -> None:
    """Plain reference of :func:`resize_normalize`."""
    height, width = out.shape[1:]
    planes = frame[None] if frame.ndim == 2 else frame.transpose(2, 0, 1)
    resized = planes.astype(np.float32)
    if frame.shape[0] != height:
        resized = resize_matrix(frame.shape[0], height) @ resized
    if frame.shape[1] != width:
        resized = resized @ resize_matrix(frame.shape[1], width).T
    gain, offset = _affine(mean, std)
    np.multiply(resized, gain[:, None, None], out=out)
    out += offset[:, None, None]


def resize_normalize(
    frame: NDArray[np.uint8],
    out: NDArray[np.float32],
    mean: Sequence[float],
    std: Sequence[float],
) -> None:
    """Resize a frame and normalise it into ``out``.

    ``frame: [H, W, 3] or [H, W] uint8`` (any strides; mono fills all three channels),
    ``out: [3, h, w] float32``, C-contiguous, written; ``mean``, ``std``: three each, for values in
    [0, 1].

    Raises ``ValueError`` for another dtype or shape.
    """
    if frame.dtype != np.uint8 or frame.ndim not in (2, 3) or frame.shape[2:] not in ((), (3,)):
        raise ValueError(
            f"frame is {frame.dtype} {list(frame.shape)}, wanted uint8 [H, W, 3] or [H, W]"
        )
    if out.dtype != np.float32 or out.ndim != 3 or out.shape[0] != 3 or not out.flags.c_contiguous:
        raise ValueError(
            f"out is {out.dtype} {list(out.shape)}, wanted contiguous float32 [3, h, w]"
        )
    if min(*frame.shape[:2], *out.shape[1:]) < 1:
        raise ValueError(f"frame {list(frame.shape)} or out {list(out.shape)} is empty")
    if _compiled is None:
        resize_normalize_numpy(frame, out, mean, std)
    else:
        gain, offset = _affine(mean, std)
        _compiled(frame, out, gain, offset)


def _affine(
    mean: Sequence[float], std: Sequence[float]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Gain and offset per channel that take grey levels to normalised values."""
    m, s = np.asarray(mean, np.float64), np.asarray(std, np.float64)
    return (1 / (255 * s)).astype(np.float32), (-m / s).astype(np.float32)
