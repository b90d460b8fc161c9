"""Runs one inspection: grabs a frame, checks it and scores it with the requested job."""

from __future__ import annotations

import threading
import time
from copy import copy
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from rdx_fast.errors import RdxError
from rdx_fast.station.cameras.source import BadFrameError, CameraTimeoutError, FrameSource
from rdx_fast.station.config import StationConfig
from rdx_fast.station.handshake.codes import ErrorCode, ResultCode
from rdx_fast.station.handshake.inspection import Inspection, Outcome
from rdx_fast.station.jobs import Job, JobError, JobSource


@dataclass(slots=True)
class Capture:
    """What the camera and the engine delivered for one inspection.

    A field is None, False or empty if the inspection ended before it was reached.

    Attributes:
        job: the job that the frame was scored with
        start: when camera and engine were free for it, in seconds of the monotonic clock
        grab_s: how long the camera took, in seconds
        score_s: how long the Detector took, in seconds
        stages_ms: duration of the Detector's stages in ms, as in ``Result.timings_ms``
        frame: the frame, uint8 [H, W, 3] or [H, W]
        anomaly_map: the anomaly map, float32 [h, w]; None where maps are not kept
        limit_share: the score as a share of the highest score that is OK
    """

    job: Job | None = None
    start: float | None = None
    grab_s: float | None = None
    score_s: float | None = None
    stages_ms: dict[str, float] = field(default_factory=dict)
    frame: NDArray[np.uint8] | None = None
    anomaly_map: NDArray[np.float32] | None = None
    limit_share: float | None = None


class _FrameError(RdxError):
    """A frame is missing or must not be scored."""

    def __init__(self, error: ErrorCode, detail: str) -> None:
        super().__init__(detail)
        self.error = error


class Inspector:
    """Grabs and scores one frame for each inspection. Used by one thread at a time.

    Args:
        jobs: where the detectors come from
        source: the camera
        config: the station's configuration
        keep_maps: whether anomaly maps are computed and kept in the ``Capture``

    Raises:
        ValueError: the camera's frames do not have the configured size
    """

    def __init__(
        self, jobs: JobSource, source: FrameSource, config: StationConfig, keep_maps: bool
    ) -> None:
        self._jobs, self._source, self._config = jobs, source, config
        self._keep_maps = keep_maps
        self._shape = self._wanted_shape()
        self._camera_free = threading.Lock()
        self._last_number: int | None = None
        self._active: Job | None = None
        self._reopen: int | None = None
        self._failed: dict[int, str] = {}

    def select(self, job: int) -> None:
        """Make a job the active one.

        Args:
            job: id of the job

        Raises:
            JobError: the bundle is missing or broken; the job before then stays active
        """
        try:
            if job == self._reopen:
                self._active, self._reopen = self._jobs.reopen(job), None
            else:
                self._active = self._jobs.select(job)
        except JobError as error:
            self._failed[job] = str(error)
            raise
        self._failed.pop(job, None)

    def successor(self) -> Inspector:
        """A replacement for this inspector, which hangs. It has no job until one is selected."""
        fresh = copy(self)  # shares the camera and its lock
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
        except _FrameError as error:
            return Outcome(ResultCode.ERROR, error.error, str(error)), capture
        except Exception as error:  # any error of the engine: the part was not inspected
            detail = f"{type(error).__name__}: {error}"
            return Outcome(ResultCode.ERROR, ErrorCode.ENGINE, detail), capture

    def _inspect(self, wanted: int, capture: Capture) -> Outcome:
        job = self._active
        if job is None or job.id != wanted:
            detail = self._failed.get(wanted, f"job {wanted} is not selected")
            return Outcome(ResultCode.ERROR, ErrorCode.JOB_BROKEN, detail)
        capture.job = job
        begin = time.monotonic()
        try:
            frame = self._frame()
        finally:
            capture.grab_s = time.monotonic() - begin
        capture.frame = frame
        begin = time.monotonic()
        config = self._config
        try:
            result = job.detector.score(
                frame, maps=self._keep_maps, pixel_format=config.pixel_format, crop=config.crop
            )
        except ValueError as error:
            raise _FrameError(ErrorCode.FRAME_BAD, f"unsuitable frame: {error}") from error
        finally:
            capture.score_s = time.monotonic() - begin
        if len(result) != 1 or not np.isfinite(result.scores).all():
            detail = f"the engine gave scores {result.scores.tolist()} for one frame"
            return Outcome(ResultCode.ERROR, ErrorCode.ENGINE, detail)
        capture.stages_ms = result.timings_ms
        if result.anomaly_maps is not None:
            capture.anomaly_map = result.anomaly_maps[0]
        capture.limit_share = float(result.scores[0]) / result.threshold
        return Outcome(
            ResultCode.NG if result.is_anomalous[0] else ResultCode.OK,
            score=float(result.scores[0]),
            area_px=int(result.areas[0]),
        )

    def _frame(self) -> NDArray[np.uint8]:
        last, self._last_number = self._last_number, None
        timeout_s = self._config.frame_timeout_ms / 1000
        if not self._camera_free.acquire(timeout=timeout_s):
            # A replaced inspector still hangs in the camera, which only one thread may use.
            raise _FrameError(ErrorCode.CAMERA_TIMEOUT, "an earlier call of the camera hangs")
        try:
            frame = self._source.grab(timeout_s)
            pixels = np.asarray(frame.pixels)
        except CameraTimeoutError as error:
            raise _FrameError(ErrorCode.CAMERA_TIMEOUT, str(error)) from error
        except BadFrameError as error:
            raise _FrameError(ErrorCode.FRAME_BAD, str(error)) from error
        except Exception as error:
            detail = f"{type(error).__name__}: {error}"
            raise _FrameError(ErrorCode.CAMERA, detail) from error
        finally:
            self._camera_free.release()
        self._last_number = frame.number
        if pixels.dtype != np.uint8:
            detail = f"the frame's dtype is {pixels.dtype}, wanted uint8"
            raise _FrameError(ErrorCode.FRAME_BAD, detail)
        if pixels.shape != self._shape:
            detail = f"the frame's shape is {pixels.shape}, wanted {self._shape}"
            raise _FrameError(ErrorCode.FRAME_SIZE, detail)
        if last is not None and frame.number != last + 1:
            detail = f"frame {frame.number} follows frame {last}: the frames between them are lost"
            raise _FrameError(ErrorCode.FRAME_DROPPED, detail)
        return pixels

    def _wanted_shape(self) -> tuple[int, ...]:
        shape = tuple(self._source.shape)
        size = self._config.frame_size
        if size is not None and shape[:2] != tuple(size):
            raise ValueError(
                f"the camera delivers {shape[0]} x {shape[1]} pixels, the configuration wants "
                f"{size[0]} x {size[1]}: change one of them"
            )
        return shape
