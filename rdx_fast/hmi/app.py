"""The page's application. How a module declares its routes: see ``access``."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from rdx_fast.bundle.versions import ReplacedError
from rdx_fast.errors import RdxError
from rdx_fast.hmi import data_api, jobs_api, session_api
from rdx_fast.hmi.access import context_of, cookie_name
from rdx_fast.hmi.context import Context
from rdx_fast.hmi.protection import Protection, protected
from rdx_fast.hmi.refusal import Refused
from rdx_fast.hmi.sessions import Clock, LoginLimit, Sessions
from rdx_fast.hmi.tasks import Tasks
from rdx_fast.hmi.users import Users, UsersError
from rdx_fast.station.config import ConfigError, StationFile
from rdx_fast.station.records.changes import ChangeLog
from rdx_fast.station.status_client import StatusClient
from rdx_fast.wording import without_folders

log = logging.getLogger(__name__)

STATIC = Path(__file__).parent / "static"
API = (session_api, jobs_api, data_api)  # modules of routes


def create_app(
    file: StationFile,
    name: str = "station",
    users: Users | None = None,
    clock: Clock = time.monotonic,
) -> Starlette:
    """Make the application of a station's page.

    Args:
        file: the station's configuration
        name: of the station, shown on the page
        users: who may log in; None for the configured file. Tests replace it
        clock: returns seconds, never going back, for sessions and logins. Tests replace it

    Returns:
        The application; ``app.state.context`` is the ``Context`` of its routes.

    Raises:
        ConfigError: the configuration has no table ``[hmi]``
    """
    hmi = file.hmi
    if hmi is None:
        raise ConfigError("the configuration has no table [hmi]: add one, if only its first line")
    users = users or Users(hmi.users)
    users.prepare()  # the first unknown user who logs in would wait twice as long
    context = Context(
        file=file,
        hmi=hmi,
        name=name,
        users=users,
        sessions=Sessions(users, hmi.session_minutes * 60, hmi.session_hours * 3600, clock),
        logins=LoginLimit(clock),
        changes=ChangeLog(file.records.path),
        station=None if file.status is None else StatusClient(file.status.socket),
        tasks=Tasks(),
    )

    @asynccontextmanager
    async def running(app: Starlette) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            for service in context.services:
                await stack.enter_async_context(service())
            yield

    app = Starlette(
        routes=[
            *(route for module in API for route in module.routes(context)),
            Route("/", _page, methods=["GET"]),
            Mount("/static", StaticFiles(directory=STATIC, check_dir=False)),
        ],
        middleware=[Middleware(Protection, hmi, context.ending)],
        exception_handlers={
            Refused: _refused,
            HTTPException: _no_such_route,
            ReplacedError: _replaced,
            RdxError: _conflict,
            Exception: _failed,
        },
        lifespan=running,
    )
    app.router.redirect_slashes = False
    app.state.context = context
    return app


def _page(request: Request) -> Response:
    return FileResponse(STATIC / "index.html")


def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    return error.response()


def _no_such_route(request: Request, error: Exception) -> Response:
    """No such path, or not with this method."""
    assert isinstance(error, HTTPException)
    code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "bad_request")
    headers = dict(error.headers or {})
    return Refused(error.status_code, code, error.detail, headers).response()


def _conflict(request: Request, error: Exception) -> Response:
    """What was asked for cannot be done as things are: a limit out of order, a full disk. Where
    files lie is told to engineers only."""
    context, engineer = context_of(request), False
    if not isinstance(error, UsersError):  # where nobody can be known
        session = context.sessions.find(request.cookies.get(cookie_name(context)), renew=False)
        engineer = session is not None and session.user.role == "engineer"
    text = str(error) if engineer else without_folders(str(error))
    return Refused(409, "refused", text).response()


def _replaced(request: Request, error: Exception) -> Response:
    """Somebody else was faster."""
    return Refused(409, "changed_meanwhile", without_folders(str(error))).response()


def _failed(request: Request, error: Exception) -> Response:
    """A mistake in the program, which Starlette logs with its trace."""
    text = "the page's server failed: its log says why"
    return protected(Refused(500, "failed", text).response())
