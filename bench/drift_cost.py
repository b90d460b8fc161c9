"""What watching for drift costs: ``python -m rdx_fast.bench.drift_cost --help``."""

from __future__ import annotations

import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from time import process_time
from typing import Annotated, Any

import numpy as np
import typer

from rdx_fast.bench.drift_changes import Frame, good_frames
from rdx_fast.bench.result_rows import append, facts, network_facts
from rdx_fast.bench.timing import summary
from rdx_fast.detector import Detector
from rdx_fast.drift import SIGNALS, DriftMonitor
from rdx_fast.recipe.frame_check import look_at, sharpness_of
from rdx_fast.station.cameras.source import CameraFrame
from rdx_fast.station.config import DriftConfig, StationConfig
from rdx_fast.station.station import Station

_PARTS = 20_000
_PAUSE_S = 0.02


class _Frames:
    """A camera that delivers frames in turn, at once."""

    def __init__(self, frames: list[Frame]) -> None:
        self._frames, self._number = frames, 0
        self.shape = frames[0].shape

    def grab(self, timeout_s: float) -> CameraFrame:
        self._number += 1
        return CameraFrame(self._frames[self._number % len(self._frames)], self._number)

    def close(self) -> None:
        """Nothing to close."""


def cost(frames: list[Frame]) -> dict[str, float]:
    """Microseconds of this process a part: of a monitor whose memory is full, and of looking at a
    frame."""
    rng = np.random.default_rng(0)
    full = {name: rng.normal(size=100_000) for name in SIGNALS}
    monitor = DriftMonitor(10**9, earlier=full)
    rows = rng.normal(size=(_PARTS, len(SIGNALS))).tolist()
    parts = [dict(zip(SIGNALS, row, strict=True)) for row in rows]
    begin = process_time()
    for part in parts:
        monitor.add(part)
    of_monitor = (process_time() - begin) / len(parts)
    begin = process_time()
    for frame in frames:
        look_at(frame)
        sharpness_of(frame)
    of_look = (process_time() - begin) / len(frames)
    return {"monitor_us": round(1e6 * of_monitor, 1), "look_us": round(1e6 * of_look, 1)}


def latency(detector: Detector, frames: list[Frame], count: int = 1000) -> dict[str, Any]:
    """Milliseconds from trigger to result of two stations, with and without drift, in turn.

    Args:
        detector: of both stations
        frames: all of one size
        count: parts of each station
    """
    config = StationConfig(records=None)
    found: dict[str, list[float]] = {"without": [], "with": []}
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        watched = StationConfig(records=None, drift=DriftConfig(path=Path(folder)))
        stations = {
            name: stack.enter_context(Station(detector, _Frames(frames), of))
            for name, of in (("without", config), ("with", watched))
        }
        for i in range(count):
            for name, station in stations.items():
                station.trigger(i)
                while not (status := station.status).valid:
                    time.sleep(0.0005)
                found[name].append(1e3 * status.latency_s)
                station.acknowledge()
                time.sleep(_PAUSE_S)
    return {name: summary(np.array(of)) for name, of in found.items()}


def main(
    bundle: Annotated[Path, typer.Argument(help="Engine bundle.")],
    frames: Annotated[Path | None, typer.Option(help="Folder of images of one size.")] = None,
    output: Annotated[Path | None, typer.Option(help="JSON lines to append to.")] = None,
) -> None:
    """Measure the time of a part, and from trigger to result with and without drift."""
    images = good_frames(frames)
    with Detector(bundle) as detector:
        row = facts("drift-cost", ("numpy", "openvino")) | network_facts(detector)
        row |= {"frame": list(images[0].shape), **cost(images)}
        row |= {"latency_ms": latency(detector, images)}
    print(row)
    if output is not None:
        append(output, [row])


if __name__ == "__main__":
    typer.run(main)
