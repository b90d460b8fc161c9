"""Preprocessing: from camera frames to the network's input batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rdx_fast.kernels.resize_normalize import (
    Crop,
    Levels,
    Pixels,
    check_crop,
    check_levels,
    check_pixel_format,
    resize_normalize,
)
from rdx_fast.manifest import RESIZE, InputSpec

Frame = Pixels
Batch = Frame | Sequence[Frame]

WORTH_THREADS = 2**20  # values of a frame; starting a thread takes as long as resizing half of that

_WANTED = (
    "wanted a uint8 or uint16 array: one RGB image [H, W, 3], one mono image [H, W], a batch "
    "[B, H, W, 3], or a list of images"
)


def unit_spec(height: int, width: int) -> InputSpec:
    """An input of this size with pixel values in [0, 1], not normalised for any network."""
    return InputSpec(height, width, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), RESIZE)


def as_frames(batch: Batch) -> list[Frame]:
    """Split a batch into frames, each ``[H, W, 3]`` or ``[H, W]``, without copying.

    Raises:
        ValueError: another type, dtype or shape, or no pixels
    """
    if isinstance(batch, np.ndarray):
        _check_dtype(batch, "the batch")
        if batch.ndim == 2 or (batch.ndim == 3 and batch.shape[2] == 3):
            frames = [batch]
        elif batch.ndim == 4 and batch.shape[3] == 3:
            frames = list(batch)
        else:
            raise ValueError(f"the batch has shape {list(batch.shape)}; {_WANTED}")
    elif isinstance(batch, list | tuple):
        frames = list(batch)
        for i, frame in enumerate(frames):
            _check_dtype(frame, f"image {i} of the list")
            if frame.ndim != 2 and not (frame.ndim == 3 and frame.shape[2] == 3):
                raise ValueError(
                    f"image {i} of the list has shape {list(frame.shape)}; wanted [H, W, 3] or "
                    f"[H, W]"
                )
    else:
        raise ValueError(f"the batch is a {type(batch).__name__}; {_WANTED}")
    if not frames:
        raise ValueError(f"the batch is empty; {_WANTED}")
    for i, frame in enumerate(frames):
        if 0 in frame.shape:
            raise ValueError(f"image {i} has shape {list(frame.shape)}: it has no pixels")
    return frames


def to_input(
    frames: Sequence[Frame],
    spec: InputSpec,
    pixel_format: str | None = None,
    crop: Crop | None = None,
    threads: int = 1,
    levels: Levels | None = None,
) -> NDArray[np.float32]:
    """Resize and normalise frames.

    Args:
        frames: uint8 or uint16, ``[H, W, 3]`` or ``[H, W]`` of any sizes
        spec: the network's input
        pixel_format: see ``resize_normalize``
        crop: see ``resize_normalize``
        threads: CPU threads, used for frames of ``WORTH_THREADS`` values or more
        levels: see ``resize_normalize``

    Returns:
        ``[B, 3, height, width]`` float32

    Raises:
        ValueError: pixel format, crop or levels do not fit a frame
    """
    out = np.empty((len(frames), 3, spec.height, spec.width), np.float32)
    for frame, target in zip(frames, out, strict=True):
        several = threads if frame.size >= WORTH_THREADS else 1
        resize_normalize(frame, target, spec.mean, spec.std, pixel_format, crop, several, levels)
    return out


class FrameOptions(NamedTuple):
    """How frames of one camera are read.

    Attributes:
        pixel_format: as for ``Detector.score``
        crop: likewise
        levels: likewise
    """

    pixel_format: str | None = None
    crop: Crop | None = None
    levels: Levels | None = None

    def check(self, frame: Frame) -> Crop:
        """The part of a frame that is used. Raises ``ValueError`` if the options do not fit it."""
        check_pixel_format(frame.shape, self.pixel_format)
        check_levels(frame.dtype, self.levels)
        return check_crop(frame.shape[:2], self.crop)

    def to_input(
        self, frame: Frame, spec: InputSpec, crop: Crop | None = None
    ) -> NDArray[np.float32]:
        """A frame resized and normalised, ``[3, height, width]`` float32.

        Args:
            frame: uint8 or uint16, ``[H, W, 3]`` or ``[H, W]``
            spec: the network's input
            crop: instead of the options' own

        Raises:
            ValueError: the options do not fit the frame
        """
        crop = crop or self.crop
        return to_input([frame], spec, self.pixel_format, crop, levels=self.levels)[0]


def _check_dtype(frame: Any, what: str) -> None:
    if not isinstance(frame, np.ndarray):
        raise ValueError(f"{what} is a {type(frame).__name__}; {_WANTED}")
    if frame.dtype in (np.uint8, np.uint16):
        return
    nan = np.issubdtype(frame.dtype, np.floating) and bool(np.isnan(frame).any())
    raise ValueError(
        f"{what} is {frame.dtype}{' with NaN' if nan else ''}; {_WANTED}. Convert it to "
        f"one of these first, since the range of other dtypes is unknown"
    )
