"""Connections of browsers: those on which nothing is asked or taken are closed."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from rdx_fast.hmi.sessions import network_of

_LOOK_S = 2.0  # time between two looks at a connection


class Connection(H11Protocol):
    """HTTP on one connection, which ends if its peer is too slow.

    A connection waits while no request has wholly arrived on it. Of one address, and of all, only
    so many may wait: a further one ends the one that has waited longest.
    """

    HEAD_S = 10.0  # longest wait for the head of a request
    STALL_S = 60.0  # longest time in which nothing of an answer is taken
    WAITING, WAITING_IN_ALL = 20, 400

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._network = network_of(self.client[0] if self.client else "")
        self._waits_since = self._taken_at = self.loop.time()
        self._left = 0  # bytes of an answer that were not taken at the last look
        self._looking = self.loop.call_later(_LOOK_S, self._look)
        waiting = [of for of in self.connections if isinstance(of, Connection) and of.waits]
        own = [of for of in waiting if of._network == self._network]
        for found, most in ((own, self.WAITING), (waiting, self.WAITING_IN_ALL)):
            if len(found) > most:
                min(found, key=lambda of: of._waits_since).transport.abort()
                return

    def connection_lost(self, exc: Exception | None) -> None:
        self._looking.cancel()
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        self._waits_since = self.loop.time()
        super().on_response_complete()

    def resume_writing(self) -> None:
        self._taken_at = self.loop.time()
        super().resume_writing()

    @property
    def is_idle(self) -> bool:
        """Whether there is no request."""
        return self.cycle is None or self.cycle.response_complete

    @property
    def waits(self) -> bool:
        """Whether there is no request, or its body has not wholly arrived."""
        return self.is_idle or self.cycle.more_body

    def _look(self) -> None:
        now, left = self.loop.time(), self.transport.get_write_buffer_size()
        if left == 0 or left < self._left:
            self._taken_at = now
        self._left = left
        late = self.is_idle and left == 0 and now - self._waits_since >= self.HEAD_S
        if now - self._taken_at >= self.STALL_S or (late and self.transport.is_closing()):
            self.transport.abort()
            return
        if late:
            self.transport.close()  # TLS says goodbye, and is given one more look for it
        self._looking = self.loop.call_later(_LOOK_S, self._look)


class Loop(asyncio.SelectorEventLoop):
    """Gives a peer as long for the handshake of TLS as for the head of a request."""

    async def create_server(self, *given: Any, **named: Any) -> asyncio.Server:
        if named.get("ssl") is not None:
            named["ssl_handshake_timeout"] = Connection.HEAD_S
        return await super().create_server(*given, **named)
