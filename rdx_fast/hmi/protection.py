"""Around every request: the names that the page is reached by, and headers for the browser."""

from __future__ import annotations

import asyncio
import ipaddress
import re
from threading import Event

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rdx_fast.hmi.refusal import Refused
from rdx_fast.station.hmi_config import HmiConfig

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; "
        "frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
_HOST = re.compile(r"(\[[0-9a-f:.]{2,45}\]|[a-z0-9._-]{1,253})(:[0-9]{1,5})?")


class Protection:
    """Refuses requests to hosts of other names and too many at once, and adds headers to every
    answer.

    A page of another site can let its name point to this machine (DNS rebinding); the browser
    states that name as the host. An IP address as the host is no name that anybody else controls.

    Args:
        app: what is protected
        hmi: the table ``[hmi]`` with the names
        ending: set when the server is told to end; what is cut off then is no failure
    """

    AT_ONCE = 200  # requests

    def __init__(self, app: ASGIApp, hmi: HmiConfig, ending: Event) -> None:
        self._app, self._ending = app, ending
        self._running = 0
        self._names = {"localhost", hmi.address.lower(), *(host.lower() for host in hmi.hosts)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                _add(MutableHeaders(scope=message), scope["path"])
            await send(message)

        self._running += 1
        try:
            refusal = self._refusal(Headers(scope=scope))
            answer = self._app if refusal is None else refusal.response()
            await answer(scope, receive, send_with_headers)
        except asyncio.CancelledError:
            if not self._ending.is_set():
                raise
        finally:
            self._running -= 1

    def _refusal(self, headers: Headers) -> Refused | None:
        if not self._is_own(headers.getlist("host")):
            return Refused(
                400,
                "host",
                "the page is not reached by this name: add it to hosts in [hmi] of the "
                "configuration, or use the machine's IP address",
            )
        if self._running > self.AT_ONCE:
            return Refused(503, "busy", "too many requests run: try again", {"Retry-After": "1"})
        return None

    def _is_own(self, hosts: list[str]) -> bool:
        found = _HOST.fullmatch(hosts[0].lower()) if len(hosts) == 1 else None
        if found is None:
            return False
        name = found[1].strip("[]")
        return name in self._names or _is_address(name)


def protected(response: Response, path: str = "/api") -> Response:
    """An answer with the headers, for where no request passes through ``Protection``."""
    _add(response.headers, path)
    return response


def _add(headers: MutableHeaders, path: str) -> None:
    for name, value in HEADERS.items():
        headers[name] = value
    # What a user sees must not be shown to the next one; files of the page may change with it.
    headers.setdefault("Cache-Control", "no-store" if path.startswith("/api") else "no-cache")


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
