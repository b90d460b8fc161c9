"""The station's configuration ``station.toml``, validated once; unknown keys are errors."""

from __future__ import annotations

import logging
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import dacite

from rdx_fast.errors import RdxError
from rdx_fast.kernels.resize_normalize import check_level_range
from rdx_fast.reading import in_words, shortened
from rdx_fast.station.handshake.codes import ResultCode
from rdx_fast.station.handshake.config import HandshakeConfig
from rdx_fast.station.hmi_config import HmiConfig, RetrainConfig
from rdx_fast.station.interfaces import MetricsConfig, ModbusConfig, OpcUaConfig, StatusConfig
from rdx_fast.station.settings import JobSettings, Parameter

log = logging.getLogger(__name__)


class ConfigError(RdxError):
    """The station's configuration cannot be read or is invalid."""


@dataclass(frozen=True, slots=True)
class CameraConfig:
    """The table ``[camera]``.

    Attributes:
        kind: "folder" and "still" read ``path``; "opencv" opens ``device`` or reads the video
            ``path``
        path: folder of images, image or video file
        device: index of a camera, or address of a stream
        rate: frames per second of a folder; None to deliver each frame when it is requested
        timeout_ms: longest wait for a frame in ms, at least 1
        size: height and width in pixels that every frame must have; None for the source's own size
        pixel_format: as for ``Detector.score``
        crop: top, left, height and width in pixels, as for ``Detector.score``
        levels: grey levels of black and white of a camera with 10, 12 or 16 bits, as for
            ``Detector.score``; None for one with 8 bits
        parameters: parameters of the camera by name, such as ``gain``

    Size, pixel format, crop, levels and parameters are those of every job that does not state its
    own.

    Raises:
        ValueError: ``path`` and ``device`` do not fit the kind, ``timeout_ms`` is below 1, or
            ``levels`` are out of range
    """

    kind: Literal["folder", "still", "opencv"]
    path: Path | None = None
    device: int | str | None = None
    rate: float | None = None
    timeout_ms: int = 500
    size: tuple[int, int] | None = None
    pixel_format: str | None = None
    crop: tuple[int, int, int, int] | None = None
    levels: tuple[int, int] | None = None
    parameters: dict[str, Parameter] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.kind == "opencv":
            given, wanted = (self.path is None) != (self.device is None), "either device or path"
        else:
            given, wanted = self.path is not None and self.device is None, "path and no device"
        if not given:
            raise ValueError(f"camera: kind {self.kind!r} needs {wanted}")
        if self.timeout_ms < 1:
            raise ValueError(f"camera: timeout_ms is {self.timeout_ms}, wanted at least 1")
        if self.levels is not None:
            check_level_range(self.levels)


@dataclass(frozen=True, slots=True)
class RecordConfig:
    """The table ``[records]``.

    Attributes:
        path: the SQLite file
        sync: whether rows also survive a power failure
        pictures: folder for frames and anomaly maps
        pictures_mb: most disk space of that folder in units of 10^6 bytes; 0 to keep no pictures
        pictures_of: results whose pictures are kept
        ok_share: share of the parts that are scored in time that is drawn at random, whatever the
            result, 0 to 1. Their pictures are kept too, so that a person can look for defective
            parts among those passed

    Raises:
        ValueError: ``pictures_mb`` is negative, ``ok_share`` is out of range, or ``pictures_of``
            names what is no result
    """

    path: Path = Path("records.sqlite")
    sync: bool = True
    pictures: Path = Path("pictures")
    pictures_mb: float = 1000.0
    pictures_of: tuple[str, ...] = ("NG", "REVIEW", "ERROR", "LATE")
    ok_share: float = 0.0

    def __post_init__(self) -> None:
        if self.pictures_mb < 0:
            raise ValueError(f"records: pictures_mb is {self.pictures_mb}, wanted 0 or more")
        if not 0 <= self.ok_share <= 1:
            raise ValueError(f"records: ok_share is {self.ok_share}, wanted 0 to 1")
        if self.ok_share and not self.pictures_mb:
            raise ValueError("records: ok_share needs pictures, and pictures_mb is 0: set both")
        results = [code.name for code in ResultCode if code]
        if unknown := set(self.pictures_of) - set(results):
            raise ValueError(
                f"records: pictures_of has {', '.join(sorted(unknown))}, wanted some of "
                f"{', '.join(results)}"
            )


@dataclass(frozen=True, slots=True)
class DriftConfig:
    """The table ``[drift]``: an alarm when brightness, sharpness or scores change.

    Attributes:
        enabled: whether parts are watched
        false_alarm_every: number of parts for which at most one false alarm is expected, see
            ``rdx_fast.drift``
        path: folder for what the monitors remember

    Raises:
        ValueError: ``false_alarm_every`` is below 1
    """

    enabled: bool = True
    false_alarm_every: int = 100_000
    path: Path = Path("drift")

    def __post_init__(self) -> None:
        if self.false_alarm_every < 1:
            raise ValueError(
                f"drift: false_alarm_every is {self.false_alarm_every}, wanted at least 1"
            )


_FILES = {
    "drift": {"path": "drift"},
    "records": {"path": "records.sqlite", "pictures": "pictures"},
    "opcua": {"certificate": "station-certificate.der", "private_key": "station-key.pem"},
    "status": {"socket": "station.socket"},
    "hmi": {"users": "hmi-users.json"},
}


@dataclass(frozen=True, slots=True)
class StationConfig:
    """Settings of a ``Station``: handshake, frames, records and drift.

    Attributes:
        handshake: times and queue size of the handshake
        records: where records and pictures are kept; None to keep none
        drift: when a change is an alarm; None to watch for none
        frame_timeout_ms: longest wait for a frame, in ms
        frame_size: height and width in pixels that every frame must have; None for the source's own
            size
        pixel_format: as for ``Detector.score``
        crop: top, left, height and width in pixels, as for ``Detector.score``
        levels: as for ``Detector.score``: frames are uint16 if they are given, else uint8
        camera_parameters: parameters of the camera by name
        jobs: settings of single jobs by id, which go before what their bundles and the station
            state
    """

    handshake: HandshakeConfig = field(default_factory=HandshakeConfig)
    records: RecordConfig | None = field(default_factory=RecordConfig)
    drift: DriftConfig | None = None
    frame_timeout_ms: int = 500
    frame_size: tuple[int, int] | None = None
    pixel_format: str | None = None
    crop: tuple[int, int, int, int] | None = None
    levels: tuple[int, int] | None = None
    camera_parameters: dict[str, Parameter] = field(default_factory=dict)
    jobs: dict[int, JobSettings] = field(default_factory=dict)

    def settings(self, job: int, stated: JobSettings) -> JobSettings:
        """What applies to a job: its own settings, else its bundle's, else the station's.

        Args:
            job: id of the job
            stated: what the job's bundle states

        Raises:
            ConfigError: the job's settings contradict its bundle, whose limits hold for its own
        """
        own = self.jobs.get(job, JobSettings())
        for name in ("crop", "pixel_format", "levels", "frame_size"):
            given, held = getattr(own, name), getattr(stated, name)
            if given is not None and held is not None and tuple(given) != tuple(held):
                raise ConfigError(
                    f"job {job}: {name} is {given} in the configuration and {held} in the bundle's "
                    f"recipe, for which its limits were calibrated: leave it out of the "
                    f"configuration, or change the recipe (rdx-fast recipe)"
                )
        station = JobSettings(
            crop=self.crop,
            pixel_format=self.pixel_format,
            levels=self.levels,
            frame_size=self.frame_size,
            deadline_ms=self.handshake.deadline_ms,
            camera=self.camera_parameters,
        )
        return own.over(stated.over(station))


@dataclass(frozen=True, slots=True, kw_only=True)
class JobConfig(JobSettings):
    """A job in the table ``[jobs]``: its bundle, and settings that go before the bundle's own.

    ``1 = "part.rdx"`` stands for a job without settings.

    Attributes:
        bundle: path of the bundle
    """

    bundle: Path


@dataclass(frozen=True, slots=True)
class StationFile:
    """The content of ``station.toml``.

    Relative paths are relative to the file's folder. An interface (Modbus, OPC UA, metrics,
    status socket) is offered only if its table is present.

    Attributes:
        jobs: job id as text, "1" to "65535", to its bundle and settings
        camera: table ``[camera]``
        backend: what runs the network, as for ``Detector``
        threads: CPU threads of the engine; None for its own choice
        precision: what is executed; None for the fastest that a job's bundle holds and this
            machine supports
        public_key: file of an Ed25519 key in PEM that must have signed every job's bundle, and the
            plans and kernels in it; None opens unsigned bundles too
        first_job: id of the job that is active at the start; None for the lowest
        handshake: table ``[handshake]``
        records: table ``[records]``
        drift: table ``[drift]``
        modbus: table ``[modbus]``; None for no Modbus server
        opcua: table ``[opcua]``; None for no OPC UA server
        metrics: table ``[metrics]``; None for no metrics
        status: table ``[status]``; None for no status socket
        hmi: table ``[hmi]``, for ``rdx-fast hmi``; the station itself does not use it
        retrain: tables ``[retrain.JOB]``, for ``rdx-fast retrain``, likewise

    Raises:
        ValueError: there are no jobs, an id is not a number, ``first_job`` is not among them, or
            there is a table to retrain another job
    """

    jobs: dict[str, JobConfig]
    camera: CameraConfig
    backend: Literal["auto", "openvino", "tensorrt", "torch"] = "auto"
    threads: int | None = None
    precision: Literal["fp32", "fp16", "bf16", "int8", "fp8"] | None = None
    public_key: Path | None = None
    first_job: int | None = None
    handshake: HandshakeConfig = field(default_factory=HandshakeConfig)
    records: RecordConfig = field(default_factory=RecordConfig)
    drift: DriftConfig = field(default_factory=DriftConfig)
    modbus: ModbusConfig | None = None
    opcua: OpcUaConfig | None = None
    metrics: MetricsConfig | None = None
    status: StatusConfig | None = None
    hmi: HmiConfig | None = None
    retrain: dict[str, RetrainConfig] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.jobs or not all(name.isdecimal() for name in self.jobs):
            raise ValueError(f"jobs: the ids are {list(self.jobs)}, wanted numbers from 1 to 65535")
        if self.first_job is not None and self.first_job not in self.bundles:
            raise ValueError(f"first_job is {self.first_job}, wanted one of the jobs")
        if unknown := set(self.retrain) - set(self.jobs):
            raise ValueError(f"retrain: there are no jobs {', '.join(sorted(unknown))}")

    @property
    def bundles(self) -> dict[int, Path]:
        """Job id to path of its bundle."""
        return {int(name): job.bundle for name, job in self.jobs.items()}

    @property
    def station(self) -> StationConfig:
        """The settings that a ``Station`` takes."""
        camera = self.camera
        return StationConfig(
            handshake=self.handshake,
            records=self.records,
            drift=self.drift if self.drift.enabled else None,
            frame_timeout_ms=camera.timeout_ms,
            frame_size=camera.size,
            pixel_format=camera.pixel_format,
            crop=camera.crop,
            levels=camera.levels,
            camera_parameters=camera.parameters,
            jobs={int(name): job for name, job in self.jobs.items()},
        )


def read_station(path: Path) -> StationFile:
    """Read and validate a configuration.

    Args:
        path: the file ``station.toml``

    Returns:
        The configuration; relative paths in it are joined to the file's folder.

    Raises:
        ConfigError: the file cannot be read or is invalid; the message names the key
    """
    try:
        given = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not TOML: {error}") from error
    modbus = given.get("modbus")
    if isinstance(modbus, dict) and "most_clients" in modbus:
        log.warning("[modbus] most_clients is called max_clients now: rename it")
        modbus.setdefault("max_clients", modbus.pop("most_clients"))
    jobs = given.get("jobs")
    if isinstance(jobs, dict):
        given["jobs"] = {i: j if isinstance(j, dict) else {"bundle": j} for i, j in jobs.items()}
    # Default file names are relative to the configuration's folder too.
    for table, names in _FILES.items():
        if table in given or table in ("drift", "records"):
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
