"""The station: what runs beside the PLC.

from rdx_fast.line import Station

with Station(detector, source) as station:
    record = station.inspect(part_id)
"""

from rdx_fast.line.cameras import (
    BadFrameError,
    CameraError,
    CameraFrame,
    CameraTimeoutError,
    FolderReplay,
    FrameSource,
    StillImage,
)
from rdx_fast.line.config import ConfigError, RecordConfig, StationConfig
from rdx_fast.line.jobs import JobError, Jobs
from rdx_fast.line.records import Filter, InspectionRecord, RecordError, read_records
from rdx_fast.line.rules import Rules
from rdx_fast.line.signals import Controls, ErrorCode, ResultCode, Status, Verdict
from rdx_fast.line.station import Station, StationError

__all__ = [
    "BadFrameError",
    "CameraError",
    "CameraFrame",
    "CameraTimeoutError",
    "ConfigError",
    "Controls",
    "ErrorCode",
    "Filter",
    "FolderReplay",
    "FrameSource",
    "InspectionRecord",
    "JobError",
    "Jobs",
    "RecordConfig",
    "RecordError",
    "ResultCode",
    "Rules",
    "Station",
    "StationConfig",
    "StationError",
    "Status",
    "StillImage",
    "Verdict",
    "read_records",
]
