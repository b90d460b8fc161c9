"""Who changed what at the station, in the file of the records, each entry chained to the last."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from rdx_fast.bundle.bundle import Bundle
from rdx_fast.bundle.bundle_history import bundle_history
from rdx_fast.bundle.history import START, Change, read_history, system_user
from rdx_fast.errors import BundleError
from rdx_fast.station.records.store import RecordError, connect

# "replace" is the station's own: it opened another bundle for a job.
ACTIONS = frozenset(
    {
        *("replace", "label", "limits", "regions", "job", "candidate", "release"),
        *("login", "login refused", "logout", "user"),
    }
)
_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS changes (entry INTEGER PRIMARY KEY, line TEXT NOT NULL) STRICT"
)


class ChangeLog:
    """Enters changes. Each call opens the file, so that any thread may make it.

    Args:
        path: the SQLite file of the records
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def opened(self, job: int, bundle: Bundle, sha256: str) -> None:
        """Enter that a job has a bundle now; nothing if that is what it had.

        The entry states the bundle's own changes that the ones before did not have.

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
        # Read before the transaction: the station's rows would wait for a long log.
        changes = _read(self._path) if self._path.is_file() else []
        had = [c.after for c in changes if c.action == "replace" and c.after["job"] == job]
        before = had[-1] if had else {}
        if before.get("sha256") == sha256:
            return
        known = [entry for facts in had for entry in facts["history"]]
        after["history"] = [entry for entry in history if entry not in known]
        self._add(system_user(), "replace", before, after, f"that job {job} has another bundle")

    def enter(
        self, action: str, user: str, before: dict[str, Any], after: dict[str, Any]
    ) -> Change:
        """Enter a change.

        Args:
            action: one of ``ACTIONS``
            user: who made it
            before: what was changed, as it was, of JSON's types
            after: as it is since, likewise

        Raises:
            RecordError: the entry cannot be written
        """
        return self._add(user, action, before, after, f"the change {action!r}")

    def _add(
        self, user: str, action: str, before: dict[str, Any], after: dict[str, Any], what: str
    ) -> Change:
        with writing(self._path, what) as connection:
            return add_change(connection, user, action, before, after)


@contextmanager
def writing(path: Path, what: str) -> Iterator[sqlite3.Connection]:
    """A transaction in the file of the records, which is durable at the end of the body.

    A station that writes its rows meanwhile waits for the body, but not for the disk: the rows
    before are flushed only after the transaction.

    Args:
        path: the SQLite file of the records, created if it is missing
        what: is written, for error messages

    Raises:
        RecordError: it cannot be written
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with closing(connect(path)) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute("PRAGMA wal_autocheckpoint = 0")  # is the station's task
            connection.execute(_SCHEMA)
            connection.execute("BEGIN IMMEDIATE")
            yield connection
            connection.execute("COMMIT")
            with open(f"{path}-wal", "rb") as log:
                os.fsync(log.fileno())
    except (sqlite3.Error, OSError) as error:
        raise RecordError(f"{path}: {what} cannot be entered: {error}") from error


def add_change(
    connection: sqlite3.Connection,
    user: str,
    action: str,
    before: dict[str, Any],
    after: dict[str, Any],
) -> Change:
    """Chain an entry to the last one, in a transaction of ``writing``."""
    assert action in ACTIONS
    last = connection.execute("SELECT line FROM changes ORDER BY entry DESC LIMIT 1").fetchone()
    previous = START if last is None else str(json.loads(last[0])["sha256"])
    change = Change.now(user, action, before, after, previous)
    connection.execute("INSERT INTO changes (line) VALUES (?)", (change.line(),))
    return change


def read_changes(path: Path) -> list[Change]:
    """Read all changes, the oldest first, and check their chain.

    Args:
        path: the SQLite file of the records

    Raises:
        RecordError: the file is missing or is not a records file, or the chain is broken
    """
    if not path.is_file():
        raise RecordError(f"{path}: no such file: give the records file of a station")
    return _read(path, "SELECT inspection_id FROM inspections LIMIT 1")


def _read(path: Path, first: str = "SELECT 1") -> list[Change]:
    try:
        with closing(connect(path)) as connection:
            connection.execute(first)
            there = "SELECT 1 FROM sqlite_master WHERE name = 'changes'"
            if connection.execute(there).fetchone() is None:
                return []
            rows = connection.execute("SELECT line FROM changes ORDER BY entry")
            return read_history("".join(line for (line,) in rows), str(path))
    except BundleError as error:
        raise RecordError(str(error)) from error
    except sqlite3.Error as error:
        raise RecordError(f"{path} is not a station's records file: {error}") from error
