"""Which bundles a station's jobs have had, entered among the changes."""

from __future__ import annotations

import json
import logging
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
    the station from inspecting.

    Args:
        path: the SQLite file of the records

    Raises:
        RecordError: the file is not a records file
    """

    def __init__(self, path: Path) -> None:
        self._log = ChangeLog(path)
        self._had: dict[int, list[dict[str, Any]]] = defaultdict(list)
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

        The entry states the bundle's own changes that the ones before did not have.

        Args:
            job: id of the job
            bundle: what it has now
            sha256: of the bundle's manifest

        Raises:
            RecordError: the entry cannot be written
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
        self._log.enter("replace", system_user(), before, after)
        had.append(after)
