"""What a station enters when a job has another bundle."""

from __future__ import annotations

import io
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from rich.console import Console

from rdx_fast.bundle.bundle import Bundle, open_bundle
from rdx_fast.bundle.changes import override_limits
from rdx_fast.bundle.history import START, Change
from rdx_fast.bundle.versions import manifest_sha256
from rdx_fast.cli.tables import changes_table
from rdx_fast.station import DriftConfig, StationConfig
from rdx_fast.station.config import CameraConfig, JobConfig, StationFile
from rdx_fast.station.jobs import Jobs
from rdx_fast.station.records import bundle_log
from rdx_fast.station.records.bundle_log import BundleLog
from rdx_fast.station.records.changes import ChangeLog, read_changes
from rdx_fast.station.records.store import RecordError, RecordWriter
from rdx_fast.station.run import running
from support.commands import run
from support.scripted import ScriptedCamera, wait_until


@pytest.fixture
def copy(bundle: Bundle, tmp_path: Path) -> Bundle:
    return open_bundle(shutil.copytree(bundle.path, tmp_path / "copy.rdx"))


def jobs_of(bundle: Path, records: Path) -> Jobs:
    changes = BundleLog(records)
    return Jobs(
        {1: bundle, 7: bundle},
        on_opened=lambda j: changes.opened(j.id, j.detector.engine.bundle, j.bundle_sha256),
    )


def test_another_bundle_of_a_job_is_entered_once(copy: Bundle, tmp_path: Path) -> None:
    records = tmp_path / "records.sqlite"  # the station makes it after its jobs were opened
    for _ in range(2):  # a restart is no change
        jobs = jobs_of(copy.path, records)
        jobs.open_all()
        jobs.close()
        RecordWriter(records).close()
    assert [c.after["job"] for c in read_changes(records)] == [1, 7]
    jobs = jobs_of(copy.path, records)
    jobs.open_all()
    value = copy.manifest.executions[0].threshold.value
    override_limits(copy, "old lamp", ng_above=2 * value, user="otto")
    jobs.select(1)
    jobs.close()
    last = read_changes(records)[-1]
    assert (last.action, last.after["job"], last.before["job"]) == ("replace", 1, 1)
    assert last.after["sha256"] != last.before["sha256"]
    assert [entry[1:3] for entry in last.after["history"]] == [["otto", "override"]]
    for factor in (3, 4):  # each entry states what is new
        changed = override_limits(
            open_bundle(copy.path), "again", ng_above=factor * value, user=f"user {factor}"
        )
        jobs = jobs_of(changed.path, records)
        jobs.select(1)
        jobs.close()
        (entry,) = read_changes(records)[-1].after["history"]
        assert entry[1] == f"user {factor}"
    assert "override by otto" in run("records", records, "--changes").stdout
    assert run("records", records, "--changes", "--json").stdout.count("\n") == 5


def test_entries_that_were_altered_are_found(
    copy: Bundle, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    records = tmp_path / "records.sqlite"
    RecordWriter(records).close()
    jobs = jobs_of(copy.path, records)
    jobs.open_all()
    jobs.close()
    with sqlite3.connect(records) as database:
        database.execute("DELETE FROM changes WHERE entry = 1")
    with pytest.raises(RecordError, match="history is broken before entry 1"):
        read_changes(records)
    assert "broken before entry 1" in run("records", records, "--changes", code=2).stderr
    caplog.clear()
    jobs = jobs_of(copy.path, records)
    jobs.open_all()  # the line does not stop for it
    jobs.close()
    (told,) = [r for r in caplog.records if r.getMessage() == "log of changes broken"]
    assert "broken before entry 1" in told.detail


def test_a_changeover_does_not_read_the_log(
    copy: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log has an entry of each label: reading it all would make a part late."""
    records = tmp_path / "records.sqlite"
    jobs = jobs_of(copy.path, records)
    jobs.open_all()

    def read(path: Path) -> list[str]:
        raise AssertionError("the log was read")

    monkeypatch.setattr(bundle_log, "change_lines", read)
    value = copy.manifest.executions[0].threshold.value
    override_limits(copy, "another lamp", ng_above=2 * value, user="otto")
    jobs.select(1)
    jobs.close()
    assert [c.after["job"] for c in read_changes(records)] == [1, 7, 1]


@pytest.mark.parametrize("bundles", [1, 2])
def test_an_entry_that_cannot_be_written_waits(
    copy: Bundle, tmp_path: Path, caplog: pytest.LogCaptureFixture, bundles: int
) -> None:
    """The station inspects with the bundle meanwhile."""
    records = tmp_path / "records.sqlite"
    changes = BundleLog(records)
    jobs = Jobs(
        {1: copy.path},
        on_opened=lambda j: changes.opened(j.id, j.detector.engine.bundle, j.bundle_sha256),
    )
    jobs.open_all()
    value = copy.manifest.executions[0].threshold.value
    opened = [jobs.opened[1].bundle_sha256]
    with closing(sqlite3.connect(records, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        for number in range(bundles):
            changed = open_bundle(copy.path)
            override_limits(changed, "lamp", ng_above=(2 + number) * value, user="otto")
            opened.append(jobs.select(1).bundle_sha256)
            changes.flush()
        assert opened[-1] == manifest_sha256(copy.path)
    told = [r for r in caplog.records if r.getMessage() == "log of changes fails"]
    assert len(told) == 1
    assert "locked" in told[0].detail
    assert len(read_changes(records)) == 1
    for _ in range(2):
        changes.flush()
        assert [c.after["sha256"] for c in read_changes(records)] == opened
    override_limits(open_bundle(copy.path), "lamp", ng_above=9 * value, user="otto")
    jobs.select(1)
    jobs.close()
    assert read_changes(records)[-1].before["sha256"] == opened[-1]


def test_a_station_enters_later_what_it_could_not_enter(
    copy: Bundle, camera: ScriptedCamera, config: StationConfig, tmp_path: Path
) -> None:
    assert config.records is not None
    records = config.records.path
    jobs = {"1": JobConfig(bundle=copy.path)}
    file = StationFile(
        jobs,
        CameraConfig("still", tmp_path),
        handshake=config.handshake,
        records=config.records,
        drift=DriftConfig(path=tmp_path / "drift"),
    )
    with running(file, source=camera) as line, closing(sqlite3.connect(records)) as other:
        sha256 = line.station.inspect(1).bundle_sha256
        other.execute("BEGIN IMMEDIATE")
        value = copy.manifest.executions[0].threshold.value
        override_limits(copy, "lamp", ng_above=3 * value, user="otto")
        line.station.select_job(1)
        wait_until(lambda: line.station.opened_jobs[1].bundle_sha256 != sha256)
        other.rollback()
        answer = line.station.inspect(2)
        assert (answer.result, answer.bundle_sha256) == ("OK", manifest_sha256(copy.path))
        wait_until(lambda: len(read_changes(records)) == 2)


def test_changes_before_the_first_part(tmp_path: Path) -> None:
    records = tmp_path / "records.sqlite"
    ChangeLog(records).enter("login", "eva", {}, {})
    assert [c.user for c in read_changes(records)] == ["eva"]


def test_no_records(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="no such file"):
        read_changes(tmp_path / "none.sqlite")
    (tmp_path / "text.sqlite").write_text("no database, but as long as the header of one " * 9)
    with pytest.raises(RecordError, match="not a station's records file"):
        read_changes(tmp_path / "text.sqlite")


def test_a_terminal_is_told_nothing_by_what_strangers_typed() -> None:
    evil = "\x1b]0;owned\x07\u202e[red]"
    entry = Change.now(evil, "label", {}, {"comment": evil}, START)
    console = Console(width=200, file=io.StringIO())
    console.print(changes_table([entry]))
    assert isinstance(console.file, io.StringIO)
    shown = console.file.getvalue()
    assert shown.count("]0;owned [red]") == 2
    assert not set("\x1b\x07\u202e") & set(shown)
