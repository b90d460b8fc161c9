"""Faults, one by one and in pairs, while parts flow, from a checkout:
``PYTHONPATH=tests python -m support.line_faults --help``."""

from __future__ import annotations

import itertools
import random
import shutil
import socket
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from rdx_fast.bench.result_rows import append, facts
from rdx_fast.station.handshake.codes import ErrorCode, ResultCode
from rdx_fast.station.records.read import read_records
from support.line_processes import PlcProcess, StationProcess, configure
from support.simulated_plc import Answer

RULES = {"deadline_ms": 250, "watchdog_ms": 400, "hang_ms": 600}
RATE = 5.0


@dataclass(frozen=True, slots=True)
class Fault:
    """``errors``: codes that parts in flight may be answered with; ``inspects``: whether parts are
    still inspected, so that they may be OK; ``silent``: whether parts may go without an answer."""

    name: str
    errors: frozenset[ErrorCode]
    inspects: bool = False
    silent: bool = False


_LATE, _MISSED = ErrorCode.DEADLINE, ErrorCode.MISSED_TRIGGER
_LINK = ErrorCode.LINK_LOST
KILLED = "process killed and restarted"
FAULTS = (
    Fault("PLC connection cut and back", frozenset({_LINK}), inspects=True, silent=True),
    Fault("PLC heartbeat stops", frozenset({_LINK}), inspects=True),
    Fault("camera stalls", frozenset({ErrorCode.CAMERA_TIMEOUT})),
    Fault("frame truncated", frozenset({ErrorCode.FRAME_BAD})),
    Fault("engine raises", frozenset({ErrorCode.ENGINE})),
    Fault("engine hangs", frozenset({_LATE, _MISSED})),
    Fault("record disk full", frozenset(), inspects=True),
    Fault(KILLED, frozenset(), inspects=True, silent=True),
    Fault("clock stepped back an hour", frozenset(), inspects=True),
    Fault("50 malformed frames a second", frozenset(), inspects=True),
    Fault("job changed to a missing bundle", frozenset({ErrorCode.JOB_BROKEN})),
)


class Line:
    """A station and a PLC with parts flowing between them, and everything that can go wrong.
    ``give_up_s``: after this the PLC rejects a part by itself, and heeds no later answer."""

    def __init__(self, folder: Path, bundle: Path, frames: Path, give_up_s: float = 0.6) -> None:
        self._give_up_s = give_up_s
        self._second = folder / "second.rdx"
        shutil.copytree(bundle, self._second)
        configuration, ports = configure(
            folder, {1: bundle, 2: self._second}, frames, RULES, opcua=True
        )
        self.records = folder / "records.sqlite"
        self._port = ports["modbus"]
        self.station = StationProcess(configuration)
        options = ("--count", 60_000, "--rate", RATE, "--give-up", give_up_s)
        self.plc = PlcProcess(self._port, *options)
        self._malformed = threading.Event()

    @contextmanager
    def running(self) -> Iterator[Line]:
        with self.station, self.plc:
            self.plc.wait_for(lambda: self._passed_since(0.0), 20)
            yield self
            self.plc.order("stop")
            self.plc.wait_for(lambda: self.plc.process.poll() is not None, 10)
            self.station.stop()

    def begin(self, fault: str) -> None:
        match fault:
            case "PLC connection cut and back":
                self.plc.order("cut 0.8")
            case "PLC heartbeat stops":
                self.plc.order("heartbeat off")
            case _ if fault == KILLED:
                self.station.kill()
            case "50 malformed frames a second":
                self._malformed.clear()
                threading.Thread(target=self._send_malformed, daemon=True).start()
            case "job changed to a missing bundle":
                self._second.rename(self._second.with_suffix(".gone"))
                self.plc.order("job 2")
            case _:
                self._order(f"begin {fault}")

    def end(self, fault: str) -> None:
        match fault:
            case "PLC connection cut and back":
                pass  # it is back by itself
            case "PLC heartbeat stops":
                self.plc.order("heartbeat on")
            case _ if fault == KILLED:
                self.station.start()
            case "50 malformed frames a second":
                self._malformed.set()
            case "job changed to a missing bundle":
                self.plc.order("job 1")
                time.sleep(0.1)
                self._second.with_suffix(".gone").rename(self._second)
            case _:
                self._order(f"end {fault}")

    def _order(self, text: str) -> None:
        if (
            self.station.process.poll() is None
        ):  # a station that was killed has forgotten its faults
            self.station.order(text)

    def _send_malformed(self) -> None:
        rng = random.Random(0)
        while not self._malformed.wait(0.02):
            try:
                with socket.create_connection(("127.0.0.1", self._port), 1) as client:
                    client.sendall(rng.randbytes(rng.randrange(1, 300)))
            except OSError:
                pass  # refused while the station is down

    def _passed_since(self, time_s: float) -> list[Answer]:
        return [
            a
            for a in self.plc.answers
            if a.code == ResultCode.OK and a.triggered > max(time_s, 0.1)
        ]

    def suffer(self, *faults: Fault, lasting_s: float = 1.0) -> dict[str, Any]:
        """Begin the faults, end them, and wait until a part passes again. Returns what became of
        the parts between."""
        begun = time.monotonic()
        for fault in sorted(faults, key=lambda fault: fault.name == KILLED):
            self.begin(fault.name)
        time.sleep(lasting_s)
        for fault in faults:
            self.end(fault.name)
        ended = time.monotonic()
        self.plc.wait_for(lambda: self._passed_since(ended), 20)
        recovered = min(a.answered for a in self._passed_since(ended))
        # Parts of that time may still be waited for.
        time.sleep(max(0.0, ended + self._give_up_s + 0.2 - time.monotonic()))
        answers = [a for a in self.plc.answers if begun <= a.triggered < ended]
        codes = Counter(ResultCode(a.code).name for a in answers)
        errors = Counter(ErrorCode(a.error).name for a in answers if a.error)
        return {
            "faults": [fault.name for fault in faults],
            "parts": len(answers),
            "results": dict(codes),
            "errors": dict(errors),
            "recovered_s": round(recovered - ended, 3),
        }

    def check(self) -> dict[str, int]:
        """After the end: every part answered once or given up, every OK really inspected, every
        answer on record. Raises ``AssertionError``."""
        answers = self.plc.answers
        parts = Counter(a.part for a in answers if a.part)
        assert set(parts.values()) == {1}, "a part was answered twice"
        assert sorted(parts) == list(range(1, len(parts) + 1)), "a part is missing"
        scored = self.station.scored
        on_record = {r.inspection_id: r for r in read_records(self.records)}
        for answer in answers:
            if answer.part and answer.code == ResultCode.OK:
                inspected = [t for t in scored if answer.triggered < t < answer.answered]
                assert inspected, f"part {answer.part}: OK, and no frame was scored"
            if answer.code:
                row = on_record[answer.inspection_id]
                assert row.result == ResultCode(answer.code).name
                assert not answer.part or row.part_id == answer.part
        return {"parts": len(parts), "records": len(on_record)}


def unexpected(row: dict[str, Any], faults: tuple[Fault, ...]) -> list[str]:
    """What a row has that its faults do not explain."""
    # What one fault or a busy machine holds up is late, and the next part then comes too early.
    allowed = {e.name for fault in faults for e in (*fault.errors, _LATE, _MISSED)}
    if len(faults) > 1:
        allowed.add(_LINK.name)
    wrong = [name for name in row["errors"] if name not in allowed]
    if "NONE" in row["results"] and not any(fault.silent for fault in faults):
        wrong.append("parts without an answer")
    # A station that was killed comes back without its other faults. Else only the part that was
    # being inspected at the beginning may have got its verdict.
    inspects = all(f.inspects for f in faults) or any(f.name == KILLED for f in faults)
    if not inspects and row["results"].get("OK", 0) > 1:
        wrong.append("OK")
    return wrong


def main(
    bundle: Path,
    frames: Annotated[Path, typer.Option(help="Folder of photographs that pass.")],
    pairs: Annotated[int, typer.Option(min=0, help="Random pairs of faults.")] = 10,
    seed: int = 0,
    output: Annotated[Path | None, typer.Option(help="File of JSON lines to append to.")] = None,
) -> None:
    """Inject each fault, then random pairs, and say what the PLC was told meanwhile."""
    every = list(itertools.combinations(FAULTS, 2))
    chosen = [(fault,) for fault in FAULTS] + random.Random(seed).sample(every, pairs)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        line = Line(Path(folder), bundle, frames)
        with line.running():
            for faults in chosen:
                row = line.suffer(*faults)
                if wrong := unexpected(row, faults):
                    raise SystemExit(f"{row}: unexpected: {wrong}")
                print(row)
                rows.append(row)
        totals = line.check()
    print(totals)
    if output is not None:
        common = facts("line_faults", ("openvino", "pymodbus", "asyncua"))
        common |= {"rules": RULES, "rate": RATE, **totals}
        append(output, (common | row for row in rows))


if __name__ == "__main__":
    typer.run(main)
