"""Preprocessing: from camera frames to the network's input batch."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import repeat
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rdx_fast.bundle.manifest import RESIZE, InputSpec
from rdx_fast.kernels.resize_normalize import (
    Crop,
    Levels,
    Pixels,
    check_crop,
    check_levels,
    check_pixel_format,
    resize_normalize,
)
from rdx_fast.kernels.resize_taps import Window
from rdx_fast.recipe.recipe import InspectionRecipe
from rdx_fast.recipe.tiling import TileSpec

Frame = Pixels
Batch = Frame | Sequence[Frame]
FrameWindow = tuple[int, Window]
"""A window of a resized frame, after the frame's index in its batch."""

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
    windows: Sequence[FrameWindow] | None = None,
) -> NDArray[np.float32]:
    """Resize and normalise frames, or windows of them.

    Args:
        frames: uint8 or uint16, ``[H, W, 3]`` or ``[H, W]`` of any sizes
        spec: the network's input
        pixel_format: see ``resize_normalize``
        crop: see ``resize_normalize``
        threads: CPU threads, used for ``WORTH_THREADS`` values of a frame or more
        levels: see ``resize_normalize``
        windows: of the resized frames; None for each frame as a whole

    Returns:
        ``[B, 3, height, width]`` float32, B the number of frames or of windows

    Raises:
        ValueError: pixel format, crop or levels do not fit a frame
    """
    items = list(enumerate(repeat(None, len(frames)))) if windows is None else windows
    out = np.empty((len(items), 3, spec.height, spec.width), np.float32)
    for (index, window), target in zip(items, out, strict=True):
        frame = frames[index]
        size = frame.size
        if window is not None:
            size = size * spec.height * spec.width // (window.height * window.width)
        several = threads if size >= WORTH_THREADS else 1
        resize_normalize(
            frame, target, spec.mean, spec.std, pixel_format, crop, several, levels, window
        )
    return out


class FrameOptions(NamedTuple):
    """How frames of one camera are read.

    Attributes:
        pixel_format: as for ``Detector.score``
        crop: likewise
        levels: likewise
        tiles: that frames are scored in; None for whole frames
    """

    pixel_format: str | None = None
    crop: Crop | None = None
    levels: Levels | None = None
    tiles: TileSpec | None = None

    @classmethod
    def of_recipe(
        cls,
        recipe: InspectionRecipe,
        pixel_format: str | None = None,
        crop: Crop | None = None,
        levels: Levels | None = None,
    ) -> FrameOptions:
        """What a recipe states; what it does not, as given.

        Raises:
            ValueError: the recipe states something else than what is given, or has regions, which a
                crop that is not the recipe's would move
        """
        frame = recipe.frame
        stated = cls(frame.pixel_format, frame.crop, frame.levels, recipe.tiles)
        given = cls(pixel_format, crop, levels)
        for name, known, wanted in zip(cls._fields, stated, given, strict=True):
            if wanted is not None and known not in (None, wanted):
                raise ValueError(
                    f"{name} is {wanted} and the recipe states {known}: leave it out, or change "
                    f"the recipe (rdx-fast recipe)"
                )
        if crop is not None and frame.crop is None and recipe.regions:
            raise ValueError(
                f"crop is {crop}, and the recipe has regions and states no crop: leave it out, or "
                f"put it into the recipe and calibrate the limits again (rdx-fast recipe)"
            )
        return cls(
            stated.pixel_format or pixel_format,
            stated.crop or crop,
            stated.levels or levels,
            stated.tiles,
        )

    def check(self, frame: Frame) -> Crop:
        """The part of a frame that is used. Raises ``ValueError`` if the options do not fit it."""
        check_pixel_format(frame.shape, self.pixel_format)
        check_levels(frame.dtype, self.levels)
        shown = check_crop(frame.shape[:2], self.crop)
        if self.tiles is not None:
            self.tiles.check(shown[2:])
        return shown

    def to_input(
        self,
        frame: Frame,
        spec: InputSpec,
        crop: Crop | None = None,
        window: Window | None = None,
    ) -> NDArray[np.float32]:
        """A frame, or a window of it, resized and normalised, ``[3, height, width]`` float32.

        Args:
            frame: uint8 or uint16, ``[H, W, 3]`` or ``[H, W]``
            spec: the network's input
            crop: instead of the options' own
            window: of the resized frame; None for all of it

        Raises:
            ValueError: the options do not fit the frame
        """
        crop = crop or self.crop
        windows = None if window is None else [(0, window)]
        return to_input(
            [frame], spec, self.pixel_format, crop, levels=self.levels, windows=windows
        )[0]


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
