"""Changes that are entered before they are made, so that none is made without an entry."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rdx_fast.errors import RdxError
from rdx_fast.station.records.changes import ChangeLog
from rdx_fast.station.records.store import RecordError

log = logging.getLogger(__name__)


@contextmanager
def entered(
    changes: ChangeLog,
    action: str,
    user: str,
    before: dict[str, Any],
    after: dict[str, Any],
    made: Callable[[], bool] = lambda: False,
) -> Iterator[None]:
    """Enter a change, which the body then makes.

    If the body fails, a further entry states that all is as before, and why. Nobody enters that if
    the process is killed: what the station opens next, it enters itself.

    Args:
        changes: the log
        action: one of ``changes.ACTIONS``
        user: who makes it
        before: what is changed, as it is, of JSON's types
        after: as it will be, likewise
        made: asked if the body fails: whether the change was made all the same

    Raises:
        RecordError: the change cannot be entered; the body did not run
    """
    changes.enter(action, user, before, after)
    try:
        yield
    except Exception as error:
        if not _is_made(made):
            try:
                changes.enter(action, user, after, before | {"failed": str(error)})
            except RecordError:
                log.exception("it could not be entered that a change failed: %s", error)
        raise


def _is_made(made: Callable[[], bool]) -> bool:
    try:
        return made()
    except (RdxError, OSError):
        return False  # what should have been changed cannot be read
