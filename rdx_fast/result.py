"""What the Detector returns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Result:
    """Verdicts of one batch.

    ``scores: [B] float32``, the maximum of each anomaly map inside the region of interest;
    ``anomaly_maps: [B, H, W] float32``, or None if not asked for; ``top_means: [B] float32``, the
    mean of each map's ``top_k`` largest values, or None if not asked for; ``areas: [B] int64``, map
    pixels above ``threshold``; ``is_anomalous: [B] bool``, scores above ``threshold``;
    ``timings_ms``: wall time, ``total`` and by stage: ``preprocess``, ``network``, ``postprocess``
    on a CPU; ``staging`` (until the GPU has all it needs), ``device`` (until it is done) on a GPU;
    ``executed``: the precision, "fp32", "fp16", "bf16" or "int8"; ``engine``: what ran the network
    and why so, and the kernels around it.
    """

    scores: NDArray[np.float32]
    anomaly_maps: NDArray[np.float32] | None
    top_means: NDArray[np.float32] | None
    areas: NDArray[np.int64]
    is_anomalous: NDArray[np.bool_]
    threshold: float
    timings_ms: dict[str, float]
    executed: str
    engine: str

    def __len__(self) -> int:
        return len(self.scores)
