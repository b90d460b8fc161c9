"""A network of two small scales: what is tested lies around it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rdx_fast.kernels.epilogue import Epilogue
from rdx_fast.manifest import InputSpec, MapSpec, ScaleSpec
from rdx_fast.postprocess import AnomalyMapper

SIZE = (32, 40)
SPEC = InputSpec(*SIZE, (0.4, 0.5, 0.6), (0.2, 0.3, 0.4), "bilinear-antialiased")
SCALES = (ScaleSpec(5, 8, 10), ScaleSpec(16, 4, 5))


def mapper(
    fusion: str = "add", mask: NDArray[np.bool_] | None = None, top_k: int = 0
) -> AnomalyMapper:
    spec = MapSpec(*SIZE, fusion, sigma=2.0, truncate=4.0, border="reflect")
    return AnomalyMapper(spec, SCALES, Epilogue(mask, 0.05, top_k))
