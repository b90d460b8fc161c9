"""A network of two small scales: what is tested lies around it."""

from __future__ import annotations

import numpy as np

from rdx_fast.bundle.manifest import InputSpec, MapSpec, ScaleSpec
from rdx_fast.kernels.epilogue import Epilogue
from rdx_fast.postprocess import AnomalyMapper

SIZE = (32, 40)
SPEC = InputSpec(*SIZE, (0.4, 0.5, 0.6), (0.2, 0.3, 0.4), "bilinear-antialiased")
SCALES = (ScaleSpec(5, 8, 10), ScaleSpec(16, 4, 5))


def mapper(fusion: str = "add", regions: int | None = None, top_k: int = 0) -> AnomalyMapper:
    """``regions``: how many, side by side within the map; None for the whole map."""
    spec = MapSpec(*SIZE, fusion, sigma=2.0, truncate=4.0, border="reflect")
    labels = None
    thresholds: tuple[float, ...] = (0.05,)
    if regions is not None:
        labels = np.zeros(SIZE, np.uint8)
        labels[5:20, 8:33] = np.arange(25) * regions // 25 + 1
        thresholds = tuple(0.04 + 0.01 * r for r in range(regions))
    return AnomalyMapper(spec, SCALES, Epilogue(labels, thresholds, top_k))
