"""The station's configuration: ``station.toml``, checked once, unknown keys refused."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import dacite

from rdx_fast.errors import RdxError
from rdx_fast.reading import in_words, shortened
from rdx_fast.station.handshake.config import HandshakeConfig

LOOPBACK = "127.0.0.1"


class ConfigError(RdxError):
    """The station's configuration cannot be read or does not make sense."""


@dataclass(frozen=True, slots=True)
class CameraConfig:
    """``kind``: "folder" and "still" read ``path``; "opencv" opens ``device`` (index, or address of
    a stream) or reads the video ``path``. ``rate``: frames a second of a folder, as fast as they
    are asked for if left out. ``size``: height, width that every frame must have; the source's own
    if left out. ``pixel_format`` and ``crop`` (top, left, height, width): as ``Detector.score`` has
    them."""

    kind: Literal["folder", "still", "opencv"]
    path: Path | None = None
    device: int | str | None = None
    rate: float | None = None
    timeout_ms: int = 500
    size: tuple[int, int] | None = None
    pixel_format: str | None = None
    crop: tuple[int, int, int, int] | None = None

    def __post_init__(self) -> None:
        if self.kind == "opencv":
            given, wanted = (self.path is None) != (self.device is None), "device or path"
        else:
            given, wanted = self.path is not None and self.device is None, "path, and no device"
        if not given:
            raise ValueError(f"camera: kind {self.kind!r} wants {wanted}")
        if self.timeout_ms < 1:
            raise ValueError(f"camera: timeout_ms is {self.timeout_ms}, wanted at least 1")


@dataclass(frozen=True, slots=True)
class ModbusConfig:
    """Modbus TCP. ``max_clients``: connections that are kept; one more takes the place of one that
    said nothing for ``idle_s``, if there is one, and else is closed."""

    address: str = LOOPBACK
    port: int = 1502
    max_clients: int = 8
    idle_s: float = 10.0


@dataclass(frozen=True, slots=True)
class OpcUaConfig:
    """OPC UA. ``users``: names and passwords. ``anonymous``: no user, and no encryption wanted.
    ``certificate`` and ``private_key``: of the server, PEM or DER; made if neither is there."""

    address: str = LOOPBACK
    port: int = 4840
    users: dict[str, str] = field(default_factory=dict)
    anonymous: bool = False
    certificate: Path = Path("station-certificate.der")
    private_key: Path = Path("station-key.pem")

    def __post_init__(self) -> None:
        if not self.users and not self.anonymous:
            raise ValueError(
                "opcua: nobody may connect: name users with passwords, or say anonymous = true"
            )


@dataclass(frozen=True, slots=True)
class RecordConfig:
    """``path``: the SQLite file. ``sync``: rows also survive a power failure. ``pictures``: folder
    for frames and maps of rejected parts, ``pictures_mb``: its budget in 10^6 bytes, 0 for none."""

    path: Path = Path("records.sqlite")
    sync: bool = True
    pictures: Path = Path("pictures")
    pictures_mb: float = 1000.0

    def __post_init__(self) -> None:
        if self.pictures_mb < 0:
            raise ValueError(f"records: pictures_mb is {self.pictures_mb}, wanted 0 or more")


_FILES = {
    "records": {"path": "records.sqlite", "pictures": "pictures"},
    "opcua": {"certificate": "station-certificate.der", "private_key": "station-key.pem"},
}


@dataclass(frozen=True, slots=True)
class MetricsConfig:
    """Prometheus metrics over HTTP."""

    address: str = LOOPBACK
    port: int = 9464


@dataclass(frozen=True, slots=True)
class StationConfig:
    """What a ``Station`` itself wants to know: how the handshake goes, how frames are taken, and
    what is kept (``records`` None: nothing)."""

    handshake: HandshakeConfig = field(default_factory=HandshakeConfig)
    records: RecordConfig | None = field(default_factory=RecordConfig)
    frame_timeout_ms: int = 500
    frame_size: tuple[int, int] | None = None
    pixel_format: str | None = None
    crop: tuple[int, int, int, int] | None = None


@dataclass(frozen=True, slots=True)
class StationFile:
    """``station.toml``. ``jobs``: id to bundle; all paths start at the file's folder.
    ``precision``: what is executed, the fastest that a job's bundle holds and the machine has if
    left out. ``first_job``: the one that is active at the start, the lowest if left out. An
    interface whose table is missing is not offered."""

    jobs: dict[str, Path]
    camera: CameraConfig
    backend: Literal["auto", "openvino", "tensorrt", "torch"] = "auto"
    threads: int | None = None
    precision: Literal["fp32", "fp16", "bf16", "int8"] | None = None
    first_job: int | None = None
    handshake: HandshakeConfig = field(default_factory=HandshakeConfig)
    records: RecordConfig = field(default_factory=RecordConfig)
    modbus: ModbusConfig | None = None
    opcua: OpcUaConfig | None = None
    metrics: MetricsConfig | None = None

    def __post_init__(self) -> None:
        if not self.jobs or not all(name.isdecimal() for name in self.jobs):
            raise ValueError(f"jobs: the ids are {list(self.jobs)}, wanted numbers from 1 to 65535")
        if self.first_job is not None and self.first_job not in self.bundles:
            raise ValueError(f"first_job is {self.first_job}, which is not among the jobs")

    @property
    def bundles(self) -> dict[int, Path]:
        return {int(name): bundle for name, bundle in self.jobs.items()}

    @property
    def station(self) -> StationConfig:
        camera = self.camera
        return StationConfig(
            handshake=self.handshake,
            records=self.records,
            frame_timeout_ms=camera.timeout_ms,
            frame_size=camera.size,
            pixel_format=camera.pixel_format,
            crop=camera.crop,
        )


def read_station(path: Path) -> StationFile:
    """Read and check a configuration. Raises ``ConfigError`` that says which key is wrong."""
    try:
        given = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not TOML: {error}") from error
    # Names of files that are left out lie beside the configuration too.
    for table, names in _FILES.items():
        if table in given or table == "records":
            for key, name in names.items():
                if isinstance(given.setdefault(table, {}), dict):
                    given[table].setdefault(key, name)

    def beside(name: object) -> Path:
        if not isinstance(name, str | Path):
            raise ValueError(f"a path is {shortened(name)}, wanted text in quotes")
        return path.parent / name

    checks = dacite.Config(strict=True, cast=[tuple], type_hooks={Path: beside})
    try:
        return dacite.from_dict(StationFile, given, checks)
    except (dacite.DaciteError, ValueError, TypeError, AttributeError) as error:
        raise ConfigError(f"{path}: {in_words(error)}") from error
