"""A camera as inspections use it: set up for each job, in one thread at a time, frames checked."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rdx_fast.errors import RdxError
from rdx_fast.kernels.resize_normalize import check_crop, check_pixel_format
from rdx_fast.preprocess import Frame
from rdx_fast.station.cameras.source import (
    BadFrameError,
    CameraTimeoutError,
    Configurable,
    FrameSource,
)
from rdx_fast.station.config import ConfigError
from rdx_fast.station.handshake.codes import ErrorCode
from rdx_fast.station.settings import JobSettings, Parameter

log = logging.getLogger(__name__)


class CaptureError(RdxError):
    """A frame is missing or must not be scored, or the camera does not fit a job.

    Args:
        code: error code of the part
        detail: the error in words

    Attributes:
        code: error code of the part
    """

    def __init__(self, code: ErrorCode, detail: str) -> None:
        super().__init__(detail)
        self.code = code


class CheckedCamera:
    """Sets a frame source up for jobs and takes their frames. Safe to call from several threads.

    Args:
        source: the camera; the caller closes it
        timeout_s: longest wait for a frame, and for another thread that uses the camera
    """

    def __init__(self, source: FrameSource, timeout_s: float) -> None:
        self._source, self._timeout_s = source, timeout_s
        self._lock = threading.Lock()
        self._shape = tuple(source.shape)
        self._names: frozenset[str] = frozenset()  # of the parameters that every job sets
        self._parameters: dict[str, Parameter] | None = {}  # as last set; None while unknown
        self._last_number: int | None = None
        self._previous: NDArray[Any] | None = None
        self._repeats = getattr(source, "repeats", False)

    def check_parameters(self, jobs: Mapping[int, JobSettings]) -> None:
        """Check which parameters jobs set, once, before the first is set up.

        Args:
            jobs: the settings of every job

        Raises:
            ConfigError: the camera has no parameters, or a job does not set one that another sets:
                it would be inspected with that of the job before
        """
        setting = {name: job for job, settings in jobs.items() for name in settings.camera}
        if setting and not isinstance(self._source, Configurable):
            raise ConfigError(
                f"camera parameters are set ({', '.join(sorted(setting))}), but "
                f"{type(self._source).__name__} has none: leave them out, or use a camera that has "
                f"them"
            )
        for job, settings in jobs.items():
            for name in sorted(setting.keys() - settings.camera.keys()):
                raise ConfigError(
                    f"job {job} has no value for the camera parameter {name}, which job "
                    f"{setting[name]} sets: give it one, or one for all jobs in [camera] parameters"
                )
        self._names = frozenset(setting)

    def set_up(self, settings: JobSettings) -> None:
        """Set the parameters of a job if others are in force, and check that the frames fit it.

        Args:
            settings: the settings that apply to the job

        Raises:
            CaptureError: the camera does not take a parameter, or its frames do not have the job's
                size or pixel format, or do not hold its crop
        """
        if settings.camera.keys() != self._names:
            raise CaptureError(
                ErrorCode.CAMERA,
                f"the camera parameters are now {sorted(settings.camera)}, at the station's start "
                f"they were {sorted(self._names)}: start it again, or change the bundle",
            )
        if settings.camera != self._parameters:
            self._configure(settings.camera)
        shape, size = self._shape, settings.frame_size
        if size is not None and shape[:2] != tuple(size):
            raise CaptureError(
                ErrorCode.FRAME_SIZE,
                f"the camera delivers {shape[0]} x {shape[1]} pixels, the configuration wants "
                f"{size[0]} x {size[1]}: change one of them",
            )
        try:
            check_pixel_format(shape, settings.pixel_format)
            check_crop(shape[:2], settings.crop)
        except ValueError as error:
            raise CaptureError(ErrorCode.FRAME_BAD, str(error)) from error

    def _configure(self, parameters: dict[str, Parameter]) -> None:
        assert isinstance(self._source, Configurable)
        with self._in_turn():
            self._parameters = self._last_number = None
            found = self._source.configure(parameters)
            self._shape = tuple(self._source.shape)
            self._parameters = parameters
        log.info("camera set", extra={"parameters": dict(found)})

    def grab(self, settings: JobSettings) -> Frame:
        """Take the frame of the part that is in front of the camera now.

        Args:
            settings: those of the part's job, which the camera was last set up for

        Returns:
            The frame, uint8, or uint16 where the settings state levels, [H, W, 3] or [H, W].

        Raises:
            CaptureError: there is no frame, or it must not be scored
        """
        with self._in_turn():
            if settings.camera != self._parameters:
                raise CaptureError(ErrorCode.CAMERA, "the camera is not set up for this job")
            last, self._last_number = self._last_number, None
            frame = self._source.grab(self._timeout_s)
            pixels, number = np.asarray(frame.pixels), frame.number
            self._last_number = number
            previous, self._previous = self._previous, pixels
            shape = self._shape
        wanted, why = (np.uint8, "without") if settings.levels is None else (np.uint16, "with")
        if pixels.dtype != wanted:
            raise CaptureError(
                ErrorCode.FRAME_BAD,
                f"the frame's dtype is {pixels.dtype}, wanted {wanted.__name__} {why} levels",
            )
        if pixels.shape != shape:
            detail = f"the frame's shape is {pixels.shape}, wanted {shape}"
            raise CaptureError(ErrorCode.FRAME_SIZE, detail)
        if not self._repeats and _same(pixels, previous):
            raise CaptureError(
                ErrorCode.FRAME_BAD,
                "the frame is the one before, byte for byte: the camera hangs or repeats a picture",
            )
        if last is not None and number != last + 1:
            detail = f"frame {number} follows frame {last}: the frames between them are lost"
            raise CaptureError(ErrorCode.FRAME_DROPPED, detail)
        return pixels

    @contextmanager
    def _in_turn(self) -> Iterator[None]:
        """Hold the camera, for one thread at a time; every error is a ``CaptureError``."""
        if not self._lock.acquire(timeout=self._timeout_s):
            # Of an inspection that was given up.
            raise CaptureError(ErrorCode.CAMERA_TIMEOUT, "an earlier call of the camera hangs")
        try:
            yield
        except CaptureError:
            raise
        except CameraTimeoutError as error:
            raise CaptureError(ErrorCode.CAMERA_TIMEOUT, str(error)) from error
        except BadFrameError as error:
            raise CaptureError(ErrorCode.FRAME_BAD, str(error)) from error
        except Exception as error:
            detail = f"{type(error).__name__}: {error}"
            raise CaptureError(ErrorCode.CAMERA, detail) from error
        finally:
            self._lock.release()


def _same(frame: NDArray[Any], previous: NDArray[Any] | None) -> bool:
    """Whether two frames have the same pixels. A grid of them differs between most, quickly."""
    if previous is None or frame.shape != previous.shape or frame.dtype != previous.dtype:
        return False
    grid = slice(None, None, 16)
    if not np.array_equal(frame[grid, grid], previous[grid, grid]):
        return False
    return np.array_equal(frame, previous)
