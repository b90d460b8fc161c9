"""Distance map of one scale: 1 - cosine similarity of teacher and student over channels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

EPS = 1e-8  # torch.nn.functional.cosine_similarity's: each norm is at least this

Floats = NDArray[np.float32] | NDArray[np.float16]


def cosine_map(teacher: Floats, student: Floats) -> NDArray[np.float32]:
    """Cosine distance at each position.

    ``teacher``, ``student``: ``[B, C, h, w]`` float32 or float16, any strides. Returns
    ``[B, h, w]`` float32 in about [0, 2]; sums run in float32. A zero vector has similarity 0 and
    so distance 1, as in torch.

    Raises ``ValueError`` for unlike shapes or another dtype.
    """
    if teacher.ndim != 4 or teacher.shape != student.shape:
        raise ValueError(
            f"teacher {list(teacher.shape)} and student {list(student.shape)} differ or are not "
            f"[B, C, h, w]"
        )
    for name, features in (("teacher", teacher), ("student", student)):
        if features.dtype not in (np.float32, np.float16):
            raise ValueError(f"{name} is {features.dtype}, wanted float32 or float16")
    t = teacher.astype(np.float32, copy=False)
    s = student.astype(np.float32, copy=False)
    dot = np.einsum("bchw,bchw->bhw", t, s)
    norms = [
        np.maximum(np.sqrt(np.einsum("bchw,bchw->bhw", x, x)), np.float32(EPS)) for x in (t, s)
    ]
    return np.float32(1) - dot / (norms[0] * norms[1])
