"""Changes of jobs' bundles, in the file of the records, each entry chained to the one before."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from rdx_fast.bundle.bundle import Bundle
from rdx_fast.bundle.bundle_history import bundle_history
from rdx_fast.bundle.history import START, Change, read_history, system_user
from rdx_fast.errors import BundleError
from rdx_fast.station.records.store import RecordError, connect

_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS changes (entry INTEGER PRIMARY KEY, line TEXT NOT NULL) STRICT"
)


class ChangeLog:
    """Enters each bundle that a job has not had before. Used by one thread.

    Args:
        path: the SQLite file of the records
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def opened(self, job: int, bundle: Bundle, sha256: str) -> None:
        """Enter that a job has a bundle now; nothing if that is what it had.

        The entry states the bundle's own changes that the one before did not have.

        Args:
            job: id of the job
            bundle: what it has now
            sha256: of the bundle's manifest

        Raises:
            RecordError: the entry cannot be written, or the chain of the entries is broken
            BundleError: the chain of the bundle's history is broken
        """
        history = [[c.time, c.user, c.action, c.sha256] for c in bundle_history(bundle)]
        after = {"job": job, "bundle": bundle.manifest.name, "sha256": sha256, "history": history}
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with closing(connect(self._path)) as connection:
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("PRAGMA synchronous = FULL")
                connection.execute(_SCHEMA)
                connection.execute("BEGIN IMMEDIATE")
                changes = _read(connection, self._path)
                before = next((c.after for c in reversed(changes) if c.after["job"] == job), {})
                if before.get("sha256") == sha256:
                    return
                known = [e for c in changes if c.after["job"] == job for e in c.after["history"]]
                after["history"] = [entry for entry in history if entry not in known]
                previous = changes[-1].sha256 if changes else START
                change = Change.now(system_user(), "replace", before, after, previous)
                connection.execute("INSERT INTO changes (line) VALUES (?)", (change.line(),))
                connection.execute("COMMIT")
        except (sqlite3.Error, OSError) as error:
            raise RecordError(
                f"{self._path}: that job {job} has another bundle cannot be entered: {error}"
            ) from error


def read_changes(path: Path) -> list[Change]:
    """Read the changes of jobs' bundles, the oldest first, and check their chain.

    Args:
        path: the SQLite file of the records

    Raises:
        RecordError: the file is missing or is not a records file, or the chain is broken
    """
    if not path.is_file():
        raise RecordError(f"{path}: no such file: give the records file of a station")
    try:
        with closing(connect(path)) as connection:
            connection.execute("SELECT inspection_id FROM inspections LIMIT 1")
            return _read(connection, path)
    except sqlite3.Error as error:
        raise RecordError(f"{path} is not a station's records file: {error}") from error


def _read(connection: sqlite3.Connection, path: Path) -> list[Change]:
    there = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'changes'").fetchone()
    if there is None:
        return []
    lines = [line for (line,) in connection.execute("SELECT line FROM changes ORDER BY entry")]
    try:
        return read_history("".join(lines), str(path))
    except BundleError as error:
        raise RecordError(str(error)) from error
