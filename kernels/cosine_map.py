"""Distance maps: 1 - cosine similarity of teacher and student over channels."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rdx_fast.kernels.native import ISAS, check_threads, native

# The same in csrc/cosine_map.simd.cpp and triton_kernels.py.
EPS = 1e-8  # torch.nn.functional.cosine_similarity's: each norm is at least this
ELEMENTS = ("float32", "float16", "bfloat16")

# NumPy has no bfloat16 of its own: ml_dtypes' is taken, by its name.
Floats = NDArray[Any]


def cosine_maps(
    teacher: Sequence[Floats], student: Sequence[Floats], threads: int = 1
) -> list[NDArray[np.float32]]:
    """Cosine distance at each position of every scale (RD4AD paper, section 3.3).

    Sums run in float32. A zero vector has similarity 0 and so distance 1, as in torch.

    Args:
        teacher: [B, C_s, h_s, w_s] for each scale, float32, float16 or bfloat16, all of one type;
            any strides, fastest channels-last or contiguous
        student: the same from the student
        threads: CPU threads, for the call alone

    Returns:
        float32 [B, h_s, w_s] for each scale, in about [0, 2]

    Raises:
        ValueError: shapes that differ, another or mixed dtype, no scales, or no channels
    """
    check_features(teacher, student)
    check_threads(threads)
    if native is None:
        return cosine_maps_numpy(teacher, student)
    out = [np.empty((t.shape[0], *t.shape[2:]), np.float32) for t in teacher]
    element = _element(teacher[0].dtype)
    if element == "bfloat16":  # goes as the integers that hold its bits
        teacher, student = ([x.view(np.uint16) for x in maps] for maps in (teacher, student))
    native.cosine_maps(teacher, student, out, element, threads, ISAS[0])
    return out


def cosine_map(teacher: Floats, student: Floats, threads: int = 1) -> NDArray[np.float32]:
    """:func:`cosine_maps` of one scale: ``[B, C, h, w]`` twice to ``[B, h, w]`` float32."""
    return cosine_maps([teacher], [student], threads)[0]


def cosine_maps_numpy(
    teacher: Sequence[Floats], student: Sequence[Floats]
) -> list[NDArray[np.float32]]:
    """Plain reference of :func:`cosine_maps`."""
    return [_cosine_map_numpy(t, s) for t, s in zip(teacher, student, strict=True)]


def _cosine_map_numpy(teacher: Floats, student: Floats) -> NDArray[np.float32]:
    t = teacher.astype(np.float32, copy=False)
    s = student.astype(np.float32, copy=False)
    dot = np.einsum("bchw,bchw->bhw", t, s)
    norms = [
        np.maximum(np.sqrt(np.einsum("bchw,bchw->bhw", x, x)), np.float32(EPS)) for x in (t, s)
    ]
    with np.errstate(invalid="ignore"):  # infinite features give NaN, as they must
        return np.float32(1) - dot / (norms[0] * norms[1])


@cache
def _element(dtype: Any) -> str:
    """Name of NumPy's or torch's type. Kept, for NumPy takes its time over it."""
    return str(dtype).removeprefix("torch.")


def check_features(teacher: Sequence[Any], student: Sequence[Any]) -> None:
    """Raises ``ValueError`` unless these are features, as NumPy arrays or torch tensors."""
    if not teacher or len(teacher) != len(student):
        raise ValueError(f"{len(teacher)} teacher and {len(student)} student maps: wanted as many")
    for s, (t, u) in enumerate(zip(teacher, student, strict=True)):
        if t.ndim != 4 or t.shape != u.shape or t.shape[1] == 0:
            raise ValueError(
                f"scale {s}: teacher {list(t.shape)} and student {list(u.shape)} differ or are not "
                f"[B, C, h, w]"
            )
    given = {_element(x.dtype) for x in (*teacher, *student)}
    if len(given) > 1 or not given <= set(ELEMENTS):
        raise ValueError(
            f"features are {', '.join(sorted(given))}, wanted one of {', '.join(ELEMENTS)} for all"
        )
