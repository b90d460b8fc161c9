"""The station's state as the page shows it: lamps, alarms, and the job."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rdx_fast.bundle.signature import MANIFEST
from rdx_fast.bundle.versions import manifest_sha256
from rdx_fast.errors import BundleError
from rdx_fast.station.config import StationFile
from rdx_fast.station.handshake.codes import ErrorCode

AWAY = "STATION_AWAY"
DRIFT = "DRIFT"
UNREADABLE = "RECORDS_UNREADABLE"
_CAMERA = frozenset({"CAMERA", "CAMERA_TIMEOUT", "FRAME_BAD", "FRAME_SIZE", "FRAME_DROPPED"})
_STILL_S = 3.0  # time without a change of the station's heartbeat, which changes several times a s
# Flags of the status, and the code of the alarm that each is.
_FLAGS = {
    "link_lost": "LINK_LOST",
    "missed_trigger": "MISSED_TRIGGER",
    "overrun": "OVERRUN",
    "record_alarm": "RECORD",
}


class StationState:
    """Describes the station by what its status socket tells. Used by one thread.

    Args:
        file: the station's configuration
        now: returns the present time, with a time zone
        clock: returns seconds, never going back
    """

    def __init__(
        self, file: StationFile, now: Callable[[], datetime], clock: Callable[[], float]
    ) -> None:
        self._bundles, self._now, self._clock = file.bundles, now, clock
        self._connected: bool | None = None
        self._heartbeat, self._beat = -1, 0.0
        self._on_disk: dict[int, tuple[tuple[int, ...], str]] = {}
        self._drift = file.drift.enabled

    def describe(
        self, status: dict[str, Any] | None, trouble: str = "", unreadable: str = ""
    ) -> dict[str, Any]:
        """The state for the page.

        Args:
            status: what ``StatusClient.status`` returned; None if the station does not answer
            trouble: why it does not
            unreadable: why its records cannot be read; empty if they can
        """
        if (status is not None) != self._connected:
            self._connected, self._since = status is not None, self._now().astimezone(UTC)
            self._heartbeat = -1
        common = {"connected": self._connected, "since": self._since.isoformat(timespec="seconds")}
        if status is None:
            return {
                **common,
                "lamps": dict.fromkeys(("camera", "plc", "disk", "heartbeat", "drift"), "off"),
                "alarms": [{"code": AWAY, "number": None, "detail": trouble}],
                "job": None,
                "jobs": [{"id": i, "name": path.stem} for i, path in sorted(self._bundles.items())],
                "counts": None,
            }
        jobs = {int(job): held for job, held in status["jobs"].items()}
        alarms = _alarms(status)
        if unreadable:
            alarms.append({"code": UNREADABLE, "number": None, "detail": unreadable})
        return {
            **common,
            "lamps": self._lamps(status, {alarm["code"] for alarm in alarms}),
            "alarms": alarms,
            "job": self._job(status["active_job"], jobs),
            "jobs": [{"id": i, "name": held["name"]} for i, held in sorted(jobs.items())],
            "counts": status["counts"],
        }

    def _lamps(self, status: dict[str, Any], codes: set[str]) -> dict[str, str]:
        if status["heartbeat"] != self._heartbeat:
            self._heartbeat, self._beat = status["heartbeat"], self._clock()
        still = self._clock() - self._beat > _STILL_S
        return {
            "camera": _lamp(bool(codes & _CAMERA), on=status["online"]),
            "plc": _lamp("LINK_LOST" in codes, on=bool(status["plc_enable"])),
            "disk": _lamp(bool(codes & {"RECORD", UNREADABLE})),
            "heartbeat": _lamp(still),
            "drift": _lamp(DRIFT in codes, on=self._drift),
        }

    def _job(self, job: int, jobs: dict[int, dict[str, Any]]) -> dict[str, Any] | None:
        if job not in jobs:
            return None
        held = jobs[job]
        # The configuration's path: a bundle that is replaced may have been a link.
        disk = self._sha256(job, self._bundles.get(job, Path(held["bundle"])))
        return {
            "id": job,
            "name": held["name"],
            "sha256": held["sha256"],
            "changeover": disk is not None and disk != held["sha256"],
        }

    def _sha256(self, job: int, bundle: Path) -> str | None:
        """Of the manifest on disk, read again when it changes; None if it cannot be read."""
        try:
            found = (bundle / MANIFEST).stat()
            stamp = (found.st_ino, found.st_mtime_ns, found.st_size)
            if self._on_disk.get(job, ((), ""))[0] != stamp:
                self._on_disk[job] = stamp, manifest_sha256(bundle)
        except (OSError, BundleError):
            return None
        return self._on_disk[job][1]


def _lamp(alarm: bool, on: bool = True) -> str:
    return "alarm" if alarm else ("ok" if on else "off")


def _alarms(status: dict[str, Any]) -> list[dict[str, Any]]:
    """The station's error first, then what its flags say besides."""
    details: dict[str, str | None] = {}
    if status["error"] != ErrorCode.NONE.name:
        details[status["error"]] = status["error_detail"]
    for flag, code in _FLAGS.items():
        if status[flag]:
            details.setdefault(code, None)
    if status["drift_cause"]:
        details[DRIFT] = status["drift_cause"]
    numbers = ErrorCode.__members__
    return [
        {"code": code, "number": numbers[code].value if code in numbers else None, "detail": detail}
        for code, detail in details.items()
    ]
