"""Cameras and video files through OpenCV; the one file that imports it."""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rdx_fast.errors import MissingDependencyError
from rdx_fast.line.cameras import CameraError, CameraFrame, CameraTimeoutError

try:
    import cv2
except ModuleNotFoundError as _error:
    if _error.name != "cv2":
        raise
    raise MissingDependencyError("opencv-python-headless", "a camera by OpenCV", "opencv") from None


class OpenCVCamera:
    """A UVC camera by its index, or a video by file or address.

    A live camera runs on; ``grab`` gives the first frame that is read after the call, so that it
    shows the part that stands there now. A file is read frame by frame, each once, and its end is
    an error. OpenCV cannot be asked whether a frame is coming, so a thread reads."""

    def __init__(self, device: int | str) -> None:
        self._live = isinstance(device, int)
        self._name = f"camera {device}" if self._live else str(device)
        self._capture = cv2.VideoCapture(device)
        if not self._capture.isOpened():
            raise CameraError(f"{self._name}: OpenCV cannot open it: is it there, and not in use?")
        got, first = self._capture.read()
        if not got:
            raise CameraError(f"{self._name}: opened, and gives no frame")
        self._shape: tuple[int, ...] = np.asarray(first).shape
        if not self._live:
            self._capture.set(cv2.CAP_PROP_POS_FRAMES, 0)
        self._condition = threading.Condition()
        self._wanted = self._closed = False
        self._fresh: NDArray[Any] | None = None
        self._failed = False
        self._number = 0
        self._thread = threading.Thread(target=self._read, name="opencv-camera", daemon=True)
        self._thread.start()

    @property
    def shape(self) -> tuple[int, ...]:
        return self._shape

    def grab(self, timeout_s: float) -> CameraFrame:
        with self._condition:
            self._wanted, self._fresh, self._failed = True, None, False
            self._condition.notify_all()
            self._condition.wait_for(lambda: self._fresh is not None or self._failed, timeout_s)
            self._wanted = False
            if self._failed:
                what = "the camera stopped" if self._live else "the video is over"
                raise CameraError(f"{self._name}: no more frames: {what}")
            if self._fresh is None:
                raise CameraTimeoutError(f"{self._name}: no frame within {timeout_s:g} s")
            self._number += self._live
            return CameraFrame(self._fresh, self._number)

    def _read(self) -> None:
        while True:
            with self._condition:
                if not self._live:
                    self._condition.wait_for(lambda: self._wanted or self._closed)
                if self._closed:
                    return
                wanted = self._wanted  # asked for before this frame is begun
            got, read = self._capture.read()
            frame = np.asarray(read)
            with self._condition:
                self._number += not self._live  # a frame that came too late is missed by its number
                if wanted and self._wanted:
                    self._failed = not got
                    self._fresh = _to_rgb(frame) if got else None
                    self._wanted = False
                    self._condition.notify_all()
            if not got:
                time.sleep(0.05)

    def close(self) -> None:
        with self._condition:
            self._closed = True
            self._condition.notify_all()
        self._thread.join(timeout=2)
        self._capture.release()


def _to_rgb(frame: NDArray[Any]) -> NDArray[Any]:
    return frame if frame.ndim == 2 else np.ascontiguousarray(frame[..., ::-1])
