"""Cameras, streams and video files through OpenCV."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rdx_fast.errors import MissingDependencyError
from rdx_fast.station.cameras.opencv_parameters import set_parameters
from rdx_fast.station.cameras.source import CameraError, CameraFrame, CameraTimeoutError
from rdx_fast.station.settings import Parameter

try:
    import cv2
except ModuleNotFoundError as _error:
    if _error.name != "cv2":
        raise
    raise MissingDependencyError("opencv-python-headless", "OpenCV cameras", "opencv") from None

log = logging.getLogger(__name__)

_REOPEN_S = 0.5
_CONFIGURE_S = 10.0
# Frames that the driver may hold from before its parameters were set: V4L2 has four buffers.
_BUFFERED = 4


@dataclass(slots=True)
class _Request:
    """Parameters to set, and what came of it."""

    parameters: dict[str, Parameter]
    told: dict[str, float] | CameraError | None = None


class OpenCVCamera:
    """A UVC camera, a stream or a video file.

    Cameras and streams are read continuously, and ``grab`` returns the first frame whose reading
    starts after the call, so a stale, buffered frame is never scored. If a camera or stream stops,
    it is reopened until it works again. A video file is read frame by frame, each frame once; its
    end is an error. Frames are read in a separate thread, because OpenCV's read has no timeout.

    Args:
        device: index or device file of a camera, address of a stream, or path of a video file

    Raises:
        CameraError: OpenCV cannot open the device, or it gives no frame
    """

    def __init__(self, device: int | str | Path) -> None:
        self._live = isinstance(device, int) or not Path(device).is_file()
        self.repeats = not self._live  # what was recorded may stand still
        self._device = str(device) if isinstance(device, Path) else device
        self._name = f"camera {device}" if isinstance(device, int) else str(device)
        self._capture = cv2.VideoCapture(self._device)
        if not self._capture.isOpened():
            raise CameraError(
                f"{self._name}: OpenCV cannot open it: check that it exists and is not in use by "
                f"another program"
            )
        got, first = self._capture.read()
        if not got:
            raise CameraError(f"{self._name}: opened, but gives no frame")
        self._shape: tuple[int, ...] = np.asarray(first).shape
        if not self._live:
            self._capture.set(cv2.CAP_PROP_POS_FRAMES, 0)
        self._condition = threading.Condition()
        self._closed = False
        self._calls = 0  # number of calls of grab
        self._waiting: int | None = None  # number of the call that waits
        self._fresh: NDArray[Any] | None = None
        self._failed = False
        self._number = 0
        self._request: _Request | None = None
        self._parameters: dict[str, Parameter] = {}  # in force
        self._thread = threading.Thread(target=self._read, name="opencv-camera", daemon=True)
        self._thread.start()

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the first frame since the last ``configure``: ``(H, W)`` or ``(H, W, 3)``."""
        return self._shape

    def configure(self, parameters: Mapping[str, Parameter]) -> dict[str, float]:
        """Set parameters, read them back, and discard the frames that the driver holds from before.

        They are set again whenever the camera is reopened.

        Args:
            parameters: values by name, see ``rdx_fast.station.cameras.opencv_parameters``

        Returns:
            The values that the camera has now.

        Raises:
            CameraError: it is a video file, a name is unknown, or the camera does not take a value
            CameraTimeoutError: the camera does not answer
        """
        if not self._live:
            raise CameraError(f"{self._name}: a video file has no parameters: leave them out")
        request = _Request(dict(parameters))
        with self._condition:
            self._request = request
            self._condition.wait_for(lambda: request.told is not None, _CONFIGURE_S)
            self._request = None
        if request.told is None:
            raise CameraTimeoutError(f"{self._name}: not set within {_CONFIGURE_S:g} s")
        if isinstance(request.told, CameraError):
            raise request.told
        return request.told

    def grab(self, timeout_s: float) -> CameraFrame:
        """Wait for the first frame whose reading starts after this call.

        Args:
            timeout_s: longest wait in seconds

        Returns:
            The frame, RGB or grey.

        Raises:
            CameraTimeoutError: no frame arrived in time
            CameraError: the camera stopped, or the video has ended
        """
        with self._condition:
            self._calls += 1
            self._waiting, self._fresh, self._failed = self._calls, None, False
            self._condition.notify_all()
            self._condition.wait_for(lambda: self._fresh is not None or self._failed, timeout_s)
            self._waiting = None
            if self._failed:
                what = "the camera stopped" if self._live else "the video has ended"
                raise CameraError(f"{self._name}: no more frames: {what}")
            if self._fresh is None:
                raise CameraTimeoutError(f"{self._name}: no frame within {timeout_s:g} s")
            self._number += self._live
            return CameraFrame(self._fresh, self._number)

    def _read(self) -> None:
        while True:
            with self._condition:
                if not self._live:
                    self._condition.wait_for(lambda: self._waiting or self._closed)
                if self._closed:
                    return
                caller = self._waiting  # called before the reading of this frame begins
                request = self._request
            if request is not None and request.told is None:
                self._tell(request, self._set(request.parameters))
                continue
            got, frame = self._capture.grab(), None
            if got and caller:  # most frames of a live camera show no part and need no decoding
                got, frame = self._capture.retrieve()
            with self._condition:
                self._number += not self._live  # a frame that came too late leaves a gap
                if caller and caller == self._waiting:
                    self._answer(np.asarray(frame) if got else None)
            if not got and self._live:
                self._reopen()

    def _answer(self, frame: NDArray[Any] | None) -> None:
        """Give the waiting call its frame, or None if there is none."""
        self._failed = frame is None
        self._fresh = None if frame is None else _to_rgb(frame)
        self._waiting = None
        self._condition.notify_all()

    def _set(self, parameters: dict[str, Parameter]) -> dict[str, float] | CameraError:
        """Set parameters in the thread that reads, the only one that may use the capture."""
        try:
            found = set_parameters(self._capture, parameters)
        except CameraError as error:
            return CameraError(f"{self._name}: {error}")
        got = all(self._capture.grab() for _ in range(_BUFFERED))
        got, frame = self._capture.read() if got else (False, None)
        if not got:
            return CameraError(f"{self._name}: no frame after its parameters were set")
        self._shape, self._parameters = np.asarray(frame).shape, parameters
        return found

    def _tell(self, request: _Request, told: dict[str, float] | CameraError) -> None:
        with self._condition:
            request.told = told
            self._condition.notify_all()

    def _open_again(self) -> bool:
        """Open the camera with the parameters in force."""
        if not self._capture.open(self._device):
            return False
        if not self._parameters:
            return True
        told = self._set(self._parameters)
        if isinstance(told, CameraError):
            log.error("camera refuses its parameters", extra={"detail": str(told)})
        return not isinstance(told, CameraError)

    def _reopen(self) -> None:
        log.error("camera stopped", extra={"camera": self._name})
        while not self._open_again():
            with self._condition:
                if self._waiting:
                    self._answer(None)
                if self._request is not None:
                    self._tell(self._request, CameraError(f"{self._name}: the camera stopped"))
                if self._condition.wait_for(lambda: self._closed, _REOPEN_S):
                    return
        log.info("camera is back", extra={"camera": self._name})

    def close(self) -> None:
        """Release the camera, unless it hangs in a read."""
        with self._condition:
            self._closed = True
            self._condition.notify_all()
        self._thread.join(timeout=2)
        if not self._thread.is_alive():  # else it hangs in a read, when release is unsafe
            self._capture.release()


def _to_rgb(frame: NDArray[Any]) -> NDArray[Any]:
    return frame if frame.ndim == 2 else np.ascontiguousarray(frame[..., ::-1])
