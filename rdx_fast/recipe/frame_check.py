"""Whether a frame can be a picture of a part: brightness, contrast, sharpness, saturation."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rdx_fast.errors import CalibrationError, ImageError, listed
from rdx_fast.images import read_image
from rdx_fast.kernels.resize_normalize import Crop, Levels, Pixels, check_crop, check_levels

_GRID = (16, 32)  # rows and columns that are read of a frame: what is checked shows in few pixels
_BLOCK = (64, 1024)  # rows, and columns of the middle, that are read for its sharpness
# Shares of the range from black to white.
_DARK = 0.02  # brightness of a frame that shows nothing
_FLAT = 0.005  # contrast of a frame that shows nothing but the noise of a camera
_FAR = 0.1  # from the brightness of all good frames, or their spread if that is more
_FEW = 20  # images, of which fewer tell little of the spread
_MORE_SATURATED = 0.25  # share of pixels


class FrameError(ValueError):
    """A frame that cannot be a picture of a part: it must not be scored."""


class FrameLook(NamedTuple):
    """What a frame looks like; values are shares of the range from black to white.

    Attributes:
        brightness: mean of its pixels
        contrast: their standard deviation
        saturated: share of pixels that are white or brighter
    """

    brightness: float
    contrast: float
    saturated: float


@dataclass(frozen=True, slots=True)
class Spread:
    """Of one value over frames.

    Attributes:
        mean: of all frames
        std: standard deviation; 0 for one frame
        low: the smallest
        high: the largest

    Raises:
        ValueError: values contradict each other
    """

    mean: float
    std: float
    low: float
    high: float

    def __post_init__(self) -> None:
        # Written so that NaN fails; means are rounded.
        if not (self.low - 1e-9 <= self.mean <= self.high + 1e-9 and 0 <= self.std < math.inf):
            raise ValueError(f"the spread {self} contradicts itself")

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        of = np.asarray(values, np.float64)
        return cls(float(of.mean()), float(of.std()), float(of.min()), float(of.max()))


@dataclass(frozen=True, slots=True)
class FrameStatistics:
    """What frames of good parts look like.

    Attributes:
        images: number of frames
        brightness: see ``FrameLook``
        contrast: likewise
        saturated: likewise
        sharpness: see ``sharpness_of``
    """

    images: int
    brightness: Spread
    contrast: Spread
    saturated: Spread
    sharpness: Spread

    @classmethod
    def of(
        cls,
        frames: Iterable[Pixels],
        crop: Crop | None = None,
        levels: Levels | None = None,
    ) -> FrameStatistics:
        """Look at frames, see ``look_at``. Raises ``ValueError`` if there are none."""
        return cls._of([_seen(frame, crop, levels) for frame in frames])

    @classmethod
    def of_files(
        cls,
        files: Sequence[Path],
        crop: Crop | None = None,
        levels: Levels | None = None,
        dark_field: bool = False,
    ) -> FrameStatistics:
        """Look at the images of good parts, see ``look_at``.

        Args:
            files: the images
            crop: see ``look_at``
            levels: see ``look_at``
            dark_field: whether images of good parts may be as dark and flat as empty ones of other
                cameras; those that show less than half as much as the others are refused even so

        Raises:
            CalibrationError: some show nothing; they are listed
            ImageError: a file cannot be read, or does not fit crop or levels
            ValueError: there are none
        """
        seen = [_seen_in(file, crop, levels) for file in files]
        least = math.inf
        if dark_field and seen:
            least = float(np.median([look.contrast for look, _ in seen])) / 2
        empty = [f for f, (look, _) in zip(files, seen, strict=True) if _is_empty(look, least)]
        if empty:
            raise CalibrationError(
                f"{len(empty)} of {len(files)} good images show nothing: look what is wrong with "
                f"lamp and camera, and remove these; if good parts look so, as in a dark field, "
                f"say so (dark_field=True, --dark-field):{listed(empty)}"
            )
        return cls._of(seen)

    @classmethod
    def _of(cls, seen: Sequence[tuple[FrameLook, float]]) -> FrameStatistics:
        if not seen:
            raise ValueError("no frames were given: their statistics need at least one")
        values = zip(*((*look, sharpness) for look, sharpness in seen), strict=True)
        return cls(len(seen), *map(Spread.of, values))


def look_at(frame: Pixels, crop: Crop | None = None, levels: Levels | None = None) -> FrameLook:
    """What a frame looks like, from a grid of at most 32 x 64 of its pixels.

    Args:
        frame: uint8 or uint16 [H, W, 3] or [H, W]
        crop: top, left, height, width in pixels; None for all
        levels: grey levels of black and white; None for 0 and 255

    Raises:
        ValueError: the crop exceeds the frame
    """
    top, left, height, width = check_crop(frame.shape[:2], crop)
    down, across = (max(1, n // most) | 1 for n, most in zip((height, width), _GRID, strict=True))
    grid = frame[top : top + height : down, left : left + width : across]
    black, white = check_levels(frame.dtype, levels)
    values = grid.astype(np.float64).ravel()
    mean = values.sum() / values.size
    variance = max(values @ values / values.size - mean**2, 0.0)
    return FrameLook(
        brightness=float((mean - black) / (white - black)),
        contrast=math.sqrt(variance) / (white - black),
        saturated=float(np.count_nonzero(grid >= white) / grid.size),
    )


def _seen(frame: Pixels, crop: Crop | None, levels: Levels | None) -> tuple[FrameLook, float]:
    return look_at(frame, crop, levels), sharpness_of(frame, crop, levels)


def _seen_in(file: Path, crop: Crop | None, levels: Levels | None) -> tuple[FrameLook, float]:
    frame = read_image(file)
    try:
        return _seen(frame, crop, levels)
    except ValueError as error:
        raise ImageError(file, str(error)) from error


def sharpness_of(frame: Pixels, crop: Crop | None = None, levels: Levels | None = None) -> float:
    """Mean difference of neighbours in a row, from some rows of the middle columns. Arguments: see
    ``look_at``."""
    top, left, height, width = check_crop(frame.shape[:2], crop)
    down = max(1, height // _BLOCK[0]) | 1
    columns = min(width, _BLOCK[1])
    left += (width - columns) // 2
    rows = _as_shares(frame[top : top + height : down, left : left + columns], levels)
    apart = 2 if frame.ndim == 2 else 1  # in a Bayer pattern the next pixel of the same colour
    return float(np.abs(rows[:, apart:] - rows[:, :-apart]).mean()) if columns > apart else 0.0


def _as_shares(values: Pixels, levels: tuple[int, int] | None) -> NDArray[np.float32]:
    """Pixel values as shares of the range from black to white."""
    black, white = check_levels(values.dtype, levels)
    return (values.astype(np.float32) - black) / np.float32(white - black)


def check_frame(look: FrameLook, good: FrameStatistics | None) -> None:
    """Raises ``FrameError`` if a frame cannot be a picture of a part.

    Args:
        look: of the frame
        good: of good parts; None where it is not known
    """
    # Good parts in a dark field may show less than other parts' cameras without light.
    least = math.inf if good is None else good.contrast.mean / 2
    if look.brightness <= _DARK and look.contrast <= min(_DARK, least):
        raise FrameError("the frame is black: check lamp, lens cap and exposure")
    if look.contrast <= min(_FLAT, least):
        raise FrameError(
            f"the frame has no contrast, its brightness is {look.brightness:.1%} everywhere: check "
            f"lamp, lens cap and exposure"
        )
    if good is None:
        return
    if look.saturated > good.saturated.high + _MORE_SATURATED:
        raise FrameError(
            f"{look.saturated:.0%} of the frame is saturated, of good parts at most "
            f"{good.saturated.high:.0%}: check lamp and exposure"
        )
    low, high = good.brightness.low, good.brightness.high
    margin = max(_FAR, high - low) * (1 if good.images >= _FEW else 2)
    if not low - margin <= look.brightness <= high + margin:
        raise FrameError(
            f"the brightness of the frame is {look.brightness:.1%}, far from that of good parts, "
            f"{low:.1%} to {high:.1%}: check lamp, exposure and what the camera sees"
        )


def _is_empty(look: FrameLook, least: float) -> bool:
    """Whether a frame shows nothing, and has less contrast than ``least``."""
    try:
        check_frame(look, None)
    except FrameError:
        return look.contrast < least
    return False


class FrameCheck:
    """Refuses frames that must not be scored.

    Args:
        size: wanted height and width in pixels; None for any
        look: whether frames that cannot be pictures of a part are refused too, see ``check_frame``
        good: what frames of good parts look like; None where it is not known
    """

    def __init__(
        self, size: tuple[int, int] | None, look: bool, good: FrameStatistics | None
    ) -> None:
        self._size, self._look, self._good = size, look, good

    def __call__(self, frame: Pixels, crop: Crop | None, levels: Levels | None) -> None:
        """Raises ``FrameError`` if a frame in host memory shows what is no picture of a part."""
        if self._look:
            check_frame(look_at(frame, crop, levels), self._good)

    def on_device(self, shape: Sequence[int] | None) -> None:
        """The same for frames on a GPU, ``[B, H, W, 3]``, ``[B, H, W]``, ``[H, W, 3]`` or ``[H,
        W]``, of which the size alone is checked; None for an array that does not tell its shape."""
        if shape is None:
            if self._size is not None:
                raise FrameError(
                    "the array on the GPU does not tell its shape, and the recipe states the "
                    "frame's: give an array with a shape"
                )
            return
        colour = len(shape) > 2 and shape[-1] == 3
        self.size(tuple(shape[-3:-1] if colour else shape[-2:]))

    def size(self, shape: tuple[int, ...]) -> None:
        """Raises ``FrameError`` for another height and width than the recipe's."""
        if self._size is not None and shape != self._size:
            raise FrameError(
                f"the frame is {' x '.join(map(str, shape))} pixels, the recipe is for "
                f"{' x '.join(map(str, self._size))}: change the camera's setting or the recipe"
            )
