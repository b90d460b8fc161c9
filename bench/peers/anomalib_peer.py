"""anomalib through its OpenVINO inferencer. ``MODEL`` is the ``model.xml`` that it exported."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from anomalib.deploy import OpenVINOInferencer
from executed import executed


def inferencer(model: Path, threads: int) -> tuple[Any, str]:
    config = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads}
    opened = OpenVINOInferencer(model, device="CPU", config=config)

    def score(frame: Any) -> tuple[float, Any, dict[str, float]]:
        found = opened.predict(frame)
        return np.ravel(found.pred_score)[0], np.squeeze(found.anomaly_map), {}

    # No precision is asked for, so that it is what a user gets: bfloat16 where the CPU has it.
    return score, executed(opened.model)
