"""Preprocessing: from camera frames to the network's input batch."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import repeat
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rdx_fast.kernels.resize_normalize import Crop, Window, resize_normalize
from rdx_fast.manifest import RESIZE, InputSpec

Frame = NDArray[np.uint8]
Batch = Frame | Sequence[Frame]
FrameWindow = tuple[int, Window]
"""A window of a resized frame, after the frame's index in its batch."""

WORTH_THREADS = 2**20  # bytes of a frame; starting a thread takes as long as resizing half of that

_WANTED = (
    "wanted a uint8 array: one RGB image [H, W, 3], one mono image [H, W], a batch [B, H, W, 3], "
    "or a list of images"
)


def unit_spec(height: int, width: int) -> InputSpec:
    """An input of this size with pixel values in [0, 1], not normalised for any network."""
    return InputSpec(height, width, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), RESIZE)


def as_frames(batch: Batch) -> list[Frame]:
    """Split a batch into frames, each ``[H, W, 3]`` or ``[H, W]`` uint8, without copying.

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
                    f"[H, W] uint8"
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
    windows: Sequence[FrameWindow] | None = None,
) -> NDArray[np.float32]:
    """Resize and normalise frames, or windows of them.

    Args:
        frames: uint8, ``[H, W, 3]`` or ``[H, W]`` of any sizes
        spec: the network's input
        pixel_format: see ``resize_normalize``
        crop: see ``resize_normalize``
        threads: CPU threads, used for ``WORTH_THREADS`` bytes of a frame or more
        windows: of the resized frames; None for each frame as a whole

    Returns:
        ``[B, 3, height, width]`` float32, B the number of frames or of windows

    Raises:
        ValueError: pixel format or crop do not fit a frame
    """
    items = list(enumerate(repeat(None, len(frames)))) if windows is None else windows
    out = np.empty((len(items), 3, spec.height, spec.width), np.float32)
    for (index, window), target in zip(items, out, strict=True):
        frame = frames[index]
        size = frame.nbytes
        if window is not None:
            size = size * spec.height * spec.width // (window.height * window.width)
        several = threads if size >= WORTH_THREADS else 1
        resize_normalize(frame, target, spec.mean, spec.std, pixel_format, crop, several, window)
    return out


def _check_dtype(frame: Any, what: str) -> None:
    if not isinstance(frame, np.ndarray):
        raise ValueError(f"{what} is a {type(frame).__name__}; {_WANTED}")
    if frame.dtype == np.uint8:
        return
    nan = np.issubdtype(frame.dtype, np.floating) and bool(np.isnan(frame).any())
    raise ValueError(
        f"{what} is {frame.dtype}{' with NaN' if nan else ''}; {_WANTED}. Convert it to uint8 "
        f"first, since the range of other dtypes is unknown"
    )
