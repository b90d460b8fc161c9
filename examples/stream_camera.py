"""Score every frame of a webcam, a video file or a network stream as it comes.

python examples/stream_camera.py part.rdx camera --frames 100
"""

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from rdx_fast import Detector, RdxError
from rdx_fast.station import CameraError


@contextmanager
def open_camera(name: str) -> Iterator[cv2.VideoCapture]:
    """``name``: index of a webcam, path of a video, or address of a stream."""
    capture = cv2.VideoCapture(int(name) if name.isdecimal() else name)
    try:
        if not capture.isOpened():
            raise CameraError(f"{name}: OpenCV cannot open it: is it there, and not in use?")
        yield capture
    finally:
        capture.release()


def frames_of(capture: cv2.VideoCapture, name: str) -> Iterator[NDArray[np.uint8]]:
    """Frames in BGR, as OpenCV has them, each in memory of its own: the stream may hold several."""
    while True:
        got, frame = capture.read()
        if got:
            yield np.asarray(frame, np.uint8)
        elif Path(name).is_file():
            return  # the video is over
        else:  # a camera has no end: parts go by unseen
            raise CameraError(f"{name}: the camera stopped")


def stream(bundle: Path, name: str, count: int | None) -> None:
    """Print a line for each of ``count`` frames; None is all."""
    with Detector(bundle) as detector, open_camera(name) as camera:
        detector.warmup()
        # Cut the frames, not the results: then each frame that was taken has its verdict.
        frames = islice(frames_of(camera, name), count)
        # The next frame is fetched while this one is scored; results come in order.
        for number, result in enumerate(detector.stream(frames, depth=2, pixel_format="bgr")):
            print(f"frame {number}: {result.verdicts[0]} {result.scores[0]:.4f}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Score every frame of a camera.")
    parser.add_argument("bundle", type=Path, help="engine bundle, as 'rdx-fast export' wrote it")
    parser.add_argument("camera", help="0 for the first webcam, a video file, or rtsp://...")
    parser.add_argument("--frames", type=int, help="stop after so many; else at the end, or Ctrl-C")
    given = parser.parse_args()
    try:
        stream(given.bundle, given.camera, given.frames)
    except (RdxError, ValueError) as error:  # ValueError: frames that are not taken
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        pass  # how a camera's stream ends
