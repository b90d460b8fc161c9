"""Which bundles a station's jobs have had, entered among the changes."""

from __future__ import annotations

import json
import logging
import threading
from collections import defaultdict
from pathlib import Path
from typing import Any

from rdx_fast.bundle.bundle import Bundle
from rdx_fast.bundle.bundle_history import bundle_history
from rdx_fast.bundle.history import system_user
from rdx_fast.station.records.changes import ChangeLog, change_lines, checked_changes
from rdx_fast.station.records.store import RecordError

log = logging.getLogger(__name__)


class BundleLog:
    """Enters each bundle that a job has not had before.

    The log is read once, when the station starts: it has an entry of each label, and a changeover
    must not take longer because there are many. That its chain is broken is told, and does not keep
    the station from inspecting. Nor does it that an entry cannot be written: it waits in memory, as
    rows do. If the process ends before, the next start enters what is open then.

    Args:
        path: the SQLite file of the records

    Raises:
        RecordError: the file is not a records file
    """

    def __init__(self, path: Path) -> None:
        self._log = ChangeLog(path)
        self._had: dict[int, list[dict[str, Any]]] = defaultdict(list)
        self._waiting: list[tuple[dict[str, Any], dict[str, Any]]] = []  # before and after
        self._failing = False
        self._lock = threading.Lock()  # held while entries are written
        if not path.is_file():
            return
        lines = change_lines(path)
        try:
            checked_changes(lines, path)
        except RecordError as error:
            log.error("log of changes broken", extra={"detail": str(error)})
        for line in lines:
            try:
                entry = json.loads(line)
                if entry["action"] == "replace":
                    self._had[entry["after"]["job"]].append(entry["after"])
            except (ValueError, KeyError, TypeError):
                continue  # the broken chain was told

    def opened(self, job: int, bundle: Bundle, sha256: str) -> None:
        """Enter that a job has a bundle now; nothing if that is what it had.

        An entry that cannot be written waits for ``flush``, and so does what comes after it. The
        entry states the bundle's own changes that the ones before did not have.

        Args:
            job: id of the job
            bundle: what it has now
            sha256: of the bundle's manifest

        Raises:
            BundleError: the chain of the bundle's history is broken
        """
        had = self._had[job]
        before = had[-1] if had else {}
        if before.get("sha256") == sha256:
            return
        history = [[c.time, c.user, c.action, c.sha256] for c in bundle_history(bundle)]
        known = [entry for facts in had for entry in facts["history"]]
        after = {
            "job": job,
            "bundle": bundle.manifest.name,
            "sha256": sha256,
            "history": [entry for entry in history if entry not in known],
        }
        had.append(after)
        self._waiting.append((before, after))
        if not self._failing:  # else no part waits for a file that is locked
            self.flush()

    def flush(self) -> None:
        """Write the entries that wait, as far as they can be written."""
        with self._lock:
            while self._waiting:
                try:
                    self._log.enter("replace", system_user(), *self._waiting[0])
                except RecordError as error:
                    if not self._failing:
                        log.error("log of changes fails", extra={"detail": str(error)})
                    self._failing = True
                    return
                del self._waiting[0]
            self._failing = False
