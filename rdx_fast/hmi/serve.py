"""Serves the page over HTTP or HTTPS, until the process is told to end."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import uvicorn
from starlette.applications import Starlette

from rdx_fast.hmi.app import create_app
from rdx_fast.hmi.connections import Connection, Loop
from rdx_fast.hmi.context import Context
from rdx_fast.hmi.page_texts import read_texts
from rdx_fast.hmi.users import Users, UsersError
from rdx_fast.station.config import ConfigError, StationFile
from rdx_fast.station.hmi_config import HmiConfig

_NICE = 10  # the station goes first, and this still gets the time to end what the station waits for
_GRACE_S = 2  # for answers in flight at the end
_CUT_OFF_S = 1.5  # until connections end on which an answer is still being sent


def serve(file: StationFile, name: str, on_start: Callable[[str], None]) -> None:
    """Serve the page of a station until Ctrl-C or SIGTERM.

    Args:
        file: the configuration
        name: of the station, shown on the page
        on_start: called with the page's address once connections are accepted

    Raises:
        ConfigError: there is no table ``[hmi]``, the port cannot be opened, or the certificate
            cannot be used
        TextsError: further texts cannot be read
        UsersError: nobody could log in or see anything
    """
    app = create_app(file, name)
    hmi = file.hmi
    assert hmi is not None
    read_texts(hmi.texts)  # here, where it can be told
    if not hmi.anonymous and not Users(hmi.users).all():
        raise UsersError(
            f"nobody can log in: {hmi.users} has no users: add one (rdx-fast hmi-user add NAME "
            f"--role engineer), or let everybody see the page with anonymous = true in [hmi]"
        )
    if hasattr(os, "nice"):
        os.nice(_NICE)
    with listening(hmi) as listener:
        server = make_server(app, hmi)
        on_start(page_address(hmi, listener.getsockname()[1]))
        server.run([listener])


def make_server(app: Starlette, hmi: HmiConfig) -> uvicorn.Server:
    """The server of an application, which runs when it is told to.

    Raises:
        ConfigError: the certificate cannot be used
    """
    config = uvicorn.Config(
        app,
        http=Connection,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        proxy_headers=False,  # a stated address would evade the limit of logins
        server_header=False,
        timeout_graceful_shutdown=_GRACE_S,
        ssl_certfile=hmi.certificate,
        ssl_keyfile=hmi.private_key,
    )
    try:
        config.load()
    except OSError as error:  # ssl.SSLError is one
        raise ConfigError(
            f"certificate {hmi.certificate} with private_key {hmi.private_key} of [hmi] cannot "
            f"be used: {error}"
        ) from error
    return _Server(config)


class _Server(uvicorn.Server):
    def run(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve in a loop of its own."""
        with asyncio.Runner(loop_factory=Loop) as runner:
            runner.run(self.serve(sockets))

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Ends in peace: uvicorn would send itself the signal again that it ended on."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self.handle_exit)
        yield

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Has streams of events end first, which would go on until they are cut off, and cuts off
        who takes an answer slowly."""
        app = self.config.app
        assert isinstance(app, Starlette)
        context: Context = app.state.context
        context.ending.set()
        for end in context.endings:
            end()
        asyncio.get_running_loop().call_later(_CUT_OFF_S, self._cut_off)
        await super().shutdown(sockets)

    def _cut_off(self) -> None:
        for connection in list(self.server_state.connections):
            assert isinstance(connection, Connection)
            connection.transport.abort()


def listening(hmi: HmiConfig) -> socket.socket:
    """The socket that the page listens on. Raises ``ConfigError`` if it cannot be opened."""
    family = socket.AF_INET6 if ":" in hmi.address else socket.AF_INET
    try:
        return socket.create_server((hmi.address, hmi.port), family=family)
    except OSError as error:
        raise ConfigError(
            f"the page cannot listen on {hmi.address} port {hmi.port}: {error}: free the port, or "
            f"choose another address or port in [hmi]"
        ) from error


def page_address(hmi: HmiConfig, port: int) -> str:
    """The address for a browser on this machine."""
    host = f"[{hmi.address}]" if ":" in hmi.address else hmi.address
    found = _ip(hmi.address)
    if found is not None and found.is_unspecified:  # all addresses of this machine
        host = "localhost"
    return f"{'http' if hmi.certificate is None else 'https'}://{host}:{port}/"


def sends_in_clear(hmi: HmiConfig) -> bool:
    """Whether passwords pass through a network unencrypted."""
    if hmi.certificate is not None or hmi.address == "localhost":
        return False
    found = _ip(hmi.address)
    return found is None or not found.is_loopback


def _ip(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The IP address; None for a name."""
    try:
        return ipaddress.ip_address(address)
    except ValueError:
        return None
