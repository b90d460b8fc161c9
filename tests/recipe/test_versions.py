"""Versions of a bundle: candidates are made, released and taken back."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from rdx_fast.bundle import versions
from rdx_fast.bundle.bundle import open_bundle
from rdx_fast.bundle.bundle_history import verify_bundle
from rdx_fast.bundle.changes import override_limits
from rdx_fast.bundle.signature import sign_bundle
from rdx_fast.bundle.versions import (
    earlier_versions,
    list_versions,
    manifest_sha256,
    new_candidate,
    release,
    remove_versions,
    versions_folder,
)
from rdx_fast.detector import Detector
from rdx_fast.errors import BundleError
from support.signing import keys
from support.small_bundle import write_bundle
from support.small_network import SIZE


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_bundle(tmp_path / "cells.rdx").path


def candidate(bundle: Path, ng_above: float = 2.0) -> str:
    """Make a candidate with another limit, and return its SHA-256."""
    with new_candidate(bundle) as copy:
        override_limits(open_bundle(copy), "a test", ng_above=ng_above, user="anna")
        return manifest_sha256(copy)


def limit(bundle: Path) -> float:
    return open_bundle(bundle).manifest.executions[0].limits[0].ng_above.value


def states(bundle: Path) -> dict[str, str]:
    return {version.sha256: version.state for version in list_versions(bundle)}


def test_candidate_is_released_and_taken_back(bundle: Path) -> None:
    (before,) = list_versions(bundle)
    assert (before.state, before.name, before.action) == ("released", "small", "export")
    first, second = candidate(bundle, 2.0), candidate(bundle, 3.0)
    assert states(bundle) == {
        before.sha256: "released",
        first: "candidate",
        second: "candidate",
    }
    assert [v.sha256 for v in list_versions(bundle)] == [before.sha256, second, first]
    found = release(bundle, first)
    assert (found.path, found.sha256, found.state, found.user) == (
        bundle,
        first,
        "released",
        "anna",
    )
    assert limit(bundle) == 2.0
    assert states(bundle) == {
        first: "released",
        before.sha256: "previous",
        second: "candidate",
    }
    assert release(bundle, first) == found  # it is there already
    release(bundle, before.sha256)
    assert limit(bundle) == 1.4
    assert states(bundle) == {
        before.sha256: "released",
        first: "previous",
        second: "candidate",
    }


def test_files_of_versions_are_shared(bundle: Path) -> None:
    (bundle / "plans").mkdir()
    (bundle / "plans" / "a.plan").write_bytes(b"plan")
    candidate(bundle)
    copy = list_versions(bundle)[1].path
    for shared in ("network_fp32.onnx", "plans/a.plan"):
        assert (copy / shared).samefile(bundle / shared)
    assert not (copy / "manifest.json").samefile(bundle / "manifest.json")
    assert copy.name.startswith("candidate-")


def test_detector_goes_on_while_another_version_is_released(bundle: Path) -> None:
    frame = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    with Detector(bundle) as detector:
        before = detector.score(frame).scores
        release(bundle, candidate(bundle))
        np.testing.assert_array_equal(detector.score(frame).scores, before)
        assert detector.limits[0].ng_above.value == 1.4
        assert not detector.engine.bundle.is_current()
    with Detector(bundle) as detector:
        assert detector.limits[0].ng_above.value == 2.0


def test_what_is_opened_while_a_version_is_released(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The network is that of the manifest, whenever the other version takes the place."""
    other = write_bundle(tmp_path / "other.rdx", seed=1).path
    with new_candidate(bundle) as copy:
        shutil.rmtree(copy)
        shutil.copytree(other, copy)
    sha256 = list_versions(bundle)[1].sha256
    from rdx_fast import detector

    opened = []

    def release_once(*args: object, **options: object) -> object:
        if not opened:
            release(bundle, sha256)
        opened.append(real(*args, **options))
        return opened[-1]

    real = detector.open_engine
    monkeypatch.setattr(detector, "open_engine", release_once)
    frame = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    with Detector(bundle) as found, Detector(other) as wanted:
        assert found.manifest == wanted.manifest
        np.testing.assert_array_equal(found.score(frame).scores, wanted.score(frame).scores)
    old = next(v for v in list_versions(bundle) if v.state == "previous")
    stale = open_bundle(old.path)
    release(bundle, old.sha256)
    assert stale.manifest == open_bundle(bundle).manifest


def test_candidate_without_a_change_or_of_a_failed_body(bundle: Path) -> None:
    with pytest.raises(BundleError, match="nothing was changed"), new_candidate(bundle):
        pass
    with pytest.raises(KeyError), new_candidate(bundle):
        raise KeyError
    with pytest.raises(BundleError, match=r"manifest\.json is missing"), new_candidate(bundle) as c:
        (c / "manifest.json").unlink()
    assert list(versions_folder(bundle).iterdir()) == []
    assert limit(bundle) == 1.4


def test_version_that_is_not_there_damaged_or_unsigned(
    bundle: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    private, public = keys(tmp_path, "quality")
    sha256 = candidate(bundle)
    with pytest.raises(BundleError, match="there is no version '000000000000': choose one of"):
        release(bundle, "0" * 64)
    with pytest.raises(BundleError, match="not signed as it is now"):
        release(bundle, sha256, public)
    copy = list_versions(bundle)[1].path
    sign_bundle(copy, private)
    network = copy / "network_fp32.onnx"
    content = network.read_bytes()
    network.unlink()
    network.write_bytes(content[:-1] + b"?")
    with pytest.raises(BundleError, match=r"network_fp32\.onnx was altered"):
        release(bundle, sha256, public)
    network.write_bytes(content)
    assert release(bundle, sha256, public).sha256 == sha256
    (list_versions(bundle)[1].path / "manifest.json").write_text("{}")
    assert [version.state for version in list_versions(bundle)] == ["released"]
    assert "is left out" in caplog.text
    (bundle / "manifest.json").write_text("{}")
    with pytest.raises(BundleError, match="no format number"):
        list_versions(bundle)


def test_previous_version_that_was_changed_is_a_candidate(bundle: Path) -> None:
    before = manifest_sha256(bundle)
    release(bundle, candidate(bundle))
    previous = list_versions(bundle)[1]
    assert (previous.state, previous.sha256) == ("previous", before)
    override_limits(open_bundle(previous.path), "by hand", ng_above=5.0, user="otto")
    assert [version.state for version in list_versions(bundle)] == ["released", "candidate"]


def test_symbolic_link(bundle: Path, tmp_path: Path) -> None:
    link = tmp_path / "current.rdx"
    link.symlink_to(bundle)
    sha256 = candidate(bundle)
    with pytest.raises(BundleError, match=r"current\.rdx is a symbolic link.*cells\.rdx, here"):
        release(link, sha256)
    with pytest.raises(BundleError, match="is a symbolic link"), new_candidate(link):
        pass
    assert [version.state for version in list_versions(link)] == ["released"]


def test_file_system_without_exchange_or_links(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise OSError(95, "not supported")

    sha256 = candidate(bundle)
    before = states(bundle)
    monkeypatch.setattr(versions, "exchange", fails)
    with pytest.raises(BundleError, match=r"nothing was changed: .*not supported"):
        release(bundle, sha256)
    assert states(bundle) == before
    monkeypatch.setattr("os.link", fails)
    with pytest.raises(BundleError, match="cannot be linked into"), new_candidate(bundle):
        pass


KILLED = """
import os, signal, sys
from pathlib import Path
from rdx_fast.bundle import versions
from rdx_fast.bundle.bundle import open_bundle
from rdx_fast.bundle.changes import override_limits

bundle, point, left = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])

def killing(real):
    def call(*args, **options):
        global left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*args, **options)
    return call

if point == "exchange":
    versions.exchange = killing(versions.exchange)
elif point == "exchanged":
    versions.sync_directory = killing(versions.sync_directory)
elif point == "rename":
    Path.rename = killing(Path.rename)
else:
    setattr(os, point, killing(getattr(os, point)))
with versions.new_candidate(bundle) as copy:
    override_limits(open_bundle(copy), "a test", ng_above=2.0, user="anna")
    sha256 = versions.manifest_sha256(copy)
versions.release(bundle, sha256)
"""
# What is killed before its n-th call: the second rename is that of a release.
POINTS = [("link", 2), ("rename", 1), ("rename", 2), ("exchange", 1), ("fsync", 12)]


@pytest.mark.slow
@pytest.mark.parametrize(("point", "count"), [*POINTS, *(("exchanged", n) for n in range(1, 12))])
def test_killed_at(bundle: Path, point: str, count: int) -> None:
    """The bundle is whole, and what was begun can be done again."""
    command = [sys.executable, "-c", KILLED, str(bundle), point, str(count)]
    killed = subprocess.run(command, check=False).returncode
    assert killed == -signal.SIGKILL or point == "exchanged"
    verify_bundle(open_bundle(bundle))
    there = list_versions(bundle)
    assert {version.state for version in there} <= {"released", "candidate", "previous"}
    by_limit = {limit(version.path): version for version in there}
    released = limit(bundle)
    assert by_limit[released].state == "released"
    if 2.0 in by_limit and released != 2.0:
        assert by_limit[2.0].state == "candidate"
    if released == 2.0:
        assert by_limit[1.4].state == "previous"
    release(bundle, candidate(bundle, 3.0))
    assert limit(bundle) == 3.0
    assert not list(versions_folder(bundle).glob(".new-*"))


RELEASES = """
import sys
from pathlib import Path
from rdx_fast.bundle.versions import release
for _ in range(int(sys.argv[4])):
    for sha256 in sys.argv[2:4]:
        release(Path(sys.argv[1]), sha256)
"""


@pytest.mark.slow
def test_read_while_others_release(bundle: Path) -> None:
    """Two processes release two versions a hundred times; whoever opens the bundle finds one."""
    wanted = {manifest_sha256(bundle): 1.4, candidate(bundle): 2.0}
    command = [sys.executable, "-c", RELEASES, str(bundle), *wanted, "50"]
    processes = [subprocess.Popen(command) for _ in range(2)]
    found = set()
    try:
        while any(process.poll() is None for process in processes):
            opened = open_bundle(bundle)
            found.add(opened.manifest.executions[0].limits[0].ng_above.value)
    finally:
        for process in processes:
            process.wait()
    assert [process.returncode for process in processes] == [0, 0]
    assert found == {1.4, 2.0}
    assert sorted(states(bundle).values()) == ["previous", "released"]


def test_release_waits_for_a_change_in_place(bundle: Path) -> None:
    from rdx_fast.durable import locked, try_locked

    sha256 = candidate(bundle)
    releasing = threading.Thread(target=release, args=(bundle, sha256))
    with locked(bundle):
        releasing.start()
        held = True
        while held:  # until the other thread holds the versions' folder
            with try_locked(versions_folder(bundle)) as held:
                pass
        assert limit(bundle) == 1.4
    releasing.join()
    assert limit(bundle) == 2.0
    assert os.access(bundle, os.R_OK)


def test_candidates_are_made_side_by_side(bundle: Path) -> None:
    """What a process is at work on stays; what one left that was killed goes."""
    left = versions_folder(bundle) / ".new-left"
    left.mkdir(parents=True)
    with new_candidate(bundle) as copy:
        sha256 = candidate(bundle, 3.0)
        override_limits(open_bundle(copy), "a test", ng_above=2.0, user="anna")
    assert sha256 in states(bundle)
    assert len(states(bundle)) == 3
    assert not left.exists()


def test_what_a_killed_process_left_is_not_shared(bundle: Path) -> None:
    """Files without a place in the manifest are written again by the next change."""
    (bundle / "history-1.jsonl").write_text("left over")
    (bundle / ".manifest.json.abc").mkdir()
    with new_candidate(bundle) as copy:
        assert {file.name for file in copy.iterdir()} == {
            "history-0.jsonl",
            "manifest.json",
            "network_fp32.onnx",
        }
        override_limits(open_bundle(copy), "a test", ng_above=2.0, user="anna")
    override_limits(open_bundle(bundle), "another", ng_above=3.0, user="otto")
    for version in list_versions(bundle):
        verify_bundle(open_bundle(version.path))


def test_versions_are_removed(bundle: Path) -> None:
    first = manifest_sha256(bundle)
    made = [candidate(bundle, 2.0 + i) for i in range(4)]
    for sha256 in made[:3]:
        release(bundle, sha256)
    assert [of.sha256 for of in earlier_versions(bundle, 1)] == [made[0], first]
    assert earlier_versions(bundle, 3) == []
    remove_versions(bundle, [of.sha256 for of in earlier_versions(bundle, 1)])
    assert states(bundle) == {made[2]: "released", made[1]: "previous", made[3]: "candidate"}
    for wrong, text in ((made[2], "the released version stays"), ("0" * 64, "no version")):
        with pytest.raises(BundleError, match=text):
            remove_versions(bundle, [made[3], wrong])
    assert made[3] in states(bundle)
    remove_versions(bundle, [made[3]])
    assert limit(bundle) == 4.0
    assert set(states(bundle)) == {made[2], made[1]}


def test_a_version_that_is_renamed_while_it_is_removed(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever releases holds the folder; what it is called afterwards is removed."""
    first = manifest_sha256(bundle)
    made = [candidate(bundle, 2.0), candidate(bundle, 3.0)]

    @contextmanager
    def after_a_release(folder: Path) -> Iterator[None]:
        monkeypatch.undo()
        for sha256 in made:
            release(bundle, sha256)
        with versions.locked(folder):
            yield

    monkeypatch.setattr(versions, "locked", after_a_release)
    remove_versions(bundle, [made[0]])
    assert states(bundle) == {made[1]: "released", first: "previous"}


def test_a_removal_that_is_killed(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of what is left no version is told, and it is removed by whatever comes next."""
    made = [candidate(bundle, 2.0), candidate(bundle, 3.0)]

    def killed(folder: Path) -> None:
        (folder / "manifest.json").unlink()
        raise KeyboardInterrupt

    monkeypatch.setattr(shutil, "rmtree", killed)
    with pytest.raises(KeyboardInterrupt):
        remove_versions(bundle, made[:1])
    monkeypatch.undo()
    assert set(states(bundle)) == {manifest_sha256(bundle), made[1]}
    remove_versions(bundle, made[1:])
    assert list(versions_folder(bundle).iterdir()) == []
