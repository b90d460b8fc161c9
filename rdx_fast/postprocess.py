"""Features to anomaly maps (RD4AD paper, section 3.3)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rdx_fast.kernels.cosine_map import Floats, cosine_map
from rdx_fast.kernels.fuse_mul import fuse_mul
from rdx_fast.kernels.smooth_map import gaussian_matrix, smooth_map, upsample_matrix
from rdx_fast.manifest import MapSpec, ScaleSpec


class AnomalyMapper:
    """Distance, upsampling, fusion and smoothing for one bundle; its matrices are made once.

    Call: teacher and student maps, each ``[B, C_s, h_s, w_s]`` float, finest first, to anomaly maps
    ``[B, H, W]`` float32. Raises ``ValueError`` for maps of other shapes than the manifest's.
    """

    def __init__(self, spec: MapSpec, scales: Sequence[ScaleSpec]) -> None:
        self._scales = tuple((s.channels, s.height, s.width) for s in scales)
        up_rows = [upsample_matrix(s.height, spec.height) for s in scales]
        up_columns = [upsample_matrix(s.width, spec.width) for s in scales]
        blur_rows = gaussian_matrix(spec.height, spec.sigma, spec.truncate)
        blur_columns = gaussian_matrix(spec.width, spec.sigma, spec.truncate)
        self._multiplies = spec.fusion == "mul"
        if not self._multiplies:
            up_rows = [blur_rows @ u for u in up_rows]
            up_columns = [blur_columns @ u for u in up_columns]
        self._rows = [m.astype(np.float32) for m in up_rows]
        self._columns = [m.astype(np.float32) for m in up_columns]
        self._blur = (blur_rows.astype(np.float32), blur_columns.astype(np.float32))

    def __call__(self, teacher: Sequence[Floats], student: Sequence[Floats]) -> NDArray[np.float32]:
        given = tuple(tuple(m.shape[1:]) for m in teacher)
        if given != self._scales:
            raise ValueError(f"features are {given}, the manifest says {self._scales}")
        distances = [cosine_map(t, s) for t, s in zip(teacher, student, strict=True)]
        if self._multiplies:
            return fuse_mul(distances, self._rows, self._columns, *self._blur)
        return smooth_map(distances, self._rows, self._columns)
