"""Runs one inspection: grabs a frame, checks it and scores it with the requested job."""

from __future__ import annotations

import logging
import time
from copy import copy
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from rdx_fast.preprocess import Frame
from rdx_fast.station.cameras.checked import CaptureError, CheckedCamera
from rdx_fast.station.cameras.source import FrameSource
from rdx_fast.station.config import ConfigError, StationConfig
from rdx_fast.station.handshake.codes import ErrorCode, ResultCode
from rdx_fast.station.handshake.inspection import Inspection, Outcome
from rdx_fast.station.jobs import Job, JobError, JobSource
from rdx_fast.station.settings import JobSettings

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Capture:
    """What the camera and the engine delivered for one inspection.

    A field is None, False or empty if the inspection ended before it was reached.

    Attributes:
        job: the job that the frame was scored with, with the settings that apply to it
        start: when camera and engine were free for it, in seconds of the monotonic clock
        grab_s: how long the camera took, in seconds
        score_s: how long the Detector took, in seconds
        stages_ms: duration of the Detector's stages in ms, as in ``Result.timings_ms``
        frame: the frame, uint8 or uint16, [H, W, 3] or [H, W]
        anomaly_map: the anomaly map, float32 [h, w]; None where maps are not kept
        sampled: whether the part was drawn for the random sample, see ``RecordConfig.ok_share``
    """

    job: Job | None = None
    start: float | None = None
    grab_s: float | None = None
    score_s: float | None = None
    stages_ms: dict[str, float] = field(default_factory=dict)
    frame: Frame | None = None
    anomaly_map: NDArray[np.float32] | None = None
    sampled: bool = False


class Inspector:
    """Grabs and scores one frame for each inspection. Used by one thread at a time.

    Args:
        jobs: where the detectors come from
        source: the camera
        config: the station's configuration
        keep_maps: whether anomaly maps are computed and kept in the ``Capture``
        wait: whether a selection waits for a replaced bundle, see ``JobSource.select``
    """

    def __init__(
        self,
        jobs: JobSource,
        source: FrameSource,
        config: StationConfig,
        keep_maps: bool,
        wait: bool,
    ) -> None:
        self._jobs, self._config, self._keep_maps, self._wait = jobs, config, keep_maps, wait
        self._camera = CheckedCamera(source, config.frame_timeout_ms / 1000)
        self._active: Job | None = None
        self._reopen: int | None = None
        self._failed: dict[int, JobError] = {}

    def start(self, first: int) -> dict[int, JobSettings]:
        """Select every job once, so that the camera is known to fit them all; the first one last.

        Args:
            first: id of the job that is active at the start

        Returns:
            The settings that apply to each job.

        Raises:
            ConfigError: the settings of jobs do not fit the camera or each other
            JobError: a bundle is missing or broken, or the camera does not fit a job
        """
        ids, settings = self._jobs.ids, self._config.settings
        if unknown := self._config.jobs.keys() - ids:
            raise ConfigError(f"there are settings for jobs {sorted(unknown)}, but no such jobs")
        found = {job: settings(job, self._jobs.select(job).settings) for job in sorted(ids)}
        self._camera.check_parameters(found)
        return {job: self.select(job) for job in (*sorted(ids - {first}), first)}

    def select(self, job: int) -> JobSettings:
        """Make a job the active one, and set the camera up for it.

        Args:
            job: id of the job

        Returns:
            The settings that apply to it.

        Raises:
            JobError: the bundle is missing or broken, or the camera does not fit; the job before
                then stays active, and must be selected again if the camera's parameters are others
        """
        try:
            if job == self._reopen:
                opened, self._reopen = self._jobs.reopen(job), None
            else:
                opened = self._jobs.select(job, self._wait)
            try:
                settings = self._config.settings(job, opened.settings)
                self._camera.set_up(settings)
            except ConfigError as error:
                raise JobError(str(error)) from error
            except CaptureError as error:
                raise JobError(f"job {job}: {error}", error.code) from error
        except JobError as error:
            self._failed[job] = error
            raise
        if settings.crop != opened.settings.crop:
            log.warning(
                "limits were calibrated for another crop: put this one into the bundle's recipe",
                extra={"job": job, "crop": settings.crop, "calibrated": opened.settings.crop},
            )
        self._failed.pop(job, None)
        self._active = replace(opened, settings=settings)
        return settings

    def successor(self) -> Inspector:
        """A replacement for this inspector, which hangs. It has no job until one is selected."""
        fresh = copy(self)  # shares the camera
        if self._active is not None:
            fresh._reopen, fresh._active = self._active.id, None
        return fresh

    def inspect(self, inspection: Inspection) -> tuple[Outcome, Capture]:
        """Grab a frame and score it. Does not check the deadline.

        Args:
            inspection: the inspection; ERROR if its ``job`` is not the active one

        Returns:
            The outcome and what was captured. Never raises: every failure becomes the outcome
            ERROR.
        """
        capture = Capture(start=time.monotonic())
        try:
            return self._inspect(inspection.job, capture), capture
        except CaptureError as error:
            return Outcome(ResultCode.ERROR, error.code, str(error)), capture
        except Exception as error:  # any error of the engine: the part was not inspected
            detail = f"{type(error).__name__}: {error}"
            return Outcome(ResultCode.ERROR, ErrorCode.ENGINE, detail), capture

    def _inspect(self, wanted: int, capture: Capture) -> Outcome:
        job, why = self._active, self._failed.get(wanted)
        if job is None or job.id != wanted or why is not None:
            why = why or JobError(f"job {wanted} is not selected")
            return Outcome(ResultCode.ERROR, why.code, str(why))
        capture.job = job
        begin = time.monotonic()
        try:
            frame = self._camera.grab(job.settings)
        finally:
            capture.grab_s = time.monotonic() - begin
        capture.frame = frame
        begin = time.monotonic()
        settings = job.settings
        try:
            result = job.detector.score(
                frame,
                maps=self._keep_maps,
                pixel_format=settings.pixel_format,
                crop=settings.crop,
                levels=settings.levels,
            )
        except ValueError as error:
            raise CaptureError(ErrorCode.FRAME_BAD, f"unsuitable frame: {error}") from error
        finally:
            capture.score_s = time.monotonic() - begin
        if len(result) != 1 or not np.isfinite(result.scores).all():
            detail = f"the engine gave scores {result.scores.tolist()} for one frame"
            return Outcome(ResultCode.ERROR, ErrorCode.ENGINE, detail)
        capture.stages_ms = result.timings_ms
        if result.anomaly_maps is not None:
            capture.anomaly_map = result.anomaly_maps[0]
        limits = result.decided_by(0)
        return Outcome(
            ResultCode[result.verdicts[0]],
            score=float(result.scores[0]),
            ok_below=limits.ok_below.value,
            ng_above=limits.ng_above.value,
            region=limits.named,
            area_px=int(result.areas[0]),
            p_value=None if result.p_values is None else float(result.p_values[0]),
        )
