"""What the station's tests share."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rdx_fast.station import CameraFrame, InspectionRecord, StationConfig, read_records


class ScriptedCamera:
    """Does what it is told next, else delivers the same good frame, well numbered."""

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


def rows(config: StationConfig) -> list[InspectionRecord]:
    assert config.records is not None
    return list(read_records(config.records.path))


def wait_until(met: Callable[[], Any], seconds: float = 60.0) -> None:
    """Long: it is waited out only where the test fails, and machines are slow or busy."""
    end = time.monotonic() + seconds
    while not met():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.002)
