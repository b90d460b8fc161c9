"""Who may call what: every route of the page's interface is declared here, in one way.

A module of routes has a function ``routes(context) -> list[ApiRoute]``, which ``app`` calls once::

    def routes(context: Context) -> list[ApiRoute]:
        parts = Parts(context)
        return [
            get("/api/parts", Access.VIEW, parts.search, query=Search),
            get("/api/parts/{id:id}/frame", Access.VIEW, parts.frame, renews=False),
            post("/api/parts/{id:id}/label", Access.OPERATOR, parts.label, form=LabelForm),
        ]

A handler takes a ``Call``, and then the form of the query or the body (see ``forms``) where one is
declared. It returns what JSON can state, or a Starlette response. One that is a plain function runs
in a thread and may block; a coroutine must not. It refuses a request by raising ``Refused``; an
``RdxError`` that it raises is answered with 409.

Paths take ``{id:id}``, a whole number of at most 15 digits that the handler finds in ``call.path``.
"""

from __future__ import annotations

import asyncio
import hmac
import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from inspect import iscoroutinefunction
from typing import Any
from urllib.parse import urlsplit

from starlette.concurrency import run_in_threadpool
from starlette.convertors import IntegerConvertor, register_url_convertor
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from rdx_fast.hmi.context import Context
from rdx_fast.hmi.forms import from_json, from_query
from rdx_fast.hmi.refusal import Refused
from rdx_fast.hmi.sessions import Session

MAX_BODY = 2**20  # bytes of a long form, such as of regions
SHORT_BODY = 2**14  # of most
LOGIN_BODY = 2**12  # of what anybody may send
_PARSED_APART = 2**16  # bytes from which on a body is parsed in a thread: it takes 10 ms
_BODY_S = 20.0  # longest time for a body to arrive
_JSON = re.compile(r'application/json(\s*;\s*charset="?utf-8"?)?', re.IGNORECASE)


class Access(IntEnum):
    """What a caller must be; each may do what those before may."""

    OPEN = 0  # anybody
    VIEW = 1  # logged in, or anybody where ``anonymous`` is set
    OPERATOR = 2
    ENGINEER = 3


class _Id(IntegerConvertor):
    regex = "[0-9]{1,15}"  # Python converts no text of thousands of digits


register_url_convertor("id", _Id())


@dataclass(frozen=True, slots=True)
class Call:
    """A request that was admitted.

    Attributes:
        request: as Starlette has it
        session: of the user who calls; None for nobody
    """

    request: Request
    session: Session | None

    @property
    def context(self) -> Context:
        """What the routes share."""
        return context_of(self.request)

    @property
    def path(self) -> dict[str, Any]:
        """Values of the path's variables."""
        return self.request.path_params

    @property
    def user(self) -> str:
        """Name of the user. Raises ``Refused`` if nobody is logged in."""
        if self.session is None:
            raise login_needed()
        return self.session.user.name

    @property
    def is_engineer(self) -> bool:
        """Whether an engineer calls."""
        return self.session is not None and self.session.user.role == "engineer"

    @property
    def address(self) -> str:
        """Network address of the caller."""
        return self.request.client.host if self.request.client else "unknown"

    def goes_on(self) -> bool:
        """Whether the caller may still see what was admitted: for answers that take long."""
        if self.session is None:
            return self.context.hmi.anonymous
        return self.context.sessions.is_current(self.session)


class ApiRoute(Route):
    """A route with the access that it needs, see ``get`` and ``post``.

    Attributes:
        needs: the least access
        form: of the query or the body; None where nothing is taken
        largest: bytes that a body may have
        renews: whether a call counts as use of the session
    """

    def __init__(
        self,
        method: str,
        path: str,
        needs: Access,
        handler: Callable[..., Any],
        form: type | None,
        renews: bool,
        largest: int = SHORT_BODY,
    ) -> None:
        self.needs, self.form, self.renews, self._handler = needs, form, renews, handler
        self.largest = largest
        super().__init__(path, self._answer, methods=[method])

    async def _answer(self, request: Request) -> Response:
        call = Call(request, self._admitted(request))
        form = [] if self.form is None else [await self._form(self.form, request)]
        if iscoroutinefunction(self._handler):
            answer = await self._handler(call, *form)
        else:
            answer = await run_in_threadpool(self._handler, call, *form)
        return answer if isinstance(answer, Response) else JSONResponse(answer)

    def _admitted(self, request: Request) -> Session | None:
        """The session of a request that has the access. Raises ``Refused`` otherwise."""
        context = context_of(request)
        token = request.cookies.get(cookie_name(context))
        session = context.sessions.find(token, self.renews)
        _check_origin(request)
        if self.needs is Access.OPEN or (self.needs is Access.VIEW and context.hmi.anonymous):
            return session
        if session is None:
            raise login_needed()
        if Access[session.user.role.upper()] < self.needs:
            raise Refused(
                403,
                "role_needed",
                f"{session.user.name} is {session.user.role}; this needs the role "
                f"{self.needs.name.lower()}",
            )
        if request.method == "POST":
            _check_token(request, session)
        return session

    async def _form(self, kind: type, request: Request) -> Any:
        if request.method != "POST":
            return from_query(kind, request.query_params)
        content = await _body(request, self.largest)
        if len(content) < _PARSED_APART:
            return from_json(kind, content)
        return await run_in_threadpool(from_json, kind, content)


def get(
    path: str,
    needs: Access,
    handler: Callable[..., Any],
    query: type | None = None,
    renews: bool = True,
) -> ApiRoute:
    """A route that reads.

    Args:
        path: its path
        needs: the least access
        handler: takes a ``Call``, and the query where it is declared
        query: form of the query, see ``forms.from_query``
        renews: whether a call counts as use of the session. False for what the page asks for by
            itself, so that an idle user is logged out
    """
    return ApiRoute("GET", path, needs, handler, query, renews)


def post(
    path: str,
    needs: Access,
    handler: Callable[..., Any],
    form: type | None = None,
    largest: int = SHORT_BODY,
) -> ApiRoute:
    """A route that writes: it needs a session with a role and the session's token.

    Args:
        path: its path
        needs: ``Access.OPERATOR`` or ``Access.ENGINEER``
        handler: takes a ``Call``, and the form where it is declared
        form: of the body, see ``forms.from_json``
        largest: bytes that the body may have

    Raises:
        ValueError: the access needs no role
    """
    if needs < Access.OPERATOR:
        raise ValueError(f"{path}: {needs.name} is given for a route that writes, wanted a role")
    return ApiRoute("POST", path, needs, handler, form, True, largest)


def login_route(path: str, handler: Callable[..., Any], form: type) -> ApiRoute:
    """The one route that takes a body from anybody: it begins a session, and writes nothing."""
    return ApiRoute("POST", path, Access.OPEN, handler, form, False, LOGIN_BODY)


def context_of(request: Request) -> Context:
    """What the routes of the request's application share."""
    context: Context = request.app.state.context
    return context


def cookie_name(context: Context) -> str:
    """Of the session's cookie. Cookies are of a host and not of a port, where another station's
    page may be."""
    return f"rdx_fast_{context.hmi.port}"


def login_needed() -> Refused:
    """Nobody is logged in."""
    return Refused(401, "login_needed", "log in first")


def _check_origin(request: Request) -> None:
    """Refuse what another site's page asks for. Programs other than browsers state no site."""
    refusal = Refused(403, "origin", "the request comes from the page of another site")
    if request.headers.get("sec-fetch-site", "").lower() == "cross-site":
        raise refusal
    if request.method != "POST":  # whose answers no other page can read
        return
    for origin in request.headers.getlist("origin"):
        try:
            stated = urlsplit(origin).netloc.lower()
        except ValueError:
            stated = ""
        if not stated or stated != request.headers.get("host", "").lower():
            raise refusal


def _check_token(request: Request, session: Session) -> None:
    stated = request.headers.get("x-csrf-token", "").encode()
    if not hmac.compare_digest(stated, session.csrf.encode()):
        raise Refused(
            403, "csrf", "X-CSRF-Token is not that of the session: get it from /api/session"
        )


async def _body(request: Request, largest: int) -> bytes:
    if not _JSON.fullmatch(request.headers.get("content-type", "").strip()):
        raise Refused(415, "content_type", "wanted a body of the type application/json in UTF-8")
    content = bytearray()
    try:
        async with asyncio.timeout(_BODY_S):
            async for chunk in request.stream():
                content += chunk
                if len(content) > largest:
                    raise Refused(413, "too_large", f"the body exceeds {largest} bytes")
    except TimeoutError:
        raise Refused(408, "too_slow", f"the body took more than {_BODY_S:g} s") from None
    except ClientDisconnect:
        raise Refused(400, "bad_request", "the body is incomplete") from None
    return bytes(content)
