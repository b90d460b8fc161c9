"""A station and a PLC as processes of their own, and what they said."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from support.simulated_plc import Answer

FOLDER = Path(__file__).parent


class LineProcess:
    """A program that takes orders on stdin and tells lines of JSON on stdout, kept in ``rows``. A
    context manager; ``stop`` is what ends it."""

    def __init__(self, *command: object) -> None:
        self._command = list(map(str, command))
        self.rows: list[dict[str, Any]] = []
        self._wrong: str | None = None

    def start(self) -> None:
        self.process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            try:
                self.rows.append(json.loads(line))
            except ValueError:
                self._wrong = line
                return

    def order(self, text: str) -> None:
        assert self.process.stdin is not None
        print(text, file=self.process.stdin, flush=True)

    def wait_for(self, met: Callable[[], Any], seconds: float) -> Any:
        """What ``met`` gives, once it gives something. Raises ``TimeoutError``."""
        end = time.monotonic() + seconds
        while not (found := met()):
            if time.monotonic() > end:
                raise TimeoutError(f"{self._command}: not within {seconds} s")
            if self.process.poll() not in (None, 0):
                raise RuntimeError(f"{self._command} ended with {self.process.returncode}")
            if self._wrong is not None:
                raise RuntimeError(f"{self._command} printed what is no row: {self._wrong}")
            time.sleep(0.005)
        return found

    def stop(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(60)
        self._reader.join(10)

    def kill(self) -> None:
        """As ``kill -9`` does."""
        self.process.kill()
        self.process.wait(10)
        self._reader.join(10)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.kill()


class StationProcess(LineProcess):
    """A ``faulty_station``, online when it is started."""

    def __init__(self, configuration: Path) -> None:
        super().__init__(sys.executable, "-P", FOLDER / "faulty_station.py", configuration)

    def start(self) -> None:
        begin = len(self.rows)
        super().start()
        self.wait_for(lambda: any("ports" in row for row in self.rows[begin:]), 60)

    @property
    def scored(self) -> list[float]:
        """When a frame was really scored."""
        return [row["scored"] for row in list(self.rows) if "scored" in row]


class PlcProcess(LineProcess):
    """A ``simulated_plc``."""

    def __init__(self, *arguments: object) -> None:
        super().__init__(sys.executable, "-P", FOLDER / "simulated_plc.py", *arguments)

    @property
    def answers(self) -> list[Answer]:
        return [Answer(**row) for row in list(self.rows) if "code" in row]


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def configure(
    folder: Path,
    bundles: dict[int, Path],
    frames: Path,
    handshake: dict[str, int],
    opcua: bool = False,
) -> tuple[Path, dict[str, int]]:
    """Write a configuration. Returns it, and the ports."""
    ports = {"modbus": free_port()} | ({"opcua": free_port()} if opcua else {})
    lines = [
        "threads = 2",
        "[jobs]",
        *(f'{job} = "{path.resolve()}"' for job, path in bundles.items()),
    ]
    lines += ["[camera]", 'kind = "folder"', f'path = "{frames.resolve()}"', "timeout_ms = 150"]
    lines += ["[handshake]", *(f"{name} = {value}" for name, value in handshake.items())]
    lines += ["[modbus]", f"port = {ports['modbus']}"]
    if opcua:
        lines += ["[opcua]", f"port = {ports['opcua']}", 'users = { plc = "plc" }']
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "station.toml"
    path.write_text("\n".join(lines) + "\n")
    return path, ports
