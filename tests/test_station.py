"""The station with a real detector: cameras, jobs, failures, records; all in this process."""

from __future__ import annotations

import shutil
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from rdx_fast import Detector
from rdx_fast.bundle import Bundle
from rdx_fast.images import list_images, read_image
from rdx_fast.line import (
    BadFrameError,
    CameraError,
    CameraFrame,
    CameraTimeoutError,
    Controls,
    FolderReplay,
    InspectionRecord,
    JobError,
    Jobs,
    RecordConfig,
    Rules,
    Station,
    StationConfig,
    StationError,
    Status,
    StillImage,
    read_records,
)
from rdx_fast.line.pictures import LEVELS_AT_THRESHOLD, PictureStore

Script = Callable[[], CameraFrame]


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


def raising(error: Exception) -> Callable[[], None]:
    def do() -> None:
        raise error

    return do


@pytest.fixture(scope="module")
def detector(bundle: Bundle) -> Iterator[Detector]:
    with Detector(bundle.path) as opened:
        yield opened


@pytest.fixture
def camera(parts: Path) -> ScriptedCamera:
    # The threshold was set from these: all of them pass.
    return ScriptedCamera(read_image(list_images(parts / "calibration")[0]))


@pytest.fixture
def config(tmp_path: Path) -> StationConfig:
    rules = Rules(deadline_ms=20_000, hang_ms=20_000, watchdog_ms=0)
    return StationConfig(
        rules=rules,
        records=RecordConfig(tmp_path / "records.sqlite", pictures=tmp_path / "pictures"),
        frame_timeout_ms=200,
    )


@pytest.fixture
def impatient(config: StationConfig) -> StationConfig:
    return replace(config, rules=replace(config.rules, hang_ms=300))


def rows(config: StationConfig) -> list[InspectionRecord]:
    assert config.records is not None
    return list(read_records(config.records.path))


def wait_until(met: Callable[[], Any], seconds: float = 5.0) -> None:
    end = time.monotonic() + seconds
    while not met():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.002)


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
        assert record.result == ("NG" if result.is_anomalous[0] else "OK")
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
        wanted = maps[0] / row.threshold * LEVELS_AT_THRESHOLD
        np.testing.assert_allclose(levels, wanted.clip(0, 65535), atol=0.51)


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
        ):
            camera.next = [change]
            record = station.inspect(2)
            assert (record.result, record.error) == ("ERROR", error)
            camera.next = [deliver(good)]
            assert station.inspect(3).result == "OK"


def test_the_cameras_size_is_checked_at_the_start(
    detector: Detector, camera: ScriptedCamera, tmp_path: Path
) -> None:
    config = StationConfig(records=None, frame_size=(10, 20))
    with pytest.raises(ValueError, match="delivers 80 x 112 pixels, the configuration wants 10 x"):
        Station(detector, camera, config)


class Breakable:
    """A detector that may raise, hang, or give what is no score."""

    def __init__(self, detector: Detector) -> None:
        self.detector, self.manifest = detector, detector.manifest
        self.fault = ""
        self.released = threading.Event()

    def score(self, *arguments: Any, **options: Any) -> Any:
        if self.fault == "raise":
            raise RuntimeError("boom")
        if self.fault == "hang":
            self.released.wait(5)
        result = self.detector.score(*arguments, **options)
        if self.fault == "nan":
            result.scores[0] = np.nan
        return result

    def warmup(self) -> None:
        pass

    def close(self) -> None:
        pass


def test_an_engine_that_fails(
    detector: Detector, bundle: Bundle, camera: ScriptedCamera, config: StationConfig
) -> None:
    engine: Any = Breakable(detector)
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
        opened.append(Breakable(detector))
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
    camera.next = [lambda: released.wait(5)]
    with Station(detector, camera, impatient) as station:
        assert station.inspect(1, deadline_ms=50).result == "LATE"
        wait_until(lambda: station.status.trigger_ready)
        # Nobody else may use it meanwhile.
        assert station.inspect(2).error == "CAMERA_TIMEOUT"
        released.set()
        wait_until(lambda: station.inspect(3).result == "OK")


def test_jobs(
    bundle: Bundle, camera: ScriptedCamera, config: StationConfig, tmp_path: Path
) -> None:
    paths = {1: tmp_path / "one.rdx", 2: tmp_path / "two.rdx"}
    for path in paths.values():
        shutil.copytree(bundle.path, path)
    jobs = Jobs(paths)
    with Station(jobs, camera, config, first_job=2) as station:
        assert station.status.active_job == 2
        changes = [1, 1, 2, 1, 2, 2]
        answers = [station.inspect(i, job=job) for i, job in enumerate(changes)]
        assert [(r.result, r.job) for r in answers] == [("OK", job) for job in changes]

        # Unknown, then back.
        unknown = station.inspect(1, job=9)
        assert (unknown.result, unknown.error, unknown.job) == ("ERROR", "JOB_UNKNOWN", 9)
        assert station.status.active_job == 2
        assert station.inspect(1, job=2).result == "OK"

        # Broken on disk: the job that was active goes on, and nothing is scored by it instead.
        network = paths[1] / "network.onnx"
        content = network.read_bytes()
        replace_bundle(paths[1], network, content[:-1])
        broken = station.inspect(1, job=1)
        assert (broken.result, broken.error) == ("ERROR", "JOB_BROKEN")
        assert "network.onnx" in (broken.detail or "")
        assert station.status.active_job == 2
        assert station.inspect(1, job=2).result == "OK"

        # Mended on disk, it is picked up at the next change.
        replace_bundle(paths[1], network, content)
        before = jobs.select(2).detector
        mended = station.inspect(1, job=1)
        assert (mended.result, mended.job) == ("OK", 1)
        assert jobs.select(2).detector is before, "only what changed is opened anew"

        # Missing, and tried again by a reset.
        station.inspect(1, job=2)
        paths[1].rename(tmp_path / "gone")
        assert station.inspect(1, job=1).error == "JOB_BROKEN"
        (tmp_path / "gone").rename(paths[1])
        station.reset()
        assert station.inspect(1).result == "OK"
    shutil.rmtree(paths[2])
    with pytest.raises(JobError, match=r"two\.rdx"):
        Station(Jobs(paths), camera, config)


def replace_bundle(path: Path, file: Path, content: bytes) -> None:
    """As export does: the manifest is new too."""
    file.write_bytes(content)
    manifest = path / "manifest.json"
    text = manifest.read_text()
    manifest.unlink()
    manifest.write_text(text)


def test_the_plc_changes_the_job_with_the_trigger(
    bundle: Bundle, camera: ScriptedCamera, config: StationConfig
) -> None:
    jobs = Jobs({1: bundle.path, 2: bundle.path})
    with Station(jobs, camera, config) as station:
        station.write(Controls(enable=True))
        for part, job in enumerate((2, 1, 2, 2), 1):
            station.write(Controls(enable=True, trigger=True, part_id=part, job=job))
            wait_until(lambda: station.status.valid)
            result = station.status.result
            assert result is not None
            assert (result.part_id, result.job, station.status.ok) == (part, job, True)
            station.write(Controls(enable=True, ack=True, job=job))
            station.write(Controls(enable=True, job=job))
        assert station.status.counts.missed == 0


def test_a_full_disk_raises_an_alarm_and_the_line_goes_on(
    detector: Detector, camera: ScriptedCamera, config: StationConfig
) -> None:
    with Station(detector, camera, config) as station:
        assert station.inspect(1).result == "OK"
        assert station._recorder._writer is not None
        database = station._recorder._writer._connection
        (pages,) = database.execute("PRAGMA page_count").fetchone()
        database.execute(f"PRAGMA max_page_count = {pages}")
        answers = [station.inspect(i) for i in range(2, 200)]
        assert {r.result for r in answers} == {"OK"}
        assert station.status.record_alarm
        assert station.status.error.name == "RECORD"
        assert 0 < len(rows(config)) < 199
        database.execute("PRAGMA max_page_count = 100000")
        for part in (200, 201, 202):  # a hundred rows of those that wait go with each
            assert station.inspect(part).result == "OK"
        assert not station.status.record_alarm
    # What had to wait is written when there is room again.
    assert [r.part_id for r in rows(config)] == list(range(1, 203))


def test_records_go_on_where_they_ended(
    detector: Detector, camera: ScriptedCamera, config: StationConfig
) -> None:
    for first in (1, 3):
        with Station(detector, camera, config) as station:
            assert [station.inspect(i).inspection_id for i in (0, 0)] == [first, first + 1]


def test_a_clock_that_is_set_back(
    detector: Detector, camera: ScriptedCamera, config: StationConfig
) -> None:
    clock = [1_700_003_600.0]
    with Station(detector, camera, config, wall_clock=lambda: clock[0]) as station:
        first = station.inspect(1)
        clock[0] -= 3600
        second = station.inspect(2)
    assert (first.result, second.result) == ("OK", "OK")
    assert first.triggered_at.startswith("2023-11-14T23:13:")
    assert second.triggered_at.startswith("2023-11-14T22:13:")
    assert [r.part_id for r in rows(config)] == [1, 2]
    assert 0 < second.decided_ms < 20_000


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


def test_folder_replay_at_a_rate(parts: Path) -> None:
    now = [50.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    folder = parts / "test" / "good"
    camera = FolderReplay(folder, rate=10, buffers=2, clock=lambda: now[0], sleep=sleep)
    assert [camera.grab(1).number for _ in range(3)] == [0, 1, 2]
    assert now[0] == pytest.approx(50.2)
    now[0] += 0.5  # frames 3 to 7 are exposed, two are kept
    assert camera.grab(1).number == 6
    assert camera.grab(1).number == 7
    with pytest.raises(CameraTimeoutError, match=r"next is due in 0\.1"):
        camera.grab(0.01)
    files = list_images(folder)
    frame = FolderReplay(folder).grab(0)
    np.testing.assert_array_equal(frame.pixels, read_image(files[0]))
    again = FolderReplay(folder)
    shown = [again.grab(0).pixels for _ in range(len(files) + 1)]
    np.testing.assert_array_equal(shown[0], shown[-1])
    with pytest.raises(ValueError, match="rate is 0"):
        FolderReplay(folder, rate=0)


def test_folder_replay_of_a_file_cut_in_two(parts: Path, tmp_path: Path) -> None:
    whole = list_images(parts / "test" / "good")[0]
    shutil.copy(whole, tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(whole.read_bytes()[:3000])
    camera = FolderReplay(tmp_path)
    assert camera.grab(0).number == 0
    with pytest.raises(BadFrameError, match=r"b\.png"):
        camera.grab(0)
    assert camera.grab(0).number == 2


def test_still_image(parts: Path) -> None:
    path = list_images(parts / "test" / "good")[0]
    camera = StillImage(path)
    assert [camera.grab(0).number for _ in range(2)] == [1, 2]
    assert camera.shape == (80, 112, 3)


def test_pictures_keep_within_their_budget(tmp_path: Path) -> None:
    from datetime import UTC, datetime

    rng = np.random.default_rng(0)
    frame = rng.integers(0, 255, (100, 100), dtype=np.uint8)  # noise: 10 kB as PNG
    store = PictureStore(tmp_path, budget_mb=0.055)
    days = [datetime(2026, 1, day, tzinfo=UTC) for day in (1, 1, 2, 2, 3, 3, 3)]
    for i, day in enumerate(days):
        store.keep(i, day, frame, None, 1.0)
    kept = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.png"))
    assert kept[-1] == "2026-01-03/0000000006_frame.png"
    assert kept[0] == "2026-01-02/0000000002_frame.png", "the oldest went first"
    assert not (tmp_path / "2026-01-01").exists()
    assert sum(path.stat().st_size for path in tmp_path.rglob("*.png")) <= 55_000
    # A new store counts what it finds.
    PictureStore(tmp_path, budget_mb=0.025).keep(7, days[-1], frame, None, 1.0)
    assert len(list(tmp_path.rglob("*.png"))) == 2
    with pytest.raises(ValueError, match="budget"):
        PictureStore(tmp_path, 0)


def test_records_cannot_be_opened(
    detector: Detector, camera: ScriptedCamera, tmp_path: Path
) -> None:
    from rdx_fast.line import RecordError

    path = tmp_path / "records.sqlite"
    path.write_bytes(b"not a database, and long enough to be looked at" * 100)
    with pytest.raises(RecordError, match="records cannot be opened"):
        Station(detector, camera, StationConfig(records=RecordConfig(path)))
    with pytest.raises(sqlite3.DatabaseError):
        sqlite3.connect(path).execute("SELECT 1 FROM inspections")
