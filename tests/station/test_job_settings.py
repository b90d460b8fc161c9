"""Jobs with frames, deadlines and camera parameters of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rdx_fast import Detector
from rdx_fast.bundle.bundle import Bundle
from rdx_fast.station import (
    CameraError,
    CameraTimeoutError,
    ConfigError,
    Controls,
    JobError,
    Jobs,
    JobSettings,
    Station,
    StationConfig,
)
from rdx_fast.station.config import read_station
from rdx_fast.station.jobs import Job
from support.scripted import ScriptedCamera, ScriptedConfigurable, rows, wait_until


@pytest.fixture(scope="module")
def detector(bundle: Bundle) -> Iterator[Detector]:
    with Detector(bundle.path) as opened:
        yield opened


class Stating(Jobs):
    """Jobs whose bundles state settings."""

    stated: Mapping[int, JobSettings] = {}
    broken = 0

    def select(self, job: int, wait: bool = True) -> Job:
        if job == self.broken:
            raise JobError(f"job {job}: broken")
        return replace(super().select(job, wait), settings=self.stated.get(job, JobSettings()))


@pytest.fixture
def jobs(bundle: Bundle, detector: Detector) -> Stating:
    """Three jobs of one detector, which stays open."""

    class Lent:
        def __getattr__(self, name: str) -> Any:
            return getattr(detector, name)

        def close(self) -> None:
            pass

    lent: Any = Lent()
    return Stating(dict.fromkeys((1, 2, 3), bundle.path), lambda path: lent)


@pytest.fixture
def settable(camera: ScriptedCamera) -> ScriptedConfigurable:
    return ScriptedConfigurable(camera.frame)


def test_a_jobs_own_settings_go_before_its_bundles_and_the_stations(
    detector: Detector,
    jobs: Stating,
    camera: ScriptedCamera,
    config: StationConfig,
    caplog: pytest.LogCaptureFixture,
) -> None:
    crops = {1: (0, 0, 60, 80), 2: (8, 8, 64, 64), 3: (10, 30, 50, 70)}
    jobs.stated = {
        2: JobSettings(crop=crops[2], pixel_format="bgr"),
        3: JobSettings(pixel_format="bgr"),
    }
    own = {3: JobSettings(crop=crops[3])}
    with Station(jobs, camera, replace(config, crop=crops[1], jobs=own)) as station:
        records = [station.inspect(job, job=job) for job in (1, 2, 3, 1)]
    formats = {1: None, 2: "bgr", 3: "bgr"}
    for record in records:
        job = record.job
        wanted = detector.score(camera.frame, pixel_format=formats[job], crop=crops[job])
        assert record.score == wanted.scores[0]
    assert len({record.score for record in records}) == 3
    # Limits hold for the crop that a bundle states, and only job 2's does.
    warned = [r for r in caplog.records if "calibrated for another crop" in r.message]
    assert {r.__dict__["job"] for r in warned} == {1, 3}


def test_a_job_cannot_contradict_its_bundles_limits(
    jobs: Stating, camera: ScriptedCamera, config: StationConfig
) -> None:
    """They were calibrated for what the bundle states."""
    jobs.stated = {2: JobSettings(crop=(8, 8, 64, 64))}
    same = replace(config, jobs={2: JobSettings(crop=(8, 8, 64, 64))})
    with Station(jobs, camera, same) as station:
        assert station.inspect(1, job=2).error is None
    other = replace(config, jobs={2: JobSettings(crop=(0, 0, 64, 64))})
    with pytest.raises(ConfigError, match=r"job 2: crop is \(0, 0, 64, 64\) in the configuration"):
        Station(jobs, camera, other)


def test_the_deadline_is_the_plcs_or_the_jobs_or_the_stations(
    jobs: Stating, camera: ScriptedCamera, config: StationConfig
) -> None:
    jobs.stated = {2: JobSettings(deadline_ms=15_000), 3: JobSettings(deadline_ms=15_000)}
    own = {3: JobSettings(deadline_ms=12_500.5)}
    with Station(jobs, camera, replace(config, jobs=own)) as station:
        for job in (1, 2, 3):
            station.inspect(job, job=job)
            station.inspect(job, deadline_ms=30_000)
        # As a PLC asks, with another job.
        station.write(Controls(enable=True))
        station.write(Controls(enable=True, trigger=True, part_id=9, job=2))
        wait_until(lambda: station.status.valid)
        # A bundle that was replaced states another one, from the next time it is selected.
        jobs.stated = {2: JobSettings(deadline_ms=17_000)}
        station.write(Controls(enable=True, ack=True, job=2))
        station.select_job(2)
        wait_until(lambda: station._handshake.deadlines_ms[2] == 17_000)
        station.write(Controls(enable=True, trigger=True, part_id=9, job=2))
        wait_until(lambda: station.status.valid)
    allowed = [round(row.deadline_ms, 6) for row in rows(config)]
    assert allowed == [20_000, 30_000, 15_000, 30_000, 12_500.5, 30_000, 15_000, 17_000]


def test_a_job_that_allows_too_little_time_is_late(
    jobs: Stating, camera: ScriptedCamera, config: StationConfig
) -> None:
    hurried = replace(config, jobs={2: JobSettings(deadline_ms=0.001)})
    with Station(jobs, camera, hurried) as station:
        for job, result in ((1, "OK"), (2, "LATE"), (1, "OK")):
            assert station.inspect(1, job=job).result == result
            wait_until(lambda: station.status.trigger_ready)


def test_camera_parameters_are_those_of_the_job(
    jobs: Stating, settable: ScriptedConfigurable, config: StationConfig
) -> None:
    """Set where they change, each job once at the start, and with what the frames then are."""
    jobs.stated = {2: JobSettings(camera={"binning": 2})}
    own = {3: JobSettings(camera={"gain": 1.5})}
    given = replace(config, camera_parameters={"gain": 1, "binning": 1}, jobs=own)
    of = {
        1: {"gain": 1, "binning": 1},
        2: {"gain": 1, "binning": 2},
        3: {"gain": 1.5, "binning": 1},
    }
    with Station(jobs, settable, given) as station:
        assert settable.set == [of[2], of[3], of[1]]
        shapes = []
        for job in (1, 1, 2, 2, 3, 1):
            assert station.inspect(1, job=job).error is None
            shapes.append(settable.frame.shape[:2])
        assert settable.set[3:] == [of[2], of[3], of[1]]
    full, half = (80, 112), (40, 56)
    assert shapes == [full, full, half, half, full, full]


@pytest.mark.parametrize(
    ("error", "code"), [(CameraError("no"), "CAMERA"), (CameraTimeoutError("no"), "CAMERA_TIMEOUT")]
)
def test_a_camera_that_refuses_a_jobs_parameters(
    jobs: Stating,
    settable: ScriptedConfigurable,
    config: StationConfig,
    error: Exception,
    code: str,
) -> None:
    """No part is inspected with those of another job."""
    own = {job: JobSettings(camera={"gain": job}) for job in jobs.ids}
    with Station(jobs, settable, replace(config, jobs=own)) as station:
        settable.refuses = error
        refused = station.inspect(1, job=2)
        assert (refused.result, refused.error, refused.score) == ("ERROR", code, None)
        assert "job 2: " in (refused.detail or "")
        assert station.status.active_job == 1
        back = station.inspect(2, job=1)
        assert back.error == code, "the camera is not what job 1 wants either"
        settable.refuses = None
        station.reset()
        assert station.inspect(3).result == "OK"
        assert station.inspect(4, job=2).result == "OK"
    assert settable.set[3:] == [{"gain": 2}, {"gain": 1}, {"gain": 1}, {"gain": 2}]


def test_a_bundle_whose_parameters_are_others_now(
    jobs: Stating, settable: ScriptedConfigurable, config: StationConfig
) -> None:
    jobs.stated = dict.fromkeys(jobs.ids, JobSettings(camera={"gain": 1}))
    with Station(jobs, settable, config) as station:
        jobs.stated = {**jobs.stated, 2: JobSettings(camera={"gain": 1, "gamma": 2})}
        refused = station.inspect(1, job=2)
        assert (refused.result, refused.error) == ("ERROR", "CAMERA")
        assert "at the station's start they were ['gain']" in (refused.detail or "")
        assert station.inspect(1, job=1).result == "OK"
    assert settable.set == [{"gain": 1}]


def test_what_does_not_fit_is_told_at_the_start(
    jobs: Stating, camera: ScriptedCamera, settable: ScriptedConfigurable, config: StationConfig
) -> None:
    def start(source: ScriptedCamera, **given: Any) -> Callable[[], Station]:
        return lambda: Station(jobs, source, replace(config, **given))

    gain = JobSettings(camera={"gain": 2})
    for begin, error, message in (
        (start(camera, jobs={2: gain}), ConfigError, r"\(gain\), but ScriptedCamera has none"),
        (start(camera, camera_parameters={"gain": 1}), ConfigError, "ScriptedCamera has none"),
        (
            start(settable, jobs={2: gain}),
            ConfigError,
            "job 1 has no value for the camera parameter gain, which job 2 sets",
        ),
        (start(camera, jobs={7: JobSettings()}), ConfigError, r"settings for jobs \[7\]"),
        (
            start(camera, jobs={2: JobSettings(frame_size=(80, 111))}),
            JobError,
            "job 2: the camera delivers 80 x 112 pixels, the configuration wants 80 x 111",
        ),
        (
            start(camera, jobs={3: JobSettings(crop=(0, 60, 80, 64))}),
            JobError,
            "job 3: crop .* reaches beyond the frame",
        ),
        (start(camera, jobs={2: JobSettings(pixel_format="mono")}), JobError, "job 2: .* not mono"),
    ):
        with pytest.raises(error, match=message):
            begin()
    settable.refuses = CameraError("gain is too much")
    with pytest.raises(JobError, match="job 2: CameraError: gain is too much"):
        Station(jobs, settable, replace(config, camera_parameters={"gain": 9}))
    with pytest.raises(ValueError, match="deadline_ms is 0, wanted more than 0"):
        JobSettings(deadline_ms=0)


def test_a_frame_is_never_taken_with_parameters_that_are_not_known(
    jobs: Stating, settable: ScriptedConfigurable, config: StationConfig
) -> None:
    own = {job: JobSettings(camera={"gain": job}) for job in jobs.ids}
    with Station(jobs, settable, replace(config, jobs=own)) as station:
        taken = settable.number
        camera = station._inspector._camera
        camera._parameters = None  # as while another thread hangs in configure
        record = station.inspect(1)
        assert (record.error, settable.number) == ("CAMERA", taken)
        station.select_job(1)
        assert station.inspect(2).result == "OK"


def test_a_job_that_broke_is_not_inspected_with_as_it_was(
    jobs: Stating, camera: ScriptedCamera, config: StationConfig
) -> None:
    """Though it is the active one, and its detector is open."""
    with Station(jobs, camera, config) as station:
        assert station.inspect(1).result == "OK"
        jobs.broken = 1
        with station._lock:  # the part comes before the change is done
            station.select_job(1)
            record = station.inspect(2)
        assert (record.error, record.score) == ("JOB_BROKEN", None)
        jobs.broken = 0
        station.reset()
        assert station.inspect(3).result == "OK"


# The configuration

TABLES = """
[jobs]
1 = "a.rdx"
2 = { bundle = "b.rdx", deadline_ms = 300, camera = { gain = 2, trigger = "Line1" } }

[jobs.3]
bundle = "deep/c.rdx"
crop = [0, 200, 1024, 1024]
pixel_format = "bayer_rggb"
frame_size = [1024, 1280]
camera.exposure_us = 4000.5

[camera]
kind = "opencv"
device = 0
crop = [0, 0, 512, 512]
parameters = { gain = 1, exposure_us = 8000 }
"""


def test_jobs_are_paths_or_tables(tmp_path: Path) -> None:
    path = tmp_path / "station.toml"
    path.write_text(TABLES)
    read = read_station(path)
    names = {1: "a.rdx", 2: "b.rdx", 3: "deep/c.rdx"}
    assert read.bundles == {job: tmp_path / name for job, name in names.items()}
    config = read.station
    found = {job: config.settings(job, JobSettings()) for job in (1, 2, 3)}
    of_all = JobSettings(
        crop=(0, 0, 512, 512), deadline_ms=1000, camera={"gain": 1, "exposure_us": 8000}
    )
    assert found[1] == of_all
    camera = {"gain": 2, "exposure_us": 8000, "trigger": "Line1"}
    assert found[2] == replace(of_all, deadline_ms=300, camera=camera)
    assert found[3] == JobSettings(
        crop=(0, 200, 1024, 1024),
        pixel_format="bayer_rggb",
        frame_size=(1024, 1280),
        deadline_ms=1000,
        camera={"gain": 1, "exposure_us": 4000.5},
    )
    # What a bundle states goes between.
    stated = JobSettings(deadline_ms=50, pixel_format="mono", camera={"gain": 7})
    assert config.settings(1, stated) == replace(
        of_all, deadline_ms=50, pixel_format="mono", camera={"gain": 7, "exposure_us": 8000}
    )
    assert config.settings(2, stated).deadline_ms == 300
    assert config.settings(2, stated).camera["gain"] == 2


@pytest.mark.parametrize(
    ("job", "message"),
    [
        ("{ crop = [0, 0, 8, 8] }", "bundle is missing"),
        ('{ bundle = "a", cropp = [0, 0, 8, 8] }', "unknown keys: cropp"),
        ('{ bundle = "a", crop = [0, 0, 8] }', "crop is .* wanted a list of 4 whole numbers"),
        ('{ bundle = "a", deadline_ms = 70000 }', "deadline_ms is 70000, wanted more than 0"),
        (
            '{ bundle = "a", camera = { gain = [1] } }',
            "camera is .1., wanted true or false or a whole number",
        ),
        ("5", "a path is 5, wanted text in quotes"),
    ],
)
def test_jobs_that_make_no_sense(job: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "station.toml"
    path.write_text(f'[jobs]\n1 = {job}\n[camera]\nkind = "still"\npath = "x"\n')
    with pytest.raises(ConfigError, match=message):
        read_station(path)


def test_frames_are_checked_in_the_size_of_the_job(
    jobs: Stating, settable: ScriptedConfigurable, config: StationConfig
) -> None:
    own = {
        1: JobSettings(camera={"binning": 1}, frame_size=(80, 112)),
        2: JobSettings(camera={"binning": 2}, frame_size=(40, 56)),
        3: JobSettings(camera={"binning": 4}),
    }
    with Station(jobs, settable, replace(config, jobs=own)) as station:
        assert station.inspect(1, job=2).error is None
        settable.frame = np.ascontiguousarray(settable.full)  # as if it had been reset
        assert station.inspect(2).error == "FRAME_SIZE"
        assert station.inspect(3, job=1).error is None
