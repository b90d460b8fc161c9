"""A server whose asyncio event loop runs in a separate thread."""

from __future__ import annotations

import asyncio
import threading
from abc import ABC, abstractmethod
from typing import Self

from rdx_fast.station.station import StationError


class ServerThread(ABC):
    """A server with an event loop in its own thread; the station itself has none.

    A context manager: the server listens inside the ``with``.

    Args:
        name: name of the protocol, for messages
        address: IP address to listen on
        port: TCP port to listen on

    Raises:
        StationError: on entry, if the server cannot listen
    """

    def __init__(self, name: str, address: str, port: int) -> None:
        self._name, self._where = name, f"{address}:{port}"
        self._loop = asyncio.new_event_loop()
        self._opened = threading.Event()
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    @abstractmethod
    async def _open(self) -> None:
        """Start listening."""

    @abstractmethod
    async def _close(self) -> None:
        """Stop listening and close all connections."""

    def __enter__(self) -> Self:
        self._thread.start()
        self._opened.wait()
        if self._failure is not None:
            self._thread.join()
            raise StationError(
                f"{self._name} cannot listen on {self._where}: {self._failure}: free the port, or "
                f"choose another address or port in the configuration"
            ) from self._failure
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._open())
        except Exception as error:  # raised in the thread that waits
            self._failure = error
        self._opened.set()
        if self._failure is None:
            self._loop.run_forever()
            pending = asyncio.all_tasks(self._loop)
            for task in pending:
                task.cancel()
            self._loop.run_until_complete(asyncio.gather(*pending, return_exceptions=True))
        self._loop.close()
