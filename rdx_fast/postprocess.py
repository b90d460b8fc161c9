"""Postprocessing: from features to anomaly maps (RD4AD paper, section 3.3)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rdx_fast.bundle.manifest import MapSpec, ScaleSpec
from rdx_fast.kernels.cosine_map import Floats, cosine_maps
from rdx_fast.kernels.epilogue import Epilogue, MapStats
from rdx_fast.kernels.fuse_mul import fuse_mul
from rdx_fast.kernels.operators import Band, gaussian_matrix, upsample_matrix
from rdx_fast.kernels.smooth_map import smooth_map


class AnomalyMapper:
    """Distance, upsampling, fusion and smoothing for one bundle; its operators are computed once.

    Called with teacher and student maps, each ``[B, C_s, h_s, w_s]`` float, finest first, it
    returns the summary of the anomaly maps. The maps themselves are written to ``out``, ``[B, H,
    W]`` float32, if it is given. A call raises ``ValueError`` for shapes that do not match
    ``scales``.

    Args:
        spec: how the anomaly map is computed
        scales: of the features, finest first
        epilogue: what to read off each map; None for the maximum of the whole map
        threads: CPU threads of a call

    Attributes:
        size: height and width of the anomaly map
        scales: ``(C_s, h_s, w_s)`` of each scale
        rows: operators along the height by scale, as the kernels take them
        columns: operators along the width by scale, likewise
        blur: operators of the Gaussian along the height and the width, likewise
        multiplies: whether scales are multiplied instead of summed

    Raises:
        ValueError: the regions or ``top_k`` of the epilogue do not fit the map
    """

    def __init__(
        self,
        spec: MapSpec,
        scales: Sequence[ScaleSpec],
        epilogue: Epilogue | None = None,
        threads: int = 1,
    ) -> None:
        self.size = (spec.height, spec.width)
        self.epilogue = epilogue or Epilogue()
        self.epilogue.check(*self.size)
        self._threads = threads
        self.scales = tuple((s.channels, s.height, s.width) for s in scales)
        rows = [upsample_matrix(s.height, spec.height) for s in scales]
        columns = [upsample_matrix(s.width, spec.width) for s in scales]
        blur_rows, blur_columns = (gaussian_matrix(n, spec.sigma, spec.truncate) for n in self.size)
        self.multiplies = spec.fusion == "mul"
        if not self.multiplies:
            rows = [blur_rows @ a for a in rows]
            columns = [blur_columns @ b for b in columns]
        self.rows = [Band.of(a) for a in rows]
        self.columns = [Band.of(b).transposed for b in columns]
        self.blur = (Band.of(blur_rows), Band.of(blur_columns).transposed)

    def __call__(
        self,
        teacher: Sequence[Floats],
        student: Sequence[Floats],
        out: NDArray[np.float32] | None = None,
    ) -> MapStats:
        given = tuple(tuple(m.shape[1:]) for m in teacher)
        if given != self.scales:
            raise ValueError(f"the features have shapes {given}, the manifest says {self.scales}")
        return self.fuse(cosine_maps(teacher, student, self._threads), out)

    def fuse(
        self, distances: Sequence[NDArray[np.float32]], out: NDArray[np.float32] | None = None
    ) -> MapStats:
        """The same from distance maps ``[B, h_s, w_s]`` float32."""
        operators = (distances, self.rows, self.columns)
        if self.multiplies:
            return fuse_mul(*operators, *self.blur, self.epilogue, out, self._threads)
        return smooth_map(*operators, self.epilogue, out, self._threads)

    def maps(self, teacher: Sequence[Floats], student: Sequence[Floats]) -> NDArray[np.float32]:
        """The anomaly maps ``[B, H, W]`` float32."""
        out = np.empty((len(teacher[0]), *self.size), np.float32)
        self(teacher, student, out)
        return out
