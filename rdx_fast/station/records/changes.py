"""Who changed what at the station, in the file of the records, each entry chained to the last."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from rdx_fast.bundle.history import START, Change, read_history
from rdx_fast.errors import BundleError
from rdx_fast.station.records.read import reading
from rdx_fast.station.records.store import RecordError, connect, has_table

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
        with writing(self._path, f"the change {action!r}") as connection:
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
    return checked_changes(change_lines(path), path)


def checked_changes(lines: Iterable[str], path: Path) -> list[Change]:
    """The entries of ``change_lines``. Raises ``RecordError`` if their chain is broken."""
    try:
        return read_history("".join(lines), str(path))
    except BundleError as error:
        raise RecordError(str(error)) from error


def change_lines(path: Path) -> list[str]:
    """The entries as they are in the file, the oldest first.

    Raises:
        RecordError: the file is missing or is not a records file
    """
    with reading(path) as connection:
        if not has_table(connection, "changes"):
            connection.execute("SELECT inspection_id FROM inspections LIMIT 1")
            return []
        rows = connection.execute("SELECT line FROM changes ORDER BY entry")
        return [line for (line,) in rows]
