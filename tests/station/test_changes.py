"""What a station enters when a job has another bundle."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import pytest

from rdx_fast.bundle.bundle import Bundle, open_bundle
from rdx_fast.bundle.changes import override_limits
from rdx_fast.station.jobs import JobError, Jobs
from rdx_fast.station.records.changes import ChangeLog, read_changes
from rdx_fast.station.records.store import RecordError, RecordWriter
from support.commands import run


@pytest.fixture
def copy(bundle: Bundle, tmp_path: Path) -> Bundle:
    return open_bundle(shutil.copytree(bundle.path, tmp_path / "copy.rdx"))


def jobs_of(bundle: Path, records: Path) -> Jobs:
    changes = ChangeLog(records)
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


def test_entries_that_were_altered_are_found(copy: Bundle, tmp_path: Path) -> None:
    records = tmp_path / "records.sqlite"
    RecordWriter(records).close()
    jobs = jobs_of(copy.path, records)
    jobs.open_all()
    jobs.close()
    with sqlite3.connect(records) as database:
        database.execute("DELETE FROM changes WHERE entry = 1")
    with pytest.raises(RecordError, match="history is broken before entry 1"):
        read_changes(records)
    with pytest.raises(JobError, match=r"job 1: .* broken before entry 1"):
        jobs_of(copy.path, records).open_all()
    assert "broken before entry 1" in run("records", records, "--changes", code=2).stderr


def test_no_records(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="no such file"):
        read_changes(tmp_path / "none.sqlite")
    (tmp_path / "text.sqlite").write_text("no database, but as long as the header of one " * 9)
    with pytest.raises(RecordError, match="not a station's records file"):
        read_changes(tmp_path / "text.sqlite")
