"""Runs a station with the interfaces that its configuration names."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, assert_never

from rdx_fast.detector import Detector
from rdx_fast.errors import DatasetError, ImageError
from rdx_fast.station.cameras.source import FolderReplay, FrameSource, StillImage
from rdx_fast.station.config import CameraConfig, ConfigError, StationFile
from rdx_fast.station.jobs import Jobs, OpenDetector
from rdx_fast.station.records.bundle_log import BundleLog
from rdx_fast.station.station import OnStatus, Station
from rdx_fast.station.worker import Worker

if TYPE_CHECKING:
    from rdx_fast.station.plc.modbus import ModbusServer
    from rdx_fast.station.plc.opcua import OpcUaServer
    from rdx_fast.station.prometheus import StationMetrics
    from rdx_fast.station.status_socket import StatusSocket


@dataclass(frozen=True, slots=True)
class Running:
    """A running station.

    Attributes:
        station: the station, online
        ports: TCP port of each server, by "modbus", "opcua" and "metrics"
    """

    station: Station
    ports: dict[str, int]


def open_source(camera: CameraConfig) -> FrameSource:
    """Open the configured camera.

    Args:
        camera: the table ``[camera]``

    Returns:
        The camera; the caller closes it.

    Raises:
        CameraError: OpenCV cannot open it, or it gives no frame
        ImageError: an image cannot be read
        DatasetError: the folder is missing or holds no images
        MissingDependencyError: OpenCV is needed and not installed
    """
    if camera.kind == "opencv":
        from rdx_fast.station.cameras.opencv import OpenCVCamera

        device = camera.path if camera.device is None else camera.device
        assert device is not None
        return OpenCVCamera(device)
    assert camera.path is not None
    if camera.kind == "folder":
        return FolderReplay(camera.path, camera.rate)
    if camera.kind == "still":
        return StillImage(camera.path)
    assert_never(camera.kind)


@contextmanager
def running(
    file: StationFile,
    open_detector: OpenDetector | None = None,
    source: FrameSource | None = None,
    wall_clock: Callable[[], float] = time.time,
    on_status: OnStatus | None = None,
) -> Iterator[Running]:
    """Open camera, jobs, records and servers, go online, and close everything at the end.

    Args:
        file: the configuration
        open_detector: opens a bundle; None for ``Detector`` with the configured options. Tests
            replace it
        source: the camera; None to open the configured one. Tests replace it
        wall_clock: returns seconds since 1970, for the records. Tests replace it
        on_status: called with each new status, as for ``Station.listen``

    Yields:
        The running station and its ports.

    Raises:
        RdxError: something cannot be opened: see ``open_source``, ``Station`` and ``ServerThread``
    """
    # Python switches threads every 5 ms by default, which would delay answers to the PLC.
    sys.setswitchinterval(0.0005)
    open_one = open_detector or partial(
        Detector,
        backend=file.backend,
        threads=file.threads,
        precision=file.precision,
        public_key=file.public_key,
    )
    with ExitStack() as stack:
        try:
            camera = source or open_source(file.camera)
        except (DatasetError, ImageError) as error:
            raise ConfigError(f"[camera] path of the configuration: {error}") from error
        stack.callback(camera.close)
        changes = BundleLog(file.records.path)
        stack.callback(changes.flush)
        stack.callback(Worker[None]("changes", lambda _: None, idle=changes.flush).stop)
        jobs = Jobs(
            file.bundles,
            open_one,
            lambda job: changes.opened(job.id, job.detector.engine.bundle, job.bundle_sha256),
        )
        station = Station(
            jobs,
            camera,
            file.station,
            first_job=file.first_job,
            on_status=on_status,
            prepare_bundles=file.status is not None,
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
        status: list[StatusSocket] = []
        if file.status is not None:
            from rdx_fast.station.status_socket import StatusSocket

            status = [StatusSocket(station, file.status)]
        stack.enter_context(station)
        # Servers listen only once the station can answer.
        for server in (*servers.values(), *status):
            stack.enter_context(server)
        ports = {name: server.port for name, server in servers.items()}
        yield Running(station, ports)


def example(bundle: Path) -> str:
    """Return the text of an example configuration.

    Args:
        bundle: the bundle of job 1; its path is made absolute, since the file may be kept anywhere
    """
    return f"""\
# Relative paths are relative to this file's folder.
# precision = "fp32"   # default: the fastest in the bundle that this machine supports
# threads = 2          # CPU threads
# backend = "auto"

[jobs]
1 = {json.dumps(str(bundle.resolve()), ensure_ascii=False)}
# 2 = {{ bundle = "other.rdx", deadline_ms = 300, crop = [0, 200, 1024, 1024] }}

[camera]
kind = "folder"        # or "still", or "opencv" with device = 0
path = "frames"        # edit: a folder of images, read in place of a camera
# levels = [0, 4095]   # black and white of a camera with 12 bits
timeout_ms = 500

[handshake]
deadline_ms = 500      # used if the PLC sends 0
watchdog_ms = 2000     # timeout of the PLC's heartbeat; 0 to disable

[records]
path = "records.sqlite"
pictures = "pictures"
pictures_mb = 1000
ok_share = 0.01        # share of all parts, drawn at random, whose pictures are kept as well

[drift]
false_alarm_every = 100000  # parts without a change for which one false alarm may be expected

[modbus]
address = "127.0.0.1"  # this machine only; set its network address for remote clients
port = 1502

# [opcua]
# users = {{ plc = "a password" }}

# [metrics]
# port = 9464

# [status]             # for the operator's page, which  rdx-fast hmi station.toml  serves
# socket = "station.socket"

# [hmi]
# port = 8460
"""
