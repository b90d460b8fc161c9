"""The protocol of frame sources, and sources that need no camera.

A further source, such as GenICam, is one more class with the members of ``FrameSource``, and with
that of ``Configurable`` if jobs can set its parameters.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from rdx_fast.errors import ImageError, RdxError
from rdx_fast.images import list_images, read_image
from rdx_fast.preprocess import Frame
from rdx_fast.station.settings import Parameter


class CameraError(RdxError):
    """A frame source cannot deliver a frame."""


class CameraTimeoutError(CameraError):
    """No frame arrived in time."""


class BadFrameError(CameraError):
    """A frame arrived, but is incomplete or unreadable."""


@dataclass(frozen=True, slots=True)
class CameraFrame:
    """One frame of a camera.

    Attributes:
        pixels: uint8, or uint16 where the station's ``levels`` are given; [H, W, 3] or [H, W], of
            the station's ``pixel_format``. The source must not write to the array afterwards: the
            frame of a rejected part is stored later, so copy a driver's buffer before it is queued
            again
        number: the camera's own frame count, one more for each frame. A gap shows that frames were
            lost between two that were fetched. A source unwraps counters that start again, such as
            the 16-bit block ids of GigE Vision
    """

    pixels: Frame
    number: int


class FrameSource(Protocol):
    """The interface of a camera. Called from one thread at a time.

    A source may have an attribute ``repeats``. Unless it is True, a frame with the same pixels as
    the one before is an error: a camera's noise makes every frame another.
    """

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of every frame: ``(H, W)`` or ``(H, W, 3)``, until ``configure`` is called."""

    def grab(self, timeout_s: float) -> CameraFrame:
        """Take or wait for the frame of the part that is in front of the camera now.

        Args:
            timeout_s: longest wait in seconds

        Returns:
            The frame.

        Raises:
            CameraTimeoutError: no frame arrived in time
            BadFrameError: the frame is incomplete or unreadable
            CameraError: the camera failed
        """

    def close(self) -> None:
        """Release the camera."""


@runtime_checkable
class Configurable(Protocol):
    """What a ``FrameSource`` has besides, if its parameters can be set."""

    def configure(self, parameters: Mapping[str, Parameter]) -> Mapping[str, Parameter]:
        """Set parameters and read them back. No frame that was exposed before is delivered after.

        Args:
            parameters: values by name

        Returns:
            The values that the camera has now, by the same names.

        Raises:
            CameraError: a parameter is unknown, or the camera does not take its value
        """


class StillImage:
    """Delivers the same image each time, for commissioning.

    Args:
        path: the image file

    Raises:
        ImageError: the file cannot be read
    """

    repeats = True

    def __init__(self, path: Path) -> None:
        self._pixels = read_image(path)
        self._number = 0

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the image: ``(H, W)`` or ``(H, W, 3)``."""
        return self._pixels.shape

    def grab(self, timeout_s: float) -> CameraFrame:
        """Return the image at once.

        Args:
            timeout_s: not used
        """
        self._number += 1
        return CameraFrame(self._pixels, self._number)

    def close(self) -> None:
        """Nothing to release."""


class FolderReplay:
    """Delivers the images of a folder in the order of their names, in a loop.

    Each file is read when its turn comes: a file that cannot be read is a ``BadFrameError`` of that
    grab only.

    Args:
        folder: folder of images
        rate: frames per second of a simulated free-running camera, which keeps the last ``buffers``
            frames: frames that are fetched too late are lost, and the frame numbers show it. None
            to deliver the next image at once at each ``grab``
        buffers: frames that the simulated camera keeps, at least 1
        clock: returns monotonic seconds
        sleep: waits for a number of seconds

    Raises:
        ValueError: ``rate`` or ``buffers`` is too small
        DatasetError: the folder is missing or holds no images
        ImageError: the first image cannot be read
    """

    repeats = True  # a folder may hold a picture twice

    def __init__(
        self,
        folder: Path,
        rate: float | None = None,
        buffers: int = 4,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        if rate is not None and rate <= 0:
            raise ValueError(f"rate is {rate}, wanted more than 0 frames per second")
        if buffers < 1:
            raise ValueError(f"buffers is {buffers}, wanted at least 1")
        self._files = list_images(folder)
        self._rate, self._buffers = rate, buffers
        self._clock, self._sleep = clock, sleep
        self._shape = read_image(self._files[0]).shape
        self._begin: float | None = None
        self._next = 0

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the first image: ``(H, W)`` or ``(H, W, 3)``."""
        return self._shape

    def grab(self, timeout_s: float) -> CameraFrame:
        """Return the next image; with a ``rate``, wait until it is due.

        Args:
            timeout_s: longest wait in seconds

        Returns:
            The image, with its frame number.

        Raises:
            CameraTimeoutError: the next image is due later
            BadFrameError: the image cannot be read
        """
        if self._rate is not None:
            now = self._clock()
            self._begin = now if self._begin is None else self._begin
            taken = int((now - self._begin) * self._rate) + 1
            self._next = max(self._next, taken - self._buffers)
            wait = self._begin + self._next / self._rate - now
            if wait > timeout_s:
                self._sleep(timeout_s)
                raise CameraTimeoutError(
                    f"no frame within {timeout_s:g} s: the next is due in {wait:.3f} s"
                )
            if wait > 0:
                self._sleep(wait)
        number = self._next
        self._next += 1
        try:
            pixels = read_image(self._files[number % len(self._files)])
        except ImageError as error:
            raise BadFrameError(str(error)) from error
        return CameraFrame(pixels, number)

    def close(self) -> None:
        """Nothing to release."""
