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
        anomaly_maps: ``[B, H, W]`` float32, None if not requested; of the network's input size, or
            with tiles of the size of the whole resized frame
        top_means: ``[B]`` float32, the mean of the ``top_k`` largest values of each map inside the
            region of interest, None if not requested
        areas: ``[B]`` int64, number of map pixels above ``threshold`` inside the region of interest
        is_anomalous: ``[B]`` bool, whether the score is above ``threshold``
        threshold: the threshold in force
        timings_ms: wall time in ms, ``total`` and by stage: on a CPU ``preprocess``, ``network``
            and ``postprocess``; on a GPU ``staging`` (until all work is queued) and ``device``
            (until it is done); with tiles also ``blend``, during which the next tiles are scored
        executed: executed precision, "fp32", "fp16", "bf16", "int8" or "fp8"
        engine: description of the engine, why it was chosen, and the kernels around it
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
