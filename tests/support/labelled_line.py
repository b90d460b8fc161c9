"""A station's folder after a week: records, stored frames and labels of drawn parts."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rdx_fast.station.config import StationFile, read_station
from rdx_fast.station.records.labels import Verdict, add_label
from rdx_fast.station.records.pictures import PictureStore
from rdx_fast.station.records.store import InspectionRecord, RecordWriter
from support.trained import draw_part

STATION = """
[jobs]
1 = "part.rdx"
2 = "other.rdx"

[camera]
kind = "still"
path = "parts/test/good/000.png"

[retrain.1]
run = "run"
good = "parts/train/good"
calibration = "parts/calibration"
frozen = "parts"
"""


def draw_dusty(rng: np.random.Generator) -> NDArray[np.uint8]:
    """A good part with a bright fleck of dust beside the disc, which a network does not know."""
    frame = draw_part(rng)
    top, left = rng.integers(2, 10), rng.integers(2, 14)
    frame[top : top + 7, left : left + 7] = (250, 250, 250)
    return frame


def write_station(folder: Path, parts: Path, run: Path, bundle: Path) -> StationFile:
    """``folder``, with ``station.toml`` and copies of what a job has."""
    folder.mkdir()
    shutil.copytree(run, folder / "run")
    shutil.copytree(bundle, folder / "part.rdx")
    (folder / "parts").symlink_to(parts)
    (folder / "station.toml").write_text(STATION)
    return read_station(folder / "station.toml")


def record(
    station: StationFile, number: int, frame: NDArray[np.uint8] | None, **facts: object
) -> None:
    """A part of job 1 and its stored frame."""
    time = datetime.fromtimestamp(1_767_225_600 + number, UTC)
    picture = None
    if frame is not None:
        store = PictureStore(station.records.pictures, 1000.0)
        picture = store.keep(number, time, frame, None)
    row = {
        "inspection_id": number,
        "part_id": number,
        "job": 1,
        "bundle": "part",
        "bundle_sha256": None,
        "triggered_at": time.isoformat(),
        "deadline_ms": 100.0,
        "result": "NG",
        "error": None,
        "detail": None,
        "score": 1.0,
        "threshold": 0.5,
        "area_px": 1,
        "start_ms": 0.0,
        "grab_ms": 0.0,
        "preprocess_ms": 0.0,
        "network_ms": 0.0,
        "postprocess_ms": 0.0,
        "score_ms": 0.0,
        "decided_ms": 0.0,
        "picture": picture,
        "sampled": 0,
    }
    writer = RecordWriter(station.records.path, sync=False)
    writer.write(InspectionRecord(**(row | facts)))  # type: ignore[arg-type]
    writer.close()


def label(station: StationFile, number: int, verdict: Verdict, user: str = "anna") -> None:
    add_label(station.records.path, number, user, verdict, "other")


def a_week(station: StationFile, first: int, dusty: int, bad: int, seed: int) -> None:
    """Labelled parts: dusty good ones, of which every second is of the sample, then bad ones."""
    rng = np.random.default_rng(seed)
    for number in range(first, first + dusty):
        record(station, number, draw_dusty(rng), sampled=number % 2)
        label(station, number, "good")
    for number in range(first + dusty, first + dusty + bad):
        record(station, number, draw_part(rng, defective=True))
        label(station, number, "bad")
