"""The history of a bundle: who changed what, each entry chained to the one before by its hash."""

from __future__ import annotations

import getpass
import hashlib
import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import dacite

from rdx_fast.errors import BundleError
from rdx_fast.reading import in_words

ACTIONS = ("export", "calibrate", "recipe", "override", "replace", "compare")
START = "0" * 64  # what the first entry states as the hash of the one before


@dataclass(frozen=True, slots=True)
class Change:
    """One entry.

    Attributes:
        time: ISO 8601, UTC
        user: name given, or of the system
        action: what was done
        before: what was changed, as it was; empty for an export
        after: as it is since
        previous: hash of the entry before
        sha256: hash of this entry
    """

    time: str
    user: str
    action: str
    before: dict[str, Any]
    after: dict[str, Any]
    previous: str
    sha256: str

    @classmethod
    def now(
        cls, user: str, action: str, before: dict[str, Any], after: dict[str, Any], previous: str
    ) -> Change:
        """An entry of this moment, chained to the one with the hash ``previous``."""
        time = datetime.now(UTC).isoformat(timespec="milliseconds")
        before, after = (json.loads(json.dumps(facts)) for facts in (before, after))
        entry = cls(time, user, action, before, after, previous, "")
        return cls(time, user, action, before, after, previous, entry.hashed())

    def hashed(self) -> str:
        """SHA-256 of all that the entry states but its own hash."""
        facts = {name: value for name, value in asdict(self).items() if name != "sha256"}
        return hashlib.sha256(_json(facts).encode()).hexdigest()

    def line(self) -> str:
        """The entry as a line of the history's file."""
        return _json(asdict(self)) + "\n"


def read_history(text: str, where: str) -> list[Change]:
    """Read a history and check its chain.

    Args:
        text: contents of the file, one entry as JSON a line
        where: the bundle, for error messages

    Returns:
        the entries, the oldest first

    Raises:
        BundleError: an entry is unreadable, altered, missing or in another place; the message says
            which
    """
    changes: list[Change] = []
    previous = START
    for number, line in enumerate(text.splitlines(), start=1):
        try:
            change = dacite.from_dict(Change, json.loads(line), dacite.Config(strict=True))
        except (ValueError, TypeError, AttributeError, RecursionError, dacite.DaciteError) as error:
            raise BundleError(
                f"{where}: entry {number} of the history is unreadable: {in_words(error)}"
            ) from error
        if change.hashed() != change.sha256:
            raise BundleError(
                f"{where}: entry {number} of the history ({change.action} by {change.user}, "
                f"{change.time}) was altered: its contents do not match its hash"
            )
        if change.previous != previous:
            raise BundleError(
                f"{where}: the history is broken before entry {number} ({change.action} by "
                f"{change.user}, {change.time}): an entry was removed, inserted or moved"
            )
        previous = change.sha256
        changes.append(change)
    return changes


def system_user() -> str:
    """Name of the user of this process, "unknown" where the system has none."""
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return "unknown"


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))
