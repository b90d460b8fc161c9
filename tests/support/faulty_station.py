"""A station that can be made to fail, a process of its own.

All is as in ``rdx-fast station``, but for a camera, an engine, a disk and a clock that obey orders
on stdin. On stdout it tells, in lines of JSON, its ports and each frame that was really scored:
what is OK without such a line was not inspected."""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import typer

from rdx_fast.detector import Detector
from rdx_fast.errors import ImageError
from rdx_fast.images import list_images, read_image
from rdx_fast.result import Result
from rdx_fast.station import run
from rdx_fast.station.cameras.source import (
    BadFrameError,
    CameraFrame,
    CameraTimeoutError,
    FrameSource,
)
from rdx_fast.station.config import read_station
from rdx_fast.station.logs import log_json

FAULTS = ("camera stalls", "frame truncated", "engine raises", "engine hangs", "record disk full")


_telling = threading.Lock()


def tell(**row: Any) -> None:
    """Print a row as a line of its own: two threads tell."""
    with _telling:
        print(json.dumps(row), flush=True)


class Faults:
    """What is broken now. ``begin`` and ``end`` name one of ``FAULTS``, or "clock stepped back an
    hour"."""

    def __init__(self) -> None:
        self.active: set[str] = set()
        self.ended = threading.Condition()
        self.clock_s = 0.0

    def obey(self, line: str) -> None:
        order, _, what = line.strip().partition(" ")
        with self.ended:
            (self.active.add if order == "begin" else self.active.discard)(what)
            self.ended.notify_all()
        if what == "record disk full":
            hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
            soft = 1 if order == "begin" else hard
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        if what == "clock stepped back an hour":
            self.clock_s = -3600.0 if order == "begin" else 0.0

    def wall_clock(self) -> float:
        return time.time() + self.clock_s


class FaultyCamera:
    """A camera that may stall, or deliver half a frame: a photograph cut in two, really read."""

    repeats = True  # as the folder that it reads

    def __init__(self, source: FrameSource, photograph: Path, faults: Faults) -> None:
        self._source, self._photograph, self._faults = source, photograph, faults

    @property
    def shape(self) -> tuple[int, ...]:
        return self._source.shape

    def grab(self, timeout_s: float) -> CameraFrame:
        if "camera stalls" in self._faults.active:
            time.sleep(timeout_s)
            raise CameraTimeoutError(f"no frame within {timeout_s:g} s")
        if "frame truncated" in self._faults.active:
            with tempfile.NamedTemporaryFile(suffix=self._photograph.suffix) as file:
                content = self._photograph.read_bytes()
                file.write(content[: len(content) // 2])
                file.flush()
                try:
                    read_image(file.name)
                except ImageError as error:
                    raise BadFrameError(str(error)) from error
        return self._source.grab(timeout_s)

    def close(self) -> None:
        self._source.close()


class FaultyDetector:
    """A detector that may raise or hang, and else tells of each frame that it scored."""

    def __init__(self, detector: Detector, faults: Faults) -> None:
        self._detector, self._faults = detector, faults
        self.manifest, self.relative_map = detector.manifest, detector.relative_map
        self.engine, self.description = detector.engine, detector.description

    def score(self, *arguments: Any, **options: Any) -> Result:
        if "engine raises" in self._faults.active:
            raise RuntimeError("made to fail")
        if "engine hangs" in self._faults.active:
            with self._faults.ended:
                self._faults.ended.wait_for(lambda: "engine hangs" not in self._faults.active)
        result = self._detector.score(*arguments, **options)
        tell(scored=time.monotonic())
        return result

    def warmup(self) -> None:
        self._detector.warmup()

    def close(self) -> None:
        self._detector.close()


def main(configuration: Path) -> None:
    """Run it until stdin ends."""
    log_json("CRITICAL")
    file = read_station(configuration)
    faults = Faults()
    assert file.camera.path is not None
    photograph = list_images(file.camera.path)[0]
    camera = FaultyCamera(run.open_source(file.camera), photograph, faults)

    def open_detector(bundle: Path) -> Any:
        return FaultyDetector(
            Detector(bundle, file.backend, file.threads, precision=file.precision), faults
        )

    with run.running(file, open_detector, camera, faults.wall_clock) as online:
        tell(ports=online.ports)
        for line in sys.stdin:
            faults.obey(line)


if __name__ == "__main__":
    typer.run(main)
