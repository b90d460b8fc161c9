"""What the routes of the page share."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from threading import Event
from typing import TYPE_CHECKING

from rdx_fast.hmi.sessions import LoginLimit, Sessions
from rdx_fast.hmi.users import Users

if TYPE_CHECKING:
    from rdx_fast.hmi.tasks import Tasks
    from rdx_fast.station.config import StationFile
    from rdx_fast.station.hmi_config import HmiConfig
    from rdx_fast.station.records.changes import ChangeLog
    from rdx_fast.station.status_client import StatusClient

Service = Callable[[], AbstractAsyncContextManager[object]]


@dataclass(frozen=True, slots=True)
class Context:
    """What the routes share.

    Attributes:
        file: the station's configuration
        hmi: its table ``[hmi]``
        name: of the station, for the page: the configuration's file name without ending
        users: who may log in
        sessions: who is logged in
        logins: limit of failed logins
        changes: the log of changes
        station: asks the station; None if it has no table ``[status]``. Blocks: call it in a
            thread
        tasks: long work on bundles, one task for each job
        ending: set when the server is told to end, so that long work stops
        services: opened when the application starts, and closed when it ends; a module of routes
            appends its own
        endings: called when the server is told to end, so that answers that go on for ever end;
            a module of routes appends its own
    """

    file: StationFile
    hmi: HmiConfig
    name: str
    users: Users
    sessions: Sessions
    logins: LoginLimit
    changes: ChangeLog
    station: StatusClient | None
    tasks: Tasks
    ending: Event = field(default_factory=Event)
    services: list[Service] = field(default_factory=list)
    endings: list[Callable[[], None]] = field(default_factory=list)
