"""What a station tells over its status socket, and how it changes over to a replaced bundle."""

from __future__ import annotations

import json
import shutil
import socket
import stat
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rdx_fast import Detector
from rdx_fast.bundle.bundle import Bundle, open_bundle
from rdx_fast.bundle.changes import override_limits
from rdx_fast.bundle.versions import manifest_sha256, new_candidate, release
from rdx_fast.errors import EngineError
from rdx_fast.station import Controls, DriftConfig, Jobs, Station, StationConfig, StationError
from rdx_fast.station.interfaces import StatusConfig
from rdx_fast.station.jobs import Job, JobError
from rdx_fast.station.status_client import StatusClient, StatusError
from rdx_fast.station.status_socket import StatusSocket
from support.scripted import ScriptedCamera, wait_until


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "station.socket"


@pytest.fixture
def station(
    bundle: Bundle, camera: ScriptedCamera, config: StationConfig, path: Path
) -> Iterator[Station]:
    station = Station(Jobs({1: bundle.path, 2: bundle.path}), camera, config)
    status = StatusSocket(station, StatusConfig(path))
    with station, status:
        yield station


def test_status_and_frame(station: Station, camera: ScriptedCamera, path: Path) -> None:
    client = StatusClient(path)
    status = client.status()
    assert (status["online"], status["active_job"], status["last_id"]) == (True, 1, 0)
    assert status["plc_enable"] is None
    assert client.frame() is None
    record = station.inspect(5)
    station.write(Controls(enable=True))
    status = client.status()
    assert (status["last_id"], status["counts"]["passed"]) == (record.inspection_id, 1)
    assert status["plc_enable"] is True
    assert status["jobs"]["1"]["sha256"] == record.bundle_sha256
    assert status["jobs"]["1"]["execution"] == "fp32"
    assert (Path(status["jobs"]["1"]["bundle"]) / "manifest.json").is_file()
    live = client.frame()
    assert live is not None
    assert live.inspection_id == record.inspection_id
    np.testing.assert_array_equal(live.frame, camera.frame)
    assert live.relative is not None
    assert record.score is not None
    assert record.threshold is not None
    assert live.relative.max() == pytest.approx(record.score / record.threshold, rel=1e-4)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_frames_of_16_bits_without_maps(
    bundle: Bundle, camera: ScriptedCamera, config: StationConfig, path: Path
) -> None:
    camera.frame = camera.frame.astype(np.uint16) * 16
    with Detector(bundle.path) as detector:
        chosen = replace(config, levels=(0, 4080), records=None)
        station = Station(detector, camera, chosen)
        with station, StatusSocket(station, StatusConfig(path)):
            assert station.inspect(1).result == "OK"
            live = StatusClient(path).frame()
    assert live is not None
    np.testing.assert_array_equal(live.frame, camera.frame)
    assert (live.levels, live.relative) == ((0, 4080), None)


def test_an_error_is_told_in_words(station: Station, camera: ScriptedCamera, path: Path) -> None:
    def broken() -> None:
        raise TimeoutError("no frame")

    camera.next = [broken]
    assert station.inspect(1).result == "ERROR"
    client = StatusClient(path)
    wait_until(lambda: client.status()["error_detail"])
    assert "no frame" in client.status()["error_detail"]
    assert client.frame() is None
    station.reset()
    assert (client.status()["error"], client.status()["error_detail"]) == ("NONE", None)


def test_select_job(station: Station, path: Path) -> None:
    client = StatusClient(path)
    client.select_job(2)
    wait_until(lambda: client.status()["active_job"] == 2)
    with pytest.raises(StatusError, match="job is '3', wanted one of 1, 2"):
        client.select_job(3)


@pytest.mark.parametrize(
    "line", [b"\n", b"{}\n", b"[1]\n", b'{"ask": 3}\n', b"\xff\n", b"[" * 70_000 + b"\n"]
)
def test_what_is_no_request(station: Station, path: Path, line: bytes) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        client.sendall(line)
        assert "error" in json.loads(client.makefile("rb").readline())
    assert StatusClient(path).status()["online"]


def test_a_station_that_is_away_and_back(
    bundle: Bundle, camera: ScriptedCamera, config: StationConfig, path: Path
) -> None:
    client = StatusClient(path)
    with pytest.raises(StatusError, match=r"does not answer .* start it"):
        client.status()
    for _ in range(2):
        station = Station(Jobs({1: bundle.path}), camera, config)
        with station, StatusSocket(station, StatusConfig(path)):
            assert client.status()["online"]
        with pytest.raises(StatusError):
            client.status()
        assert not path.exists()


def test_where_the_socket_cannot_be(
    station: Station, path: Path, tmp_path: Path, camera: ScriptedCamera
) -> None:
    with (
        pytest.raises(StationError, match="another station listens"),
        StatusSocket(station, StatusConfig(path)),
    ):
        pass
    file = tmp_path / "file"
    file.write_text("kept")
    with (
        pytest.raises(StationError, match="is not a socket"),
        StatusSocket(station, StatusConfig(file)),
    ):
        pass
    assert file.read_text() == "kept"
    killed = tmp_path / "killed.socket"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(killed))
    with StatusSocket(station, StatusConfig(killed)):
        assert StatusClient(killed).status()["online"]


def test_a_replaced_bundle_is_opened_before_its_job_is_selected(
    bundle: Bundle, camera: ScriptedCamera, config: StationConfig, tmp_path: Path
) -> None:
    copy = open_bundle(shutil.copytree(bundle.path, tmp_path / "copy.rdx"))
    opened: list[Path] = []

    def open_one(path: Path) -> Detector:
        opened.append(path)
        return Detector(path)

    jobs = Jobs({1: copy.path}, open_one)
    with Station(jobs, camera, config, prepare_bundles=True) as station:
        before = station.inspect(1)
        value = copy.manifest.executions[0].threshold.value
        changed = override_limits(copy, "new lamp", ng_above=3 * value, user="eva")
        wait_until(lambda: jobs._prepared)
        assert station.inspect(2).bundle_sha256 == before.bundle_sha256, "not before a job change"
        station.select_job(1)
        after = station.inspect(3)
        assert len(opened) == 2, "select took what was prepared"
        assert (after.result, after.ng_above) == ("OK", pytest.approx(3 * value))
        # Replaced again, and broken: what is open goes on until the job is selected.
        (changed.path / "manifest.json").write_text("{")
        wait_until(lambda: len(opened) == 3)
        assert station.inspect(4).bundle_sha256 == after.bundle_sha256
        with pytest.raises(StationError, match=r"stays as it is: job 1: .*manifest"):
            station.change_over(1)
        assert station.inspect(5).bundle_sha256 == after.bundle_sha256
        station.select_job(1)
        assert station.inspect(6).error == "JOB_BROKEN"


def test_a_bundle_is_opened_once_and_waits_for_no_other_job(bundle: Bundle, tmp_path: Path) -> None:
    paths = {job: tmp_path / f"{job}.rdx" for job in (1, 2)}
    for path in paths.values():
        shutil.copytree(bundle.path, path)
    opened: list[Path] = []
    opening, go_on = threading.Event(), threading.Event()

    def open_one(path: Path) -> Detector:
        opened.append(path)
        if opened.count(paths[2]) == 2:
            opening.set()
            assert go_on.wait(60)
        return Detector(path)

    meanwhile: list[threading.Thread] = []

    def on_opened(job: Job) -> None:  # as the station's thread that prepares may at any moment
        meanwhile.append(threading.Thread(target=jobs.prepare))
        meanwhile[-1].start()

    jobs = Jobs(paths, open_one, on_opened)
    jobs.open_all()
    replaced(paths[1])
    assert jobs.prepare() == {}
    replaced(paths[2])
    slow = threading.Thread(target=jobs.prepare)
    slow.start()
    assert opening.wait(60)
    jobs.select(1)  # though job 2 is being opened
    assert opened.count(paths[1]) == 2
    jobs.reopen(2)
    go_on.set()
    for thread in (slow, *meanwhile):
        thread.join()
    jobs.prepare()
    assert opened.count(paths[1]) == 2, "what was taken is not prepared again"
    assert jobs._prepared == {}
    jobs.close()


class SlowOpening:
    """Opens bundles; while ``slow`` it waits for ``go_on``, while ``fails`` it cannot."""

    def __init__(self) -> None:
        self.slow = self.fails = False
        self.tried = 0
        self.opening, self.go_on = threading.Event(), threading.Event()

    def __call__(self, path: Path) -> Detector:
        self.tried += 1
        if self.slow:
            self.opening.set()
            assert self.go_on.wait(60)
        if self.fails:
            raise EngineError("no memory")
        return Detector(path)


def test_no_part_waits_for_a_bundle_that_is_replaced(
    bundle: Bundle, camera: ScriptedCamera, config: StationConfig, tmp_path: Path
) -> None:
    """The PLC changes between two jobs, before the replaced bundle is open."""
    paths = {j: shutil.copytree(bundle.path, tmp_path / f"{j}.rdx") for j in (1, 2)}
    opens = SlowOpening()
    with Station(Jobs(paths, opens), camera, config, prepare_bundles=True) as station:
        first = station.inspect(1, job=1).bundle_sha256
        opens.slow = True
        replaced(paths[1])
        for part in range(4):  # nothing is being opened yet, or it is
            answer = station.inspect(part, job=2 - part % 2)
            assert (answer.result, answer.bundle_sha256) == ("OK", first)
            if part == 1:
                assert opens.opening.wait(60)
        opens.go_on.set()
        station.inspect(5, job=2)
        wait_until(lambda: station._jobs.due == {1})
        assert station.inspect(6, job=2).bundle_sha256 == first
        answer = station.inspect(7, job=1)
        assert (answer.result, answer.bundle_sha256) == ("OK", manifest_sha256(paths[1]))
        assert opens.tried == 3, "the selection took what was prepared"
        assert station.status.counts.missed == 0


@pytest.fixture
def preparing(
    bundle: Bundle, camera: ScriptedCamera, config: StationConfig, tmp_path: Path
) -> Iterator[tuple[Station, SlowOpening, Path]]:
    """A station of one job that prepares bundles, what opens these, and the job's bundle."""
    path = shutil.copytree(bundle.path, tmp_path / "part.rdx")
    opens = SlowOpening()
    with Station(Jobs({1: path}, opens), camera, config, prepare_bundles=True) as station:
        yield station, opens, path


def test_a_single_job_changes_over_when_its_bundle_is_open(
    preparing: tuple[Station, SlowOpening, Path],
) -> None:
    station, opens, path = preparing
    first = station.inspect(1).bundle_sha256
    opens.slow = True
    replaced(path)
    station.select_job(1)
    assert station.inspect(2).bundle_sha256 == first
    opens.go_on.set()
    wait_until(lambda: station.opened_jobs[1].bundle_sha256 == manifest_sha256(path))
    answer = station.inspect(3)
    assert (answer.result, answer.bundle_sha256) == ("OK", manifest_sha256(path))


def test_a_selection_asks_only_for_what_it_found(bundle: Bundle, tmp_path: Path) -> None:
    """What is released after it waits for the next one."""
    path = shutil.copytree(bundle.path, tmp_path / "part.rdx")
    jobs = Jobs({1: path})
    jobs.open_all()
    held = jobs.opened[1]
    replaced(path)
    assert jobs.select(1, wait=False) is held
    replaced(path, 4)
    jobs.prepare()
    assert jobs.due == set()
    assert jobs.select(1, wait=False).bundle_sha256 == manifest_sha256(path)
    jobs.close()


def test_a_bundle_that_cannot_be_opened_makes_no_part_wait(bundle: Bundle, tmp_path: Path) -> None:
    path = shutil.copytree(bundle.path, tmp_path / "part.rdx")
    opens = SlowOpening()
    jobs = Jobs({1: path}, opens)
    jobs.open_all()
    held = jobs.opened[1]
    replaced(path)
    assert jobs.select(1, wait=False) is held
    opens.fails = True
    for _ in range(3):
        assert list(jobs.prepare()) == [1]
    assert (opens.tried, jobs.due) == (2, set()), "tried once, though it was asked for"
    with pytest.raises(JobError, match="no memory"):
        jobs.select(1, wait=False)
    assert opens.tried == 2, "not in the thread that inspects"
    assert jobs.opened[1] is held
    opens.fails = False
    assert jobs.prepare() == {}
    assert jobs.due == {1}, "tried again, since it was asked for again"
    assert jobs.select(1, wait=False).bundle_sha256 == manifest_sha256(path)
    assert jobs.due == set()
    jobs.close()


def test_the_page_tries_again_what_could_not_be_opened(
    preparing: tuple[Station, SlowOpening, Path],
) -> None:
    station, opens, path = preparing
    first = station.inspect(1).bundle_sha256
    opens.fails = True
    replaced(path)
    with pytest.raises(StationError, match="no memory"):
        station.change_over(1)
    assert station.inspect(2).bundle_sha256 == first
    opens.fails = False
    station.change_over(1)
    wait_until(lambda: station.opened_jobs[1].bundle_sha256 != first)
    assert station.inspect(3).result == "OK"


@pytest.mark.parametrize("taken_back", [False, True])
def test_a_bundle_that_is_replaced_while_it_is_opened(
    bundle: Bundle, tmp_path: Path, taken_back: bool
) -> None:
    path = shutil.copytree(bundle.path, tmp_path / "part.rdx")
    first = manifest_sha256(path)
    with new_candidate(path) as folder:
        replaced(folder)
        second = manifest_sha256(folder)
    opened: list[Detector] = []

    def open_one(path: Path) -> Detector:
        if not opened and taken_back:  # what is opened is on disk neither before nor after
            release(path, second)
        opened.append(Detector(path))
        if len(opened) == 1:
            release(path, first if taken_back else second)
        return opened[-1]

    jobs = Jobs({1: path}, open_one)
    jobs.open_all()
    assert len(opened) == 2
    on_disk = first if taken_back else second
    assert jobs.opened[1].bundle_sha256 == manifest_sha256(path) == on_disk
    jobs.close()


def test_a_bundle_that_is_replaced_all_the_time(bundle: Bundle, tmp_path: Path) -> None:
    path = shutil.copytree(bundle.path, tmp_path / "part.rdx")

    def open_one(path: Path) -> Detector:
        detector = Detector(path)
        shutil.copy(path / "manifest.json", path / "new")
        (path / "new").replace(path / "manifest.json")
        return detector

    with pytest.raises(JobError, match="was replaced each time"):
        Jobs({1: path}, open_one).open_all()


def replaced(path: Path, factor: int = 3) -> None:
    opened = open_bundle(path)
    value = opened.manifest.executions[0].threshold.value
    override_limits(opened, "another lamp", ng_above=factor * value, user="eva")


def test_scores_of_drift_are_those_of_the_open_bundle(
    bundle: Bundle, camera: ScriptedCamera, config: StationConfig, tmp_path: Path
) -> None:
    """Another bundle may lie in its place when the first part is watched."""
    path = shutil.copytree(bundle.path, tmp_path / "part.rdx")
    watched = replace(config, drift=DriftConfig(path=tmp_path / "drift"))
    with Station(Jobs({1: path}), camera, watched) as station:
        shutil.rmtree(path)
        assert station.inspect(1).result == "OK"
        assert station.drift is not None
        wait_until(lambda: station.drift.statistics)


def test_frames_are_not_copied(station: Station, path: Path) -> None:
    """A copy of a large frame makes all threads of the station wait."""
    station.inspect(1)
    _, (frame, _) = StatusSocket(station, StatusConfig(path)).answer(b'{"ask": "frame"}')
    assert station.latest is not None
    assert np.shares_memory(np.frombuffer(frame, np.uint8), station.latest[1].frame)


def test_a_station_that_ends_leaves_the_socket_of_the_next(
    bundle: Bundle,
    camera: ScriptedCamera,
    config: StationConfig,
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Which opens one as soon as this one answers no more."""
    station = Station(Jobs({1: bundle.path}), camera, config)
    first, second = (StatusSocket(station, StatusConfig(path)) for _ in range(2))
    with station:
        first.__enter__()
        shutdown = first._server.shutdown

        def at_once() -> None:
            shutdown()
            second.__enter__()

        monkeypatch.setattr(first._server, "shutdown", at_once)
        first.__exit__(None, None, None)
        assert StatusClient(path).status()["online"]
        second.__exit__(None, None, None)
    assert not path.exists()


def test_what_a_slow_station_was_asked_for_is_asked_for_once(path: Path) -> None:
    asked: list[bytes] = []

    def answers() -> None:
        with listener:
            connection, _ = listener.accept()
            with connection, connection.makefile("rb") as lines:
                asked.append(lines.readline())
                connection.sendall(b'{"online": true}\n')
                asked.extend(lines)  # answered never

    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()
    thread = threading.Thread(target=answers)
    thread.start()
    client = StatusClient(path, timeout_s=0.2)
    client.status()
    with pytest.raises(StatusError, match="timed out"):
        client.status()
    thread.join(10)
    assert len(asked) == 2
