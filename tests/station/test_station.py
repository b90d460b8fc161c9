"""The station with a real detector: verdicts, failures, its order; all in this process."""

from __future__ import annotations

import importlib
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from rdx_fast import Detector, station
from rdx_fast.bundle.bundle import Bundle
from rdx_fast.errors import EngineError
from rdx_fast.images import list_images, read_image
from rdx_fast.station import (
    BadFrameError,
    CameraError,
    CameraTimeoutError,
    Controls,
    FolderReplay,
    HandshakeConfig,
    InspectionRecord,
    JobError,
    Jobs,
    Station,
    StationConfig,
    StationError,
    Status,
)
from rdx_fast.station.records.pictures import LEVEL_OF_LIMIT
from support.scripted import ScriptedCamera, ScriptedDetector, rows, wait_until


def raising(error: Exception) -> Callable[[], None]:
    def do() -> None:
        raise error

    return do


@pytest.fixture(scope="module")
def detector(bundle: Bundle) -> Iterator[Detector]:
    with Detector(bundle.path) as opened:
        yield opened


@pytest.fixture
def impatient(config: StationConfig) -> StationConfig:
    # Time enough for a busy machine to do between two lines of a test what needs no time.
    return replace(config, handshake=replace(config.handshake, hang_ms=2000))


def test_verdicts_are_the_detectors(detector: Detector, parts: Path, config: StationConfig) -> None:
    told: list[InspectionRecord] = []
    folder = parts / "test"
    frames = [read_image(path) for path in list_images(folder)]
    camera = FolderReplay(folder)
    with Station(detector, camera, config, on_result=told.append) as station:
        records = [station.inspect(100 + i) for i in range(len(frames))]
        wait_until(lambda: len(told) == len(frames))
    for i, (frame, record) in enumerate(zip(frames, records, strict=True)):
        result = detector.score(frame)
        assert record.result == result.verdicts[0]
        assert record.score == result.scores[0]
        assert record.area_px == result.areas[0]
        assert (record.part_id, record.inspection_id, record.job) == (100 + i, i + 1, 1)
    assert {r.result for r in records} == {"OK", "NG"}
    assert [r.inspection_id for r in told] == [r.inspection_id for r in records]
    on_disk = rows(config)
    assert [r.score for r in on_disk] == [r.score for r in records]
    for row in on_disk:
        assert row.bundle_sha256 is not None
        assert len(row.bundle_sha256) == 64
        stages = [row.start_ms, row.grab_ms, row.preprocess_ms, row.network_ms, row.postprocess_ms]
        assert all(stage is not None and stage >= 0 for stage in stages)
        assert row.recorded_ms is not None
        assert row.taken_ms is not None
        assert row.decided_ms < row.recorded_ms < row.taken_ms
    check_pictures(config, on_disk, frames, detector)


def check_pictures(
    config: StationConfig,
    on_disk: list[InspectionRecord],
    frames: list[NDArray[np.uint8]],
    detector: Detector,
) -> None:
    assert config.records is not None
    for row, frame in zip(on_disk, frames, strict=True):
        assert (row.picture is not None) == (row.result == "NG")
        if row.picture is None:
            continue
        path = config.records.pictures / row.picture
        kept = np.asarray(Image.open(f"{path}_frame.png"))
        np.testing.assert_array_equal(kept, frame)
        levels = np.asarray(Image.open(f"{path}_map.png"))
        maps = detector.score(frame).anomaly_maps
        assert maps is not None
        assert row.threshold is not None
        wanted = maps[0] / row.threshold * LEVEL_OF_LIMIT
        np.testing.assert_allclose(levels, wanted.clip(0, 65535), atol=0.51)


def test_a_part_to_review(
    detector: Detector, bundle: Bundle, camera: ScriptedCamera, config: StationConfig
) -> None:
    """It is not OK; its record, picture and figures are kept, whatever the PLC is told."""
    engine: Any = ScriptedDetector(detector)
    jobs = Jobs({1: bundle.path}, lambda path: engine)
    passing = replace(config, handshake=replace(config.handshake, review="ok"))
    told: list[Status] = []
    with Station(jobs, camera, passing, on_status=told.append) as station:
        engine.verdicts = ["REVIEW", "OK"]
        records = [station.inspect(i) for i in (1, 2)]
        counts = station.status.counts
    assert [(r.result, r.p_value, r.region) for r in records] == [
        ("REVIEW", 0.25, None),
        ("OK", 0.25, None),
    ]
    assert (counts.passed, counts.rejected, counts.reviews) == (2, 0, 1)
    shown = {(s.ok, s.ng, s.review) for s in told if s.valid}
    assert shown == {(True, False, True), (True, False, False)}
    on_disk = rows(config)
    assert [(r.result, r.error, r.p_value) for r in on_disk] == [
        ("REVIEW", None, 0.25),
        ("OK", None, 0.25),
    ]
    assert [r.picture is not None for r in on_disk] == [True, False]


def test_a_part_to_review_after_its_deadline_is_late(
    detector: Detector, bundle: Bundle, camera: ScriptedCamera, config: StationConfig
) -> None:
    engine: Any = ScriptedDetector(detector)
    passing = replace(config, handshake=replace(config.handshake, review="ok"))
    with Station(Jobs({1: bundle.path}, lambda path: engine), camera, passing) as station:
        engine.fault, engine.verdicts = "hang", ["REVIEW"]
        late = station.inspect(1, deadline_ms=50)
        engine.released.set()
        assert (late.result, late.error) == ("LATE", "DEADLINE")
        assert (station.status.counts.rejected, station.status.counts.reviews) == (1, 0)


@pytest.mark.parametrize(
    ("failure", "error"),
    [
        (CameraTimeoutError("late"), "CAMERA_TIMEOUT"),
        (BadFrameError("cut"), "FRAME_BAD"),
        (CameraError("gone"), "CAMERA"),
        (OSError("unplugged"), "CAMERA"),
    ],
)
def test_a_camera_that_fails(
    detector: Detector,
    camera: ScriptedCamera,
    config: StationConfig,
    failure: Exception,
    error: str,
) -> None:
    camera.next = [raising(failure)]
    with Station(detector, camera, config) as station:
        record = station.inspect(7)
        assert (record.result, record.error, record.score) == ("ERROR", error, None)
        assert str(failure) in (record.detail or "")
        assert station.inspect(8).result == "OK"
    assert [r.error for r in rows(config)] == [error, None]


def test_frames_that_are_not_what_was_wanted(
    detector: Detector, camera: ScriptedCamera, config: StationConfig
) -> None:
    good = camera.frame

    def deliver(frame: Any, skip: int = 0) -> Callable[[], None]:
        def do() -> None:
            camera.frame = frame
            camera.number += skip

        return do

    with Station(detector, camera, config) as station:
        assert station.inspect(1).result == "OK"
        for change, error in (
            (deliver(good[:-1]), "FRAME_SIZE"),
            (deliver(good, skip=1), "FRAME_DROPPED"),
            (deliver(good, skip=-1), "FRAME_DROPPED"),  # the picture of the part before
            (deliver(good.astype(np.float32)), "FRAME_BAD"),
            (deliver(good.astype(np.uint16)), "FRAME_BAD"),
        ):
            camera.next = [change]
            record = station.inspect(2)
            assert (record.result, record.error) == ("ERROR", error)
            camera.next = [deliver(good)]
            assert station.inspect(3).result == "OK"


def test_a_camera_of_12_bits(
    detector: Detector, parts: Path, camera: ScriptedCamera, config: StationConfig
) -> None:
    """Its parts are judged by their levels, and its frames stored as they came."""
    good = camera.frame
    bad = read_image(list_images(parts / "test" / "notch")[0])
    with Station(detector, camera, replace(config, levels=(0, 4080))) as station:
        record = station.inspect(1)  # of 8 bits
        assert (record.result, record.error) == ("ERROR", "FRAME_BAD")
        assert "dtype is uint8, wanted uint16 with levels" in (record.detail or "")
        found = []
        for frame in (good, bad):
            camera.frame = frame.astype(np.uint16) * 16
            found.append(station.inspect(2))
    assert [record.result for record in found] == ["OK", "NG"]
    for record, frame in zip(found, (good, bad), strict=True):
        assert record.score == pytest.approx(float(detector.score(frame).scores[0]), rel=1e-4)
    picture = rows(config)[-1].picture
    assert config.records is not None
    assert picture is not None
    kept = read_image(config.records.pictures / f"{picture}_frame.png")
    np.testing.assert_array_equal(kept, bad.astype(np.uint16) * 16)


def test_the_cameras_size_is_checked_at_the_start(
    detector: Detector, camera: ScriptedCamera, tmp_path: Path
) -> None:
    config = StationConfig(records=None, frame_size=(10, 20))
    with pytest.raises(JobError, match="delivers 80 x 112 pixels, the configuration wants 10 x"):
        Station(detector, camera, config)


def test_a_detector_is_warm_before_the_first_part(
    detector: Detector, camera: ScriptedCamera, config: StationConfig, monkeypatch: Any
) -> None:
    warmed: list[Detector] = []
    monkeypatch.setattr(Detector, "warmup", lambda self: warmed.append(self))  # noqa: PLW0108
    Station(detector, camera, config)
    assert warmed == [detector]

    def fail(self: Detector) -> None:
        raise EngineError("it broke")

    monkeypatch.setattr(Detector, "warmup", fail)
    with pytest.raises(JobError, match="job 1: it broke"):
        Station(detector, camera, config)


def test_an_engine_that_fails(
    detector: Detector, bundle: Bundle, camera: ScriptedCamera, config: StationConfig
) -> None:
    engine: Any = ScriptedDetector(detector)
    with Station(Jobs({1: bundle.path}, lambda path: engine), camera, config) as station:
        for fault in ("raise", "nan"):
            engine.fault = fault
            record = station.inspect(1)
            assert (record.result, record.error) == ("ERROR", "ENGINE")
            engine.fault = ""
            assert station.inspect(2).result == "OK"


def test_an_engine_that_hangs_is_late_and_then_replaced(
    detector: Detector, bundle: Bundle, camera: ScriptedCamera, impatient: StationConfig
) -> None:
    opened: list[Any] = []

    def open_detector(path: Path) -> Any:
        opened.append(ScriptedDetector(detector))
        return opened[-1]

    with Station(Jobs({1: bundle.path}, open_detector), camera, impatient) as station:
        opened[0].fault = "hang"
        late = station.inspect(1, deadline_ms=100)
        assert (late.result, late.error, late.score) == ("LATE", "DEADLINE", None)
        missed = station.inspect(2)
        assert (missed.result, missed.error) == ("ERROR", "MISSED_TRIGGER")
        wait_until(lambda: len(opened) == 2)
        assert station.inspect(3).result == "OK"
        opened[0].released.set()  # what it says now is of no consequence
        assert [station.inspect(4).result for _ in range(3)] == ["OK"] * 3
    assert [r.result for r in rows(impatient)] == ["LATE", "ERROR", "OK", "OK", "OK", "OK"]


def test_a_camera_that_hangs(
    detector: Detector, camera: ScriptedCamera, impatient: StationConfig
) -> None:
    released = threading.Event()
    camera.next = [lambda: released.wait(60)]
    with Station(detector, camera, impatient) as station:
        assert station.inspect(1, deadline_ms=50).result == "LATE"
        wait_until(lambda: station.status.trigger_ready)
        # Nobody else may use it meanwhile.
        assert station.inspect(2).error == "CAMERA_TIMEOUT"
        released.set()
        wait_until(lambda: station.inspect(3).result == "OK")


def test_statuses_come_in_order_and_data_first(
    detector: Detector, camera: ScriptedCamera, config: StationConfig
) -> None:
    seen: list[Status] = []
    with Station(detector, camera, config, on_status=seen.append) as station:
        station.inspect(5)
    valid = next(i for i, status in enumerate(seen) if status.valid)
    assert seen[valid - 1].result == seen[valid].result
    assert not seen[valid - 1].valid
    taken = next(i for i in range(valid, len(seen)) if not seen[i].valid)
    assert seen[taken].result is None, "nothing of an old result is left to be read"
    assert not seen[-1].online


def test_a_callback_that_fails_does_not_matter(
    detector: Detector, camera: ScriptedCamera, config: StationConfig
) -> None:
    def fail(_: object) -> None:
        raise RuntimeError("not yours")

    station = Station(detector, camera, config, on_status=fail, on_result=fail)
    with station:
        assert [station.inspect(i).result for i in range(3)] == ["OK"] * 3


def test_the_queue_and_its_end(
    detector: Detector, camera: ScriptedCamera, config: StationConfig
) -> None:
    with Station(detector, camera, config) as station:
        for part in range(8):
            station.trigger(part)
            wait_until(lambda part=part: not station.status.busy)
        wait_until(lambda: station.status.valid)
        with pytest.raises(StationError, match="part 8 has no answer: 8 results wait"):
            station.trigger(8)
        assert station.status.overrun
        with pytest.raises(ValueError, match="part_id is 65536"):
            station.trigger(65536)
        told = []
        for _ in range(8):
            wait_until(lambda: station.status.valid)
            result = station.status.result
            assert result is not None
            told.append(result.part_id)
            station.acknowledge()
        assert told == list(range(8))
        station.reset()
        assert not station.status.overrun
    on_disk = rows(config)
    assert [r.part_id for r in on_disk] == list(range(9))
    assert on_disk[8].error == "OVERRUN", "a part without an answer is on record too"


def test_a_station_that_does_not_run(
    detector: Detector, camera: ScriptedCamera, config: StationConfig
) -> None:
    station = Station(detector, camera, config)
    with pytest.raises(StationError, match="not running"):
        station.inspect(1)
    with station:
        station.trigger(1)
    with pytest.raises(StationError, match="not running"):
        station.write(Controls(enable=True))
    # What was in flight is on record, as inspected or as an error.
    (row,) = rows(config)
    assert row.result in ("OK", "ERROR")
    assert (row.result == "ERROR") == (row.error == "OFFLINE")


def test_the_former_name_of_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "rdx_fast.line", raising=False)
    with pytest.warns(DeprecationWarning, match=r"called rdx_fast\.station now"):
        former = importlib.import_module("rdx_fast.line")
    assert former.Station is Station
    assert former.Rules is HandshakeConfig
    assert set(former.__all__) == {*station.__all__, "Rules"}
