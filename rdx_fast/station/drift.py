"""Watches the parts of each job for drift, after their results are shown."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from rdx_fast.drift import DriftMonitor, passed_scores
from rdx_fast.recipe.frame_check import look_at, sharpness_of
from rdx_fast.station.config import DriftConfig
from rdx_fast.station.handshake.codes import ResultCode
from rdx_fast.station.handshake.inspection import Inspection
from rdx_fast.station.inspector import Capture
from rdx_fast.station.jobs import Job
from rdx_fast.station.worker import Worker

log = logging.getLogger(__name__)

_WAITING = 8  # parts with their frames; more are not watched
_SAVE_EVERY_S = 600.0


class DriftWatch:
    """A monitor for each job, in a thread of its own.

    Each job's monitor is kept in a file, so that it goes on where it was when the station ended. A
    job whose bundle, precision, frames or camera parameters are others begins anew, with the scores
    of its bundle's calibration.

    Args:
        config: the stated rate of false alarms, and the folder of the files
        changed: called with an alarm in words when it begins, in the thread of the watch
        note: called with the inspection's id and ``brightness`` and ``sharpness`` of each frame

    Attributes:
        statistics: S of each job and signal, see ``rdx_fast.drift``; replaced, never changed
        limit: what S raises the alarm at
    """

    def __init__(
        self,
        config: DriftConfig,
        changed: Callable[[str], None],
        note: Callable[..., None],
    ) -> None:
        self._config, self._changed, self._note = config, changed, note
        self._monitors: dict[int, tuple[str, DriftMonitor]] = {}
        self._saved = time.monotonic()
        self._acknowledged = False
        self.statistics: dict[tuple[int, str], float] = {}
        self.limit = DriftMonitor(config.false_alarm_every).limit

    def start(self) -> None:
        """Start the thread."""
        self._parts = Worker[tuple[Inspection, Capture]]("drift", self._watch, max_waiting=_WAITING)

    def stop(self) -> None:
        """Take what is queued, end the thread and save."""
        self._parts.stop()
        self._save()

    def put(self, inspection: Inspection, capture: Capture) -> None:
        """Queue a decided inspection without waiting."""
        if not self._parts.put((inspection, capture)):
            log.warning("not watched", extra={"inspection_id": inspection.inspection_id})

    def acknowledge(self) -> None:
        """The alarm was reset: watch again from the next part on."""
        self._acknowledged = True

    # In the thread of the watch

    def _watch(self, part: tuple[Inspection, Capture]) -> None:
        inspection, capture = part
        if self._acknowledged:
            self._acknowledged = False
            for _, monitor in self._monitors.values():
                monitor.acknowledge()
        frame, job, outcome = capture.frame, capture.job, inspection.outcome
        if frame is None or job is None or outcome is None or outcome.score is None:
            return  # not scored
        look = frame, job.settings.crop, job.settings.levels
        values = {"brightness": look_at(*look).brightness, "sharpness": sharpness_of(*look)}
        self._note(inspection.inspection_id, **values)
        if outcome.code is ResultCode.OK and outcome.ok_below:
            values["score"] = outcome.score / outcome.ok_below
        monitor = self._monitor(job, frame.shape)
        alarm = monitor.add(values)
        of_job = {(job.id, name): s for name, s in monitor.statistics.items()}
        self.statistics = self.statistics | of_job
        if alarm is not None:
            facts = {"job": job.id, "cause": alarm.cause, "detail": alarm.text}
            log.warning("drift", extra={"inspection_id": inspection.inspection_id, **facts})
            self._changed(alarm.text)
        if alarm is not None or time.monotonic() > self._saved + _SAVE_EVERY_S:
            self._save()

    def _monitor(self, job: Job, shape: tuple[int, ...]) -> DriftMonitor:
        """The job's monitor: the one in use, that of the file, or a new one."""
        executed = job.detector.engine.execution.executed
        frames = asdict(replace(job.settings, deadline_ms=None))
        identity = json.dumps([job.bundle_sha256, executed, shape, frames], sort_keys=True)
        held = self._monitors.get(job.id)
        if held is None:
            held = self._load(job.id)
            if held is not None and held[0] == identity and held[1].alarm is not None:
                self._changed(held[1].alarm.text)
        if held is None or held[0] != identity:
            earlier = {"score": _calibrated(job)}
            facts = {"job": job.id, "scores": len(earlier["score"])}
            log.info("drift monitor begins", extra=facts)
            held = identity, DriftMonitor(self._config.false_alarm_every, job.id, earlier)
        self._monitors[job.id] = held
        return held[1]

    def _load(self, job: int) -> tuple[str, DriftMonitor] | None:
        file = self._file(job)
        try:
            with np.load(file, allow_pickle=False) as stored:
                state = dict(stored)
            identity = str(state.pop("identity"))
            return identity, DriftMonitor.restored(state, self._config.false_alarm_every)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, EOFError, KeyError, BadZipFile) as error:
            detail = f"{file}: the state of the drift monitor cannot be read: {error}"
            log.error("drift monitor lost", extra={"job": job, "detail": detail})
            return None

    def _save(self) -> None:
        self._saved = time.monotonic()
        for job, (identity, monitor) in self._monitors.items():
            file = self._file(job)
            partial = file.with_suffix(".partial")
            try:
                file.parent.mkdir(parents=True, exist_ok=True)
                with partial.open("wb") as stream:
                    state = {"identity": np.array(identity), **monitor.state()}
                    np.savez(stream, allow_pickle=False, **state)
                    stream.flush()
                    os.fsync(stream.fileno())
                partial.replace(file)
            except OSError as error:
                detail = f"{file}: the state of the drift monitor cannot be written: {error}"
                log.error("drift monitor not saved", extra={"job": job, "detail": detail})

    def _file(self, job: int) -> Path:
        return self._config.path / f"job_{job}.npz"


def _calibrated(job: Job) -> NDArray[np.float64]:
    """Scores of the job's calibration that passed, as shares of the limit; none where the bundle
    holds none."""
    # As they were when the bundle was opened: another one may lie in its place by now.
    scores = job.detector.calibration
    if scores is None:
        return np.empty(0)
    return passed_scores(scores, [limits.ok_below.value for limits in job.detector.limits])
