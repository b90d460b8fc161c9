"""rdx_fast as a peer: ``Detector.score``. ``MODEL`` is a bundle, run in ``PRECISION``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rdx_fast import Detector


def detector(model: Path, threads: int, precision: str | None = None) -> tuple[Any, str]:
    opened = Detector(model, threads=threads, precision=precision)

    def score(frame: Any) -> tuple[float, Any, dict[str, float]]:
        result = opened.score(frame)
        assert result.anomaly_maps is not None
        return result.scores[0], result.anomaly_maps[0], result.timings_ms

    return score, opened.engine.execution.executed
