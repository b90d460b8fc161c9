"""The results of the Detector."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Result:
    """Scores and verdicts of one batch of B images.

    Attributes:
        scores: ``[B]`` float32, the maximum of each anomaly map inside the region of interest
        anomaly_maps: ``[B, H, W]`` float32, None if not requested
        top_means: ``[B]`` float32, the mean of the ``top_k`` largest values of each map inside the
            region of interest, None if not requested
        areas: ``[B]`` int64, number of map pixels above ``threshold`` inside the region of interest
        is_anomalous: ``[B]`` bool, whether the verdict is not OK
        verdicts: the verdict of each image: "OK", "REVIEW" (above the limit of OK, and not above
            that of NG) or "NG"
        threshold: the limit of OK that is in force
        timings_ms: wall time in ms, ``total`` and by stage: on a CPU ``preprocess``, ``network``
            and ``postprocess``; on a GPU ``staging`` (until all work is queued) and ``device``
            (until it is done)
        executed: executed precision, "fp32", "fp16", "bf16", "int8" or "fp8"
        engine: description of the engine, why it was chosen, and the kernels around it
        p_values: ``[B]`` float64, the share of good parts with at least this score; None where the
            bundle cannot tell
    """

    scores: NDArray[np.float32]
    anomaly_maps: NDArray[np.float32] | None
    top_means: NDArray[np.float32] | None
    areas: NDArray[np.int64]
    is_anomalous: NDArray[np.bool_]
    verdicts: list[str]
    threshold: float
    timings_ms: dict[str, float]
    executed: str
    engine: str
    p_values: NDArray[np.float64] | None = None

    def __len__(self) -> int:
        return len(self.scores)
