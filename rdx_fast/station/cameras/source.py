"""Where frames come from: the protocol of three members, and sources that need no camera.

A GenICam source would be one more class with these members, in a file of its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from rdx_fast.errors import ImageError, RdxError
from rdx_fast.images import list_images, read_image


class CameraError(RdxError):
    """A source cannot deliver a frame."""


class CameraTimeoutError(CameraError):
    """No frame came in time."""


class BadFrameError(CameraError):
    """A frame came, and is not whole."""


@dataclass(frozen=True, slots=True)
class CameraFrame:
    """``pixels``: uint8 ``[H, W, 3]`` RGB or ``[H, W]``; ``number``: the camera's own count of its
    frames, one more each time. A gap tells that frames were lost between two that were fetched."""

    pixels: NDArray[np.uint8]
    number: int


class FrameSource(Protocol):
    """A camera, as the station sees it. Called from one thread at a time."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of every frame: ``(H, W)`` or ``(H, W, 3)``."""

    def grab(self, timeout_s: float) -> CameraFrame:
        """The picture of the part that stands before the camera now: take it, or wait for it.

        Raises ``CameraTimeoutError`` (none in time), ``BadFrameError`` (not whole),
        ``CameraError``."""

    def close(self) -> None:
        """Free the camera."""


class StillImage:
    """One photograph, again and again: for commissioning."""

    def __init__(self, path: Path) -> None:
        self._pixels = read_image(path)
        self._number = 0

    @property
    def shape(self) -> tuple[int, ...]:
        return self._pixels.shape

    def grab(self, timeout_s: float) -> CameraFrame:
        self._number += 1
        return CameraFrame(self._pixels, self._number)

    def close(self) -> None:
        pass


class FolderReplay:
    """The images of a folder in order of name, again from the start after the last.

    ``rate``: frames a second, as of a camera that waits for nobody and keeps the last ``buffers``
    frames; frames that are fetched too late are lost, and the numbers show it. Without a rate each
    ``grab`` is answered at once with the next. Files are read as they come: a bad one is an error
    of its own. ``clock``: monotonic seconds."""

    def __init__(
        self,
        folder: Path,
        rate: float | None = None,
        buffers: int = 4,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        if rate is not None and rate <= 0:
            raise ValueError(f"rate is {rate}, wanted frames a second above 0")
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
        return self._shape

    def grab(self, timeout_s: float) -> CameraFrame:
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
        pass
