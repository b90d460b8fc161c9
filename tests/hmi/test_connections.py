"""Connections on which nothing is asked or taken end, so that others are served."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import uvicorn
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send
from uvicorn.server import ServerState

from rdx_fast.hmi.connections import Connection

HEAD = b"GET / HTTP/1.1\r\nHost: localhost\r\n"
Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rdx_fast.hmi.connections._LOOK_S", 0.02)
    monkeypatch.setattr(Connection, "HEAD_S", 0.2)
    monkeypatch.setattr(Connection, "STALL_S", 0.2)


@asynccontextmanager
async def serving(answer: float | bytes) -> AsyncIterator[int]:
    """A server on the port that is yielded, which answers after so many seconds, or without end."""

    async def endless() -> AsyncIterator[bytes]:
        while isinstance(answer, bytes):
            await asyncio.sleep(0)  # as reading a file does
            yield answer

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if isinstance(answer, float):
            await asyncio.sleep(answer)
        await StreamingResponse(endless())(scope, receive, send)

    config = uvicorn.Config(app, http=Connection, log_config=None)
    config.load()
    state = ServerState()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(config, state, {}), "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]
        for connection in list(state.connections):
            connection.transport.abort()
        await asyncio.gather(*state.tasks, return_exceptions=True)


async def connect(port: int, sent: bytes = b"") -> Stream:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
    writer.write(sent)
    return reader, writer


async def rest(stream: Stream) -> bytes:
    """What comes until the server ends the connection."""
    try:
        return await asyncio.wait_for(stream[0].read(), 20)
    except ConnectionResetError:
        return b""
    finally:
        stream[1].close()


def test_connections_without_a_whole_request_end() -> None:
    async def run() -> None:
        async with serving(0.0) as port:
            silent, slow = await connect(port), await connect(port, HEAD)
            used = await connect(port, HEAD + b"\r\n")
            assert await rest(silent) == await rest(slow) == b""
            assert (await rest(used)).startswith(b"HTTP/1.1 200")

    asyncio.run(run())


def test_an_answer_may_take_its_time() -> None:
    async def run() -> None:
        async with serving(0.5) as port:
            asked = await connect(port, HEAD + b"Connection: close\r\n\r\n")
            assert (await rest(asked)).startswith(b"HTTP/1.1 200")

    asyncio.run(run())


def test_of_one_address_only_some_connections_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Connection, "HEAD_S", 60.0)

    async def run() -> None:
        async with serving(0.0) as port:
            streams = [await connect(port) for _ in range(Connection.WAITING + 5)]
            asked = await connect(port, HEAD + b"Connection: close\r\n\r\n")
            assert (await rest(asked)).startswith(b"HTTP/1.1 200")
            assert [await rest(of) for of in streams[:5]] == [b""] * 5, "the longest there"
            assert not any(reader.at_eof() for reader, _ in streams[6:])
            for _, writer in streams:
                writer.close()

    asyncio.run(run())


def test_who_takes_nothing_of_an_answer_is_cut_off() -> None:
    async def run() -> None:
        async with serving(bytes(100_000)) as port:
            reader, _ = stalled = await connect(port, HEAD + b"\r\n")
            await reader.readline()
            await asyncio.sleep(0.6)
            # The buffers of both ends, and no more.
            assert len(await rest(stalled)) < 50_000_000
            reading, _ = taking = await connect(port, HEAD + b"\r\n")
            for _ in range(15):
                await reading.readexactly(1_000_000)
                await asyncio.sleep(0.02)
            taking[1].close()

    asyncio.run(run())
