"""Malformed messages by the thousand, from a checkout:
``PYTHONPATH=tests python -m support.line_fuzz --help``."""

from __future__ import annotations

import asyncio
import random
import select
import socket
import struct
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from asyncua.client.client import Client

from rdx_fast.bench.result_rows import append, facts
from rdx_fast.station import run
from rdx_fast.station.config import read_station
from rdx_fast.station.handshake.signals import Controls, Status
from rdx_fast.station.interfaces import OpcUaConfig
from rdx_fast.station.logs import log_json
from rdx_fast.station.plc.registers import PLC_COUNT, STATION_START, TOTAL
from rdx_fast.station.station import Station
from support.line_processes import configure

_A_CONNECTION = 50  # messages sent before the next connection is made
LOCALHOST = "127.0.0.1"


def modbus_message(rng: random.Random) -> bytes:
    """A frame: noise, a real one with bytes changed or cut off, or one of a function that is
    forbidden, of registers that are not there, or with controls that make no sense."""
    function = rng.choice((1, 3, 4, 5, 6, 15, 16, 22, 23, 43, 8, 20, rng.randrange(256)))
    address = rng.choice((0, 1, PLC_COUNT, STATION_START, TOTAL, rng.randrange(0x10000)))
    body = struct.pack(">BHH", function, address, rng.choice((1, 2, 5, 32, rng.randrange(0x10000))))
    if function in (15, 16, 23):
        body += bytes((rng.choice((2, 10, rng.randrange(256))),)) + rng.randbytes(10)
    frame = bytearray(struct.pack(">HHHB", rng.randrange(0x10000), 0, len(body) + 1, 1) + body)
    kind = rng.randrange(5)
    if kind == 0:
        return rng.randbytes(rng.randrange(1, 300))
    if kind == 1:
        for _ in range(rng.randrange(1, 4)):
            frame[rng.randrange(len(frame))] = rng.randrange(256)
    if kind == 2:
        return bytes(frame[: rng.randrange(1, len(frame))])
    if kind == 3:
        frame[4:6] = struct.pack(">H", rng.randrange(0x10000))  # a length that is not its own
    return bytes(frame)


def mutated(messages: list[bytes], rng: random.Random) -> bytes:
    """A recorded message with bytes changed, cut off, or another length; or noise."""
    message = bytearray(rng.choice(messages))
    kind = rng.randrange(5)
    if kind == 0:
        return rng.randbytes(rng.randrange(1, 300))
    if kind == 1:
        return bytes(message[: rng.randrange(1, len(message))])
    if kind == 2 and len(message) >= 8:
        message[4:8] = struct.pack("<I", rng.choice((0, 8, rng.randrange(2**32))))
        return bytes(message)
    for _ in range(rng.randrange(1, 6)):
        message[rng.randrange(len(message))] = rng.randrange(256)
    return bytes(message)


def send_malformed(
    port: int, count: int, make: Callable[[], bytes], greeting: list[bytes] | None = None
) -> int:
    """Send so many messages over many connections; the server may close any. Returns how many."""
    sent = 0
    while sent < count:
        with suppress(OSError), socket.create_connection((LOCALHOST, port), 5) as client:
            for message in greeting or ():
                client.sendall(message)
                client.recv(65536)
            for _ in range(min(_A_CONNECTION, count - sent)):
                client.sendall(make())
                sent += 1
                # A moment for the answer, so that messages are not taken for one.
                readable, _, _ = select.select([client], [], [], 0.002)
                if readable and not client.recv(65536):
                    break
    return sent


def record_opcua(port: int) -> list[bytes]:
    """The messages of a real client that connects, reads and calls, through a proxy."""
    messages: list[bytes] = []
    listener = socket.create_server((LOCALHOST, 0))

    def pass_on(source: socket.socket, sink: socket.socket, keep: bool) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                if keep:
                    messages.append(data)
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)

    def serve() -> None:
        with suppress(OSError):
            while True:
                near, _ = listener.accept()
                far = socket.create_connection((LOCALHOST, port))
                for ends in ((near, far, True), (far, near, False)):
                    threading.Thread(target=pass_on, args=ends, daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()

    async def visit() -> None:
        address = f"opc.tcp://{LOCALHOST}:{listener.getsockname()[1]}/rdx_fast/station"
        async with Client(address) as client:
            await client.nodes.objects.get_children()
            space = await client.get_namespace_index("urn:rdx_fast:station")
            system = await client.nodes.objects.get_child([f"{space}:VisionSystem"])
            machine = await system.get_child([f"{space}:VisionStateMachine"])
            await machine.call_method(f"{space}:Reset")
            await client.create_subscription(100, _Deaf())

    asyncio.run(visit())
    listener.close()
    return messages


class _Deaf:
    def datachange_notification(self, *_: object) -> None:
        pass


class Watch:
    """Sees every status that the station publishes, and keeps what should not be."""

    def __init__(self) -> None:
        self.broken: list[str] = []
        self.count = 0
        self._last = Status()

    def __call__(self, status: Status) -> None:
        self.count += 1
        if status.ok and status.ng:
            self.broken.append("OK and NG")
        if status.valid and not self._last.valid and self._last.result != status.result:
            self.broken.append("valid before its data")
        if status.ok and (status.outcome is None or status.outcome.error):
            self.broken.append("OK with an error")
        self._last = status


@contextmanager
def fuzzed_station(
    folder: Path, bundle: Path, frames: Path
) -> Iterator[tuple[Station, dict[str, int], Watch]]:
    """A station whose OPC UA lets anybody in, so that messages come as deep as they can."""
    configuration, _ = configure(folder, {1: bundle}, frames, {"watchdog_ms": 0}, opcua=True)
    file = read_station(configuration)
    assert file.opcua is not None
    open_to_all: OpcUaConfig = replace(file.opcua, anonymous=True)
    watch = Watch()
    with run.running(replace(file, opcua=open_to_all), on_status=watch) as online:
        yield online.station, online.ports, watch


def fuzz(
    station: Station, ports: dict[str, int], count: int, seed: int, tell: Callable[[Any], None]
) -> None:
    """Half of the messages over each protocol, at once."""
    rng = random.Random(seed)
    recorded = record_opcua(ports["opcua"])
    tell(f"{len(recorded)} messages of a real OPC UA client recorded")
    others = random.Random(seed + 1)
    jobs = (
        (ports["modbus"], count // 2, lambda: modbus_message(rng), None),
        (ports["opcua"], count // 2, lambda: mutated(recorded, others), recorded[:1]),
    )
    threads = [threading.Thread(target=send_malformed, args=job) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def main(
    bundle: Path,
    frames: Annotated[Path, typer.Option(help="Folder of photographs.")],
    count: Annotated[int, typer.Option(min=2)] = 100_000,
    seed: int = 0,
    output: Annotated[Path | None, typer.Option(help="File of JSON lines to append to.")] = None,
) -> None:
    """Send malformed Modbus and OPC UA messages, and see whether the station minds."""
    log_json("CRITICAL")
    with (
        tempfile.TemporaryDirectory() as folder,
        fuzzed_station(Path(folder), bundle, frames) as (station, ports, watch),
    ):
        fuzz(station, ports, count, seed, print)
        station.reset()
        row = {
            "messages": count,
            "states_published": watch.count,
            "broken": watch.broken,
            **after(station),
        }
    print(row)
    if output is not None:
        append(output, [{**facts("line_fuzz", ("pymodbus", "asyncua")), **row}])


def after(station: Station) -> dict[str, Any]:
    """Whether the station still does its work, with the controls as a PLC leaves them."""
    station.write(Controls())
    while station.status.waiting or station.status.valid:
        station.acknowledge()
    status = station.status
    begun = status.counts.passed + status.counts.rejected
    station.select_job(1)
    record = station.inspect(1, deadline_ms=60_000)
    return {"alive": status.online, "inspected_before": begun, "then": record.result}


if __name__ == "__main__":
    typer.run(main)
