"""The product's programs in a folder with a ``station.toml``: commands, station, page; a PLC."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rdx_fast.station.config import read_station
from rdx_fast.station.status_client import StatusClient, StatusError
from support.line_processes import PlcProcess

PROGRAM = Path(sys.executable).with_name("rdx-fast")
LONGEST_S = 600


def wait_for_station(folder: Path) -> None:
    client = StatusClient(folder / "station.socket")
    end = time.monotonic() + 60
    while True:
        try:
            if client.status()["online"]:
                return
        except StatusError:
            if time.monotonic() > end:
                raise
        time.sleep(0.1)


def run(folder: Path, *command: object) -> None:
    """A command of the product, in the folder."""
    subprocess.run([PROGRAM, *map(str, command)], cwd=folder, check=True, timeout=LONGEST_S)


@contextmanager
def running(folder: Path, *command: object) -> Iterator[subprocess.Popen[bytes]]:
    """A program of the product that runs until the end of the body, and then ends by itself."""
    log = folder / f"{command[0]}.log"
    with log.open("w") as stream:
        process = subprocess.Popen([PROGRAM, *map(str, command)], cwd=folder, stderr=stream)
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            code = process.wait(30)
    assert code == 0, log.read_text()[-2000:]


def drive(folder: Path, count: int, rate: float | None = None) -> None:
    """The PLC has so many parts inspected."""
    modbus = read_station(folder / "station.toml").modbus
    assert modbus is not None
    paced = () if rate is None else ("--rate", rate)
    with PlcProcess(modbus.port, "--count", count, "--give-up", 10, *paced) as plc:
        plc.wait_for(lambda: plc.process.poll() is not None, LONGEST_S)
        plc.stop()
        # Part 0 is a result that a PLC before this one had not acknowledged when it ended.
        assert sum(answer.part > 0 for answer in plc.answers) == count
