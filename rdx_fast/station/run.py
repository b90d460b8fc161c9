"""A station as its configuration describes it, with everything that it offers."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from rdx_fast.detector import Detector
from rdx_fast.station.cameras.source import FolderReplay, FrameSource, StillImage
from rdx_fast.station.config import CameraConfig, StationFile
from rdx_fast.station.jobs import Jobs, OpenDetector
from rdx_fast.station.station import OnStatus, Station

if TYPE_CHECKING:
    from rdx_fast.station.plc.modbus import ModbusServer
    from rdx_fast.station.plc.opcua import OpcUaServer
    from rdx_fast.station.prometheus import StationMetrics


@dataclass(frozen=True, slots=True)
class Running:
    """A station that is online, and the ports that it listens on, by protocol."""

    station: Station
    ports: dict[str, int]


def open_source(camera: CameraConfig) -> FrameSource:
    """The camera of a configuration. Raises ``CameraError``, ``ImageError``, ``DatasetError``."""
    if camera.kind == "opencv":
        from rdx_fast.station.cameras.opencv import OpenCVCamera

        device = camera.path if camera.device is None else camera.device
        assert device is not None
        return OpenCVCamera(device)
    assert camera.path is not None
    if camera.kind == "folder":
        return FolderReplay(camera.path, camera.rate)
    return StillImage(camera.path)


@contextmanager
def running(
    file: StationFile,
    open_detector: OpenDetector | None = None,
    source: FrameSource | None = None,
    wall_clock: Callable[[], float] = time.time,
    on_status: OnStatus | None = None,
) -> Iterator[Running]:
    """Open everything, go online, and close it in the end. ``open_detector``, ``source`` and
    ``wall_clock`` stand in for the real ones, for tests."""
    # Threads of Python hand over to each other: every 5 ms would be felt beside a PLC.
    sys.setswitchinterval(0.0005)
    open_one = open_detector or partial(
        Detector, backend=file.backend, threads=file.threads, precision=file.precision
    )
    with ExitStack() as stack:
        camera = source or open_source(file.camera)
        stack.callback(camera.close)
        jobs = Jobs(file.bundles, open_one)
        station = Station(
            jobs,
            camera,
            file.station,
            first_job=file.first_job,
            on_status=on_status,
            wall_clock=wall_clock,
        )
        servers: dict[str, ModbusServer | OpcUaServer | StationMetrics] = {}
        if file.modbus is not None:
            from rdx_fast.station.plc.modbus import ModbusServer

            servers["modbus"] = ModbusServer(station, file.modbus)
        if file.opcua is not None:
            from rdx_fast.station.plc.opcua import OpcUaServer

            servers["opcua"] = OpcUaServer(station, file.opcua)
        if file.metrics is not None:
            from rdx_fast.station.prometheus import StationMetrics

            servers["metrics"] = StationMetrics(station, file.metrics)
        stack.enter_context(station)
        # Listening says that the station answers.
        for server in servers.values():
            stack.enter_context(server)
        ports = {name: server.port for name, server in servers.items()}
        yield Running(station, ports)


def example(bundle: Path) -> str:
    """A configuration to begin with."""
    return f"""\
# Paths start at this file's folder.
# precision = "fp32"   # instead of the fastest that a bundle holds and the machine has
# threads = 2          # of the CPU
# backend = "auto"

[jobs]
1 = "{bundle}"

[camera]
kind = "folder"        # or "still", or "opencv" with device = 0
path = "frames"
timeout_ms = 500

[handshake]
deadline_ms = 500      # where the PLC gives none
watchdog_ms = 2000     # of the PLC's heartbeat; 0 for none

[records]
path = "records.sqlite"
pictures = "pictures"
pictures_mb = 1000

[modbus]
address = "127.0.0.1"  # name the machine's own to be reached from outside
port = 1502

# [opcua]
# users = {{ plc = "a password" }}

# [metrics]
# port = 9464
"""
