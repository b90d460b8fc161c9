"""A simulated PLC, a process of its own: ``python tests/support/simulated_plc.py --help``.

It runs a program in cycles, as a PLC does: write the controls and read the status in one request,
then decide what to write next. Each answer is a line of JSON on stdout; commands come on stdin.
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import typer
from asyncua import ua
from asyncua.client.client import Client
from asyncua.crypto.security_policies import SecurityPolicyBasic256Sha256
from pymodbus.client import ModbusTcpClient
from pymodbus.exceptions import ModbusException

from rdx_fast.station.handshake.codes import ResultCode
from rdx_fast.station.handshake.signals import Controls
from rdx_fast.station.plc.registers import (
    STATION_COUNT,
    STATION_START,
    is_set,
    value,
    write_controls,
)

PART_IDS = 0xFFFF


@dataclass(frozen=True, slots=True)
class Answer:
    """What a part was told, or ``code`` 0 for nothing: a part that the PLC rejects by itself. Times
    are of the machine's monotonic clock, in seconds; ``part`` counts from 1, its id wraps."""

    part: int
    code: int
    error: int
    inspection_id: int
    triggered: float
    answered: float


class Orders:
    """Lines of stdin, as they come: ``stop``, ``heartbeat off``, ``heartbeat on``, ``cut 0.5``,
    ``job 2``."""

    def __init__(self) -> None:
        self.heartbeat = True
        self.job = 0
        self.cut_s = 0.0
        self.stopped = False
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for line in sys.stdin:
            order, _, what = line.strip().partition(" ")
            if order == "heartbeat":
                self.heartbeat = what == "on"
            elif order == "cut":
                self.cut_s = float(what)
            elif order == "job":
                self.job = int(what)
            elif order == "stop":
                self.stopped = True


@dataclass(slots=True)
class ModbusPlc:
    """``rate``: parts a second that arrive, whether the station is ready or not; None is the next
    part as soon as it is ready. ``give_up_s``: after this a part without an answer is rejected."""

    port: int
    count: int
    rate: float | None
    give_up_s: float = 2.0
    scan_s: float = 0.002
    orders: Orders = field(default_factory=Orders)
    _controls: Controls = field(default_factory=Controls)
    _waiting: dict[int, tuple[int, float]] = field(default_factory=dict)
    _next: int = 1
    _cut: bool = False

    def run(self) -> Iterator[Answer]:
        client = self._connect()
        begin = time.monotonic()
        self._controls = Controls(enable=True, heartbeat=1)
        self._scan(client)
        while (self._next <= self.count and not self.orders.stopped) or self._waiting:
            if self.orders.cut_s:
                client.close()
                time.sleep(self.orders.cut_s)
                self.orders.cut_s, self._cut = 0.0, True
            if self.orders.heartbeat:
                beat = self._controls.heartbeat % PART_IDS + 1
                self._controls = replace(self._controls, heartbeat=beat)
            self._controls = replace(self._controls, job=self.orders.job)
            try:
                words = self._scan(client)
            except (ModbusException, OSError):
                self._cut = True
                client.close()
                time.sleep(0.02)
                client.connect()
            else:
                now = time.monotonic()
                yield from self._think(words, now, begin)
            yield from self._give_up(time.monotonic(), begin)
            self._cut = False
            time.sleep(self.scan_s)
        client.close()

    def _connect(self) -> Any:
        client: Any = ModbusTcpClient("127.0.0.1", port=self.port, timeout=0.5, retries=0)
        if not client.connect():
            raise SystemExit(f"no station on port {self.port}")
        return client

    def _scan(self, client: Any) -> list[int]:
        answer = client.readwrite_registers(
            read_address=STATION_START,
            read_count=STATION_COUNT,
            address=0,
            values=write_controls(self._controls),
        )
        if answer.isError():
            raise ModbusException(str(answer))
        return list(answer.registers)

    def _think(self, words: list[int], now: float, begin: float) -> Iterator[Answer]:
        """One cycle: what is read decides what is written next."""
        changes: dict[str, Any] = {}
        if is_set(words, "valid") and not self._controls.ack:
            yield from self._take(words, now)
            changes["ack"] = True
        elif self._controls.ack and not is_set(words, "valid"):
            changes["ack"] = False
        if self._controls.trigger:
            # Held until it is acknowledged; where there is no room for an answer it is not.
            if is_set(words, "trigger_ack") or is_set(words, "overrun"):
                changes["trigger"] = False
        elif self._next <= self.count and not self.orders.stopped:
            if self.rate is None:
                due = is_set(words, "trigger_ready")
            else:
                due = now >= begin + (self._next - 1) / self.rate
            if due:
                part_id = (self._next - 1) % PART_IDS + 1
                changes |= {"trigger": True, "part_id": part_id}
                self._waiting[part_id] = (self._next, time.monotonic())
                self._next += 1
        self._controls = replace(self._controls, **changes)

    def _take(self, words: list[int], now: float) -> Iterator[Answer]:
        part_id = int(value(words, "part_id"))
        part, triggered = self._waiting.pop(part_id, (0, 0.0))  # 0: nobody asked, or gave up
        yield Answer(
            part=part,
            code=int(value(words, "result")),
            error=int(value(words, "error")),
            inspection_id=int(value(words, "inspection_id")),
            triggered=triggered,
            answered=now,
        )

    def _give_up(self, now: float, begin: float) -> Iterator[Answer]:
        """Parts that waited too long, and those that passed while there was no connection."""
        while self.rate and self._cut and self._next <= self.count and not self.orders.stopped:
            due = begin + (self._next - 1) / self.rate
            if now < due + 1 / self.rate:
                break
            yield Answer(self._next, 0, 0, 0, due, now)
            self._next += 1
        for part_id, (part, triggered) in list(self._waiting.items()):
            if now > triggered + self.give_up_s:
                del self._waiting[part_id]
                # A trigger that never got through must fall before the next can rise.
                if self._controls.part_id == part_id:
                    self._controls = replace(self._controls, trigger=False)
                yield Answer(part, 0, 0, 0, triggered, now)


@dataclass(slots=True)
class OpcUaPlc:
    """Starts jobs by method, takes results as events and acknowledges them; or with ``watch`` only
    listens to events until it is stopped."""

    port: int
    count: int
    user: tuple[str, str]
    folder: Path
    watch: bool = False
    orders: Orders = field(default_factory=Orders)

    async def run(self) -> None:
        client = Client(f"opc.tcp://127.0.0.1:{self.port}/rdx_fast/station")
        client.set_user(self.user[0])
        client.set_password(self.user[1])
        await client.set_security(
            SecurityPolicyBasic256Sha256,
            certificate=str(self.folder / "station-certificate.der"),
            private_key=str(self.folder / "station-key.pem"),
        )
        events: asyncio.Queue[Any] = asyncio.Queue()

        class Handler:
            def event_notification(self, event: Any) -> None:
                events.put_nowait((time.monotonic(), event))

        async with client:
            space = await client.get_namespace_index("urn:rdx_fast:station")

            def path(*names: str) -> list[str]:
                return [f"{space}:{name}" for name in names]

            system = await client.nodes.objects.get_child(path("VisionSystem"))
            kind = await client.nodes.base_event_type.get_child(path("ResultReadyEventType"))
            subscription = await client.create_subscription(1, Handler())
            await subscription.subscribe_events(evtypes=kind, queuesize=1000)
            print(json.dumps({"ready": True}), flush=True)
            if self.watch:
                while not self.orders.stopped or not events.empty():
                    try:
                        now, event = await asyncio.wait_for(events.get(), 0.2)
                    except TimeoutError:
                        continue
                    self._tell(event.ResultId, 0.0, now, event)
                return
            automatic = await system.get_child(
                path("VisionStateMachine", "AutomaticModeStateMachine")
            )
            start = await automatic.get_child(path("StartSingleJob"))
            management = await system.get_child(path("ResultManagement"))
            acknowledge = await management.get_child(path("AcknowledgeResult"))
            for part in range(1, self.count + 1):
                begin = time.monotonic()
                numbers = [ua.Variant(n, ua.VariantType.UInt16) for n in (part, 0, 0)]
                result_id, error = await automatic.call_method(start.nodeid, *numbers)
                assert error == 0, error
                while True:
                    now, event = await asyncio.wait_for(events.get(), 5)
                    if event.ResultId == result_id:
                        break
                self._tell(part, begin, now, event)
                done = ua.Variant(result_id, ua.VariantType.UInt32)
                assert await management.call_method(acknowledge.nodeid, done) == 0

    def _tell(self, part: int, begin: float, now: float, event: Any) -> None:
        answer = Answer(
            part=part,
            code=int(ResultCode[event.Verdict]),
            error=event.ErrorCode,
            inspection_id=event.ResultId,
            triggered=begin,
            answered=now,
        )
        print(json.dumps(asdict(answer)), flush=True)


def main(
    port: int,
    count: Annotated[int, typer.Option(min=0)] = 100,
    rate: Annotated[float | None, typer.Option(help="Parts a second; as fast as it goes.")] = None,
    give_up: Annotated[float, typer.Option(help="Seconds that a part waits for its answer.")] = 2.0,
    opcua: Annotated[
        Path | None, typer.Option(help="Speak OPC UA; folder of the station's certificate.")
    ] = None,
    user: Annotated[tuple[str, str], typer.Option(help="Of OPC UA.")] = ("plc", "plc"),
    watch: Annotated[bool, typer.Option(help="OPC UA: only listen to events.")] = False,
) -> None:
    """Drive a station on this machine."""
    if opcua is not None:
        asyncio.run(OpcUaPlc(port, count, user, opcua, watch).run())
        return
    for answer in ModbusPlc(port, count, rate, give_up).run():
        print(json.dumps(asdict(answer)), flush=True)


if __name__ == "__main__":
    typer.run(main)
