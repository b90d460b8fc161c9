from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from rdx_fast.images import list_images, read_image
from rdx_fast.station import CameraError
from rdx_fast.station.cameras.opencv import OpenCVCamera
from rdx_fast.station.cameras.source import CameraTimeoutError
from rdx_fast.station.config import CameraConfig
from rdx_fast.station.run import open_source

FOREVER = 60.0


def test_a_video(parts: Path, tmp_path: Path) -> None:
    path = tmp_path / "parts.avi"
    frames = [read_image(p) for p in list_images(parts / "test" / "good")[:3]]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (112, 80))
    for frame in frames:
        writer.write(frame[..., ::-1])
    writer.release()
    camera = open_source(CameraConfig("opencv", path))
    try:
        assert camera.shape == (80, 112, 3)
        for number, frame in enumerate(frames, 1):
            grabbed = camera.grab(FOREVER)
            assert grabbed.number == number
            # JPEG loses a little; swapped colours would be far off.
            assert np.abs(grabbed.pixels.astype(float) - frame).mean() < 8
        with pytest.raises(CameraError, match="video has ended"):
            camera.grab(FOREVER)
    finally:
        camera.close()
    with pytest.raises(CameraError, match="cannot open"):
        OpenCVCamera(tmp_path / "none.avi")


class Stream:
    """A network camera: Motion JPEG over HTTP, of whatever level of gray is before it."""

    def __init__(self) -> None:
        self.level, self.sent, self.running = 50, 0, True
        stream = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
                self.end_headers()
                with suppress(OSError):  # the camera is closed
                    while stream.running:
                        _, jpeg = cv2.imencode(
                            ".jpg", np.full((80, 112, 3), stream.level, np.uint8)
                        )
                        head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {jpeg.size}"
                        self.wfile.write(head.encode() + b"\r\n\r\n" + jpeg.tobytes() + b"\r\n")
                        stream.sent += 1
                        time.sleep(0.02)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/parts.mjpg"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def show(self, level: int, frames: int = 40) -> None:
        """Put something else before it, and let this many frames pass."""
        self.level = level
        until = self.sent + frames
        while self.sent < until:
            time.sleep(0.01)

    def close(self) -> None:
        self.running = False
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def stream() -> Iterator[Stream]:
    opened = Stream()
    yield opened
    opened.close()


def test_a_stream_shows_the_part_that_is_there_now(stream: Stream) -> None:
    camera = open_source(CameraConfig("opencv", device=stream.url))
    try:
        numbers = []
        for level in (50, 200, 120):
            stream.show(level)  # frames that nobody asked for
            grabbed = camera.grab(FOREVER)
            assert grabbed.pixels.mean() == pytest.approx(level, abs=2)
            numbers.append(grabbed.number)
        assert numbers == [1, 2, 3]
    finally:
        camera.close()


def test_a_stream_that_breaks_off_is_opened_again(stream: Stream) -> None:
    camera = OpenCVCamera(stream.url)
    try:
        stream.running = False
        with suppress(CameraError):
            while True:  # what was sent before may still come
                camera.grab(FOREVER)
        with pytest.raises(CameraError, match="the camera stopped"):
            camera.grab(FOREVER)
        stream.level, stream.running = 200, True
        end = time.monotonic() + FOREVER
        grabbed = None
        while grabbed is None and time.monotonic() < end:
            with suppress(CameraError):
                grabbed = camera.grab(0.5)
        assert grabbed is not None
        assert grabbed.pixels.mean() == pytest.approx(200, abs=2)
    finally:
        camera.close()


class SlowCapture:
    """What OpenCV opens; the second frame comes when it is let through."""

    def __init__(self, _: str) -> None:
        self.begun, self.through = threading.Event(), threading.Event()
        self.level = 0
        captures.append(self)

    def isOpened(self) -> bool:
        return True

    def read(self) -> tuple[bool, NDArray[np.uint8]]:
        return self.retrieve()

    def set(self, *_: object) -> None:
        pass

    def grab(self) -> bool:
        self.level += 1
        if self.level == 1:
            self.begun.set()
            self.through.wait()
        return True

    def retrieve(self) -> tuple[bool, NDArray[np.uint8]]:
        return True, np.full((8, 8, 3), self.level, np.uint8)

    def release(self) -> None:
        pass


captures: list[Any] = []


def test_a_frame_that_came_too_late_is_not_the_next_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rdx_fast.station.cameras.opencv.cv2.VideoCapture", SlowCapture)
    (tmp_path / "video").touch()
    camera = OpenCVCamera(tmp_path / "video")
    capture = captures.pop()
    with pytest.raises(CameraTimeoutError, match=r"no frame within 0\.01 s"):
        camera.grab(0.01)
    assert capture.begun.wait(FOREVER)
    # It comes once the next part's call waits.
    wait_for = camera._condition.wait_for

    def let_through(*arguments: Any) -> bool:
        capture.through.set()
        return wait_for(*arguments)

    monkeypatch.setattr(camera._condition, "wait_for", let_through)
    grabbed = camera.grab(FOREVER)
    assert (grabbed.number, int(grabbed.pixels.max())) == (2, 2)
    camera.close()


class SettableCapture:
    """A camera behind a driver that holds four frames, which show the exposure that they had."""

    backend = "V4L2"

    def __init__(self, _: int) -> None:
        self.frames: deque[int] = deque()
        self.open_again = threading.Event()
        self.gone = False
        captures.append(self)
        self.open(0)

    def open(self, _: int) -> bool:
        """As it is after power comes back: with its own values."""
        if self.gone and not self.open_again.wait(0):
            return False
        self.gone = False
        self.values = {
            cv2.CAP_PROP_FRAME_WIDTH: 8.0,
            cv2.CAP_PROP_FRAME_HEIGHT: 8.0,
            cv2.CAP_PROP_AUTO_EXPOSURE: 3.0,
            cv2.CAP_PROP_EXPOSURE: 10.0,
        }
        self.frames.clear()
        return True

    def isOpened(self) -> bool:
        return True

    def getBackendName(self) -> str:
        return self.backend

    def get(self, what: int) -> float:
        return self.values.get(what, -1.0)

    def set(self, what: int, value: float) -> bool:
        if what == cv2.CAP_PROP_EXPOSURE and self.values[cv2.CAP_PROP_AUTO_EXPOSURE] != 1:
            return False
        if what in self.values:
            self.values[what] = float(min(round(value), 200))
        return what in self.values

    def grab(self) -> bool:
        time.sleep(0.001)
        while len(self.frames) < 5 and not self.gone:
            self.frames.append(int(self.values[cv2.CAP_PROP_EXPOSURE]))
        if self.gone:
            return False
        self.level = self.frames.popleft()
        return True

    def retrieve(self) -> tuple[bool, NDArray[np.uint8]]:
        size = [int(self.values[w]) for w in (cv2.CAP_PROP_FRAME_HEIGHT, cv2.CAP_PROP_FRAME_WIDTH)]
        return True, np.full((*size, 3), self.level, np.uint8)

    def read(self) -> tuple[bool, NDArray[np.uint8] | None]:
        got = self.retrieve() if self.grab() else (False, None)
        self.last_read = self.level
        return got

    def release(self) -> None:
        pass


@pytest.fixture
def settable(monkeypatch: pytest.MonkeyPatch) -> Iterator[OpenCVCamera]:
    monkeypatch.setattr("rdx_fast.station.cameras.opencv.cv2.VideoCapture", SettableCapture)
    camera = open_source(CameraConfig("opencv", device=0))
    assert isinstance(camera, OpenCVCamera)
    yield camera
    camera.close()
    captures.clear()


def test_parameters_are_in_force_with_the_next_frame(settable: OpenCVCamera) -> None:
    for exposure_us, level in ((5000, 50), (20_000, 200), (100, 1)):
        # In an order that the camera would not take.
        found = settable.configure({"exposure_us": exposure_us, "auto_exposure": 1})
        assert found == {"auto_exposure": 1.0, "exposure_us": exposure_us}
        assert captures[0].last_read == level, "what the driver held is gone before it returns"
        assert settable.grab(FOREVER).pixels.max() == level
    assert settable.shape == (8, 8, 3)
    wanted = {"width": 6.0, "height": 4.0, "exposure": 7.0}
    assert settable.configure(wanted) == wanted
    assert settable.shape == settable.grab(FOREVER).pixels.shape == (4, 6, 3)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"exposure_us": 5000}, r"does not take exposure_us = 5000, it has 1000: choose a value"),
        ({"auto_exposure": 1, "exposure": 900}, "does not take exposure = 900, it has 200"),
        ({"gain": 1}, "does not take gain = 1, it has -1"),
        (
            {"exposre": 1, "gian": 2},
            "unknown camera parameters: exposre, gian: wanted",
        ),
        ({"gain": "high"}, "camera parameter gain is 'high', wanted a number"),
        ({"exposure": 1, "exposure_us": 100}, "give one of them"),
    ],
)
def test_parameters_that_the_camera_does_not_take(
    settable: OpenCVCamera, parameters: dict[str, Any], message: str
) -> None:
    with pytest.raises(CameraError, match=f"camera 0: .*{message}"):
        settable.configure(parameters)
    assert settable.grab(FOREVER).pixels.shape == (8, 8, 3)


def test_microseconds_need_a_driver_that_has_them(
    settable: OpenCVCamera, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SettableCapture, "backend", "DSHOW")
    with pytest.raises(CameraError, match=r"exposure_us needs the backend V4L2, .* by DSHOW"):
        settable.configure({"auto_exposure": 1, "exposure_us": 100})


def test_a_camera_that_comes_back_has_its_parameters_again(settable: OpenCVCamera) -> None:
    settable.configure({"auto_exposure": 1, "exposure": 90})
    capture: Any = captures[0]
    capture.gone = True
    with suppress(CameraError):
        while True:  # what the driver holds may still come
            settable.grab(FOREVER)
    with pytest.raises(CameraError, match="the camera stopped"):
        settable.configure({"auto_exposure": 1, "exposure": 120})
    capture.open_again.set()
    end = time.monotonic() + FOREVER
    grabbed = None
    while grabbed is None and time.monotonic() < end:
        with suppress(CameraError):
            grabbed = settable.grab(0.5)
    assert grabbed is not None
    assert grabbed.pixels.max() == 90, "what it was last set to, and not what it starts with"


def test_a_camera_that_does_not_answer(
    settable: OpenCVCamera, monkeypatch: pytest.MonkeyPatch
) -> None:
    let_go = threading.Event()
    with monkeypatch.context() as patch:
        patch.setattr("rdx_fast.station.cameras.opencv._CONFIGURE_S", 0.01)
        patch.setattr(SettableCapture, "getBackendName", lambda _: let_go.wait() and "V4L2")
        with pytest.raises(CameraTimeoutError, match=r"not set within 0\.01 s"):
            settable.configure({"auto_exposure": 1, "exposure_us": 1000})
        let_go.set()
    # What came of it late is not the answer to the next call.
    assert settable.configure({"auto_exposure": 3}) == {"auto_exposure": 3.0}


def test_a_video_has_no_parameters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rdx_fast.station.cameras.opencv.cv2.VideoCapture", SettableCapture)
    (tmp_path / "video").touch()
    camera = OpenCVCamera(tmp_path / "video")
    with pytest.raises(CameraError, match="a video file has no parameters"):
        camera.configure({"gain": 1})
    camera.close()
    captures.clear()
