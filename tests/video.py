"""Frames of a video through OpenCV, as a process of its own: its libraries and torch's do not bear
each other in one."""

import sys
from pathlib import Path

import cv2
import numpy as np

from rdx_fast.images import list_images, read_image
from rdx_fast.line import CameraError
from rdx_fast.line.opencv_camera import OpenCVCamera


def main(folder: str, path: str) -> None:
    """Write the first photographs of a folder as a video, and read it."""
    frames = [read_image(p) for p in list_images(Path(folder))[:3]]
    writer = cv2.VideoWriter(path, cv2.VideoWriter_fourcc(*"MJPG"), 10, (112, 80))
    for frame in frames:
        writer.write(frame[..., ::-1])
    writer.release()
    camera = OpenCVCamera(path)
    assert camera.shape == (80, 112, 3)
    for number, frame in enumerate(frames, 1):
        grabbed = camera.grab(20)
        assert grabbed.number == number
        # JPEG loses a little; swapped colours would be far off.
        assert np.abs(grabbed.pixels.astype(float) - frame).mean() < 8
    assert "video is over" in fails(lambda: camera.grab(20))
    camera.close()
    assert "cannot open" in fails(lambda: OpenCVCamera(path + ".none"))


def fails(act) -> str:
    try:
        act()
    except CameraError as error:
        return str(error)
    return "it did not fail"


if __name__ == "__main__":
    main(*sys.argv[1:])
    print("done")
