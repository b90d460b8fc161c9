"""Browsers at the live view of the page without their drawing, a process of its own:
``python -m support.page_clients ADDRESS``.

Each asks what a browser asks: the stream of events, and of the newest part details, frame and heat
map, at most twice a second. ``open`` and ``close`` come on stdin; a line of JSON tells when each is
done.
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from typing import Annotated, Any

import httpx
import typer

PICTURE_S = 0.5  # as in live.js
WIDTH = 960


class Client:
    """One browser at ``address``, with the live view open until it is closed."""

    def __init__(self, address: str) -> None:
        self._http = httpx.AsyncClient(base_url=address, timeout=30)
        self._newest: dict[str, Any] | None = None
        self._come = asyncio.Event()
        self.pictures = 0
        self.begun = asyncio.Event()

    async def run(self) -> None:
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._listen())
                tasks.create_task(self._look())
        finally:
            await self._http.aclose()

    async def _listen(self) -> None:
        async with self._http.stream("GET", "/api/live", timeout=None) as stream:
            stream.raise_for_status()
            event = ""
            async for line in stream.aiter_lines():
                name, _, value = line.partition(": ")
                if name == "event":
                    event = value
                elif name == "data":
                    told = json.loads(value)
                    self.begun.set()
                    parts = told["recent"][:1] if event == "snapshot" else told
                    if event in ("snapshot", "parts") and parts:
                        self._newest = parts[-1]
                        self._come.set()
                        await self._strip(parts)

    async def _strip(self, parts: list[dict[str, Any]]) -> None:
        """The small pictures of rejected parts."""
        for part in parts:
            if part["result"] in ("NG", "REVIEW") and part["has_frame"]:
                await self._http.get(f"/api/parts/{part['inspection_id']}/frame?width=240")

    async def _look(self) -> None:
        while True:
            await self._come.wait()
            self._come.clear()
            assert self._newest is not None
            path = f"/api/parts/{self._newest['inspection_id']}"
            detail = (await self._http.get(path)).json()["part"]
            asked = [f"{path}/frame?width={WIDTH}"] if detail["has_frame"] else []
            asked += [f"{path}/map"] if asked and detail["has_map"] else []
            answers = await asyncio.gather(*map(self._http.get, asked))
            self.pictures += sum(answer.status_code == 200 for answer in answers)
            await asyncio.sleep(PICTURE_S)


async def serve(address: str, count: int) -> None:
    orders: asyncio.Queue[str] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    def read() -> None:
        for line in sys.stdin:
            loop.call_soon_threadsafe(orders.put_nowait, line.strip())
        loop.call_soon_threadsafe(orders.put_nowait, "end")

    threading.Thread(target=read, daemon=True).start()
    clients: list[Client] = []
    running: list[asyncio.Task[None]] = []
    while (order := await orders.get()) != "end":
        if order == "open":
            clients = [Client(address) for _ in range(count)]
            running = [asyncio.create_task(client.run()) for client in clients]
            for client in clients:
                await client.begun.wait()
        else:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
        pictures = sum(client.pictures for client in clients)
        print(json.dumps({order: len(clients), "pictures": pictures}), flush=True)


def main(address: str, count: Annotated[int, typer.Option(min=1)] = 5) -> None:
    asyncio.run(serve(address, count))


if __name__ == "__main__":
    typer.run(main)
