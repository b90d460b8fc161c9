"""The inspection station that runs beside a PLC.

Example:
    ```python
    from rdx_fast.station import Station

    with Station(detector, source) as station:
        record = station.inspect(part_id)
    ```
"""

from rdx_fast.station.cameras.source import (
    BadFrameError,
    CameraError,
    CameraFrame,
    CameraTimeoutError,
    Configurable,
    FolderReplay,
    FrameSource,
    StillImage,
)
from rdx_fast.station.config import ConfigError, DriftConfig, RecordConfig, StationConfig
from rdx_fast.station.handshake.codes import ErrorCode, ResultCode
from rdx_fast.station.handshake.config import HandshakeConfig
from rdx_fast.station.handshake.inspection import Inspection, Outcome
from rdx_fast.station.handshake.signals import Controls, Status
from rdx_fast.station.jobs import JobError, Jobs
from rdx_fast.station.records.labels import Label, add_label, agreed, read_labels
from rdx_fast.station.records.read import Filter, read_records
from rdx_fast.station.records.store import InspectionRecord, RecordError
from rdx_fast.station.settings import JobSettings
from rdx_fast.station.station import Station, StationError
from rdx_fast.station.status_client import LiveFrame, StatusClient, StatusError

__all__ = [
    "BadFrameError",
    "CameraError",
    "CameraFrame",
    "CameraTimeoutError",
    "ConfigError",
    "Configurable",
    "Controls",
    "DriftConfig",
    "ErrorCode",
    "Filter",
    "FolderReplay",
    "FrameSource",
    "HandshakeConfig",
    "Inspection",
    "InspectionRecord",
    "JobError",
    "JobSettings",
    "Jobs",
    "Label",
    "LiveFrame",
    "Outcome",
    "RecordConfig",
    "RecordError",
    "ResultCode",
    "Station",
    "StationConfig",
    "StationError",
    "Status",
    "StatusClient",
    "StatusError",
    "StillImage",
    "add_label",
    "agreed",
    "read_labels",
    "read_records",
]
