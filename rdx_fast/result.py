"""The results of the Detector."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rdx_fast.limits.limits import OK, Limits


@dataclass(frozen=True, slots=True)
class Result:
    """Scores and verdicts of one batch of B images, each with R regions that are inspected.

    Attributes:
        scores: ``[B]`` float32, of the deciding region: the maximum of the anomaly map inside it
        verdicts: "OK", "REVIEW" or "NG" of each image, the worst of its regions
        p_values: ``[B]`` float64, of parts like those that the bundle was calibrated on, at most
            the share p has a p-value of p or less; None where the bundle holds no scores of them,
            or crop or region of interest are not the recipe's
        anomaly_maps: ``[B, H, W]`` float32, None if not requested; of the network's input size, or
            with tiles of the size of the whole resized frame
        top_means: ``[B]`` float32, the mean of the ``top_k`` largest values of each map in all
            regions together, None if not requested
        areas: ``[B]`` int64, sum of ``region_areas`` over the regions
        region_scores: ``[B, R]`` float32, the maximum of each map in each region
        region_areas: ``[B, R]`` int64, number of map pixels of each region above its OK limit
        deciding: ``[B]`` int64, index of the region that decided: of those with the worst verdict,
            the one whose score is the largest multiple of its OK limit
        limits: of the R regions
        timings_ms: wall time in ms, ``total`` and by stage: on a CPU ``preprocess``, ``network``
            and ``postprocess``; on a GPU ``staging`` (until all work is queued) and ``device``
            (until it is done); with tiles also ``blend``, during which the next tiles are scored
        executed: executed precision, "fp32", "fp16", "bf16", "int8" or "fp8"
        engine: description of the engine, why it was chosen, and the kernels around it
    """

    scores: NDArray[np.float32]
    verdicts: list[str]
    p_values: NDArray[np.float64] | None
    anomaly_maps: NDArray[np.float32] | None
    top_means: NDArray[np.float32] | None
    areas: NDArray[np.int64]
    region_scores: NDArray[np.float32]
    region_areas: NDArray[np.int64]
    deciding: NDArray[np.int64]
    limits: tuple[Limits, ...]
    timings_ms: dict[str, float]
    executed: str
    engine: str

    def __len__(self) -> int:
        return len(self.scores)

    @property
    def is_anomalous(self) -> NDArray[np.bool_]:
        """``[B]``, whether the verdict is not OK."""
        return np.array([verdict != OK for verdict in self.verdicts])

    def decided_by(self, image: int) -> Limits:
        """The limits of the region that decided about an image of the batch."""
        return self.limits[self.deciding[image]]

    @property
    def threshold(self) -> float:
        """What is OK in the first region."""
        return self.limits[0].ok_below.value
