"""Jobs of a station that runs: changed, replaced, broken, missing, mended."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from rdx_fast.bundle.bundle import Bundle
from rdx_fast.station import Controls, JobError, Jobs, Station, StationConfig
from support.scripted import ScriptedCamera, wait_until


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
        network = paths[1] / "network_fp32.onnx"
        content = network.read_bytes()
        replace_bundle(paths[1], network, content[:-1])
        broken = station.inspect(1, job=1)
        assert (broken.result, broken.error) == ("ERROR", "JOB_BROKEN")
        assert "network_fp32.onnx" in (broken.detail or "")
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
