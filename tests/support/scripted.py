"""What the station's tests share."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rdx_fast import Detector
from rdx_fast.station import CameraFrame, InspectionRecord, StationConfig, read_records


class ScriptedCamera:
    """Does what it is told next, else delivers the same good frame, well numbered."""

    repeats = True

    def __init__(self, frame: NDArray[np.uint8]) -> None:
        self.frame, self.number = frame, 0
        self.next: list[Callable[[], None]] = []

    @property
    def shape(self) -> tuple[int, ...]:
        return self.frame.shape

    def grab(self, timeout_s: float) -> CameraFrame:
        if self.next:
            self.next.pop(0)()
        self.number += 1
        return CameraFrame(self.frame, self.number)

    def close(self) -> None:
        pass


class ScriptedConfigurable(ScriptedCamera):
    """One with parameters, which may refuse them; ``binning`` makes its frames smaller."""

    def __init__(self, frame: NDArray[np.uint8]) -> None:
        super().__init__(frame)
        self.full = frame
        self.set: list[dict[str, Any]] = []
        self.refuses: Exception | None = None

    def configure(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        self.set.append(dict(parameters))
        self.number += 7  # frames that pass meanwhile are not lost ones
        step = parameters.get("binning", 1)
        self.frame = np.ascontiguousarray(self.full[::step, ::step])
        if self.refuses is not None:
            raise self.refuses
        return dict(parameters)


class ScriptedDetector:
    """A detector that may raise, hang, give what is no score, or its verdicts by a script."""

    def __init__(self, detector: Detector) -> None:
        self.detector, self.manifest = detector, detector.manifest
        self.recipe = detector.recipe
        self.limits, self.relative_map = detector.limits, detector.relative_map
        self.engine, self.description = detector.engine, detector.description
        self.fault = ""
        self.verdicts: list[str] = []  # of the next parts; then its own
        self.released = threading.Event()

    def score(self, *arguments: Any, **options: Any) -> Any:
        if self.fault == "raise":
            raise RuntimeError("boom")
        if self.fault == "hang":
            self.released.wait(60)
        result = self.detector.score(*arguments, **options)
        if self.fault == "nan":
            result.scores[0] = np.nan
        if self.verdicts:
            verdict, p_values = self.verdicts.pop(0), np.array([0.25])
            result = replace(result, verdicts=[verdict], p_values=p_values)
        return result

    def warmup(self) -> None:
        pass

    def close(self) -> None:
        pass


def rows(config: StationConfig) -> list[InspectionRecord]:
    assert config.records is not None
    return list(read_records(config.records.path))


def wait_until(met: Callable[[], Any], seconds: float = 60.0) -> None:
    """Long: it is waited out only where the test fails, and machines are slow or busy."""
    end = time.monotonic() + seconds
    while not met():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.002)
