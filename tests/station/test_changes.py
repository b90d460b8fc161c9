"""What a station enters when a job has another bundle."""

from __future__ import annotations

import io
import shutil
import sqlite3
from pathlib import Path

import pytest
from rich.console import Console

from rdx_fast.bundle.bundle import Bundle, open_bundle
from rdx_fast.bundle.changes import override_limits
from rdx_fast.bundle.history import START, Change
from rdx_fast.cli.tables import changes_table
from rdx_fast.station.jobs import Jobs
from rdx_fast.station.records import bundle_log
from rdx_fast.station.records.bundle_log import BundleLog
from rdx_fast.station.records.changes import ChangeLog, read_changes
from rdx_fast.station.records.store import RecordError, RecordWriter
from support.commands import run


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
