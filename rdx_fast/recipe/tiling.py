"""Tiles of frames larger than the network's input: where they lie, and how their maps are blended.

The frame, or its crop, is resized as a whole to a working image, in which a tile has the size of
the network's input. Tiles are windows of that image at whole pixels, so no tile is resized by
itself, and neighbours show the same pixels where they overlap.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from rdx_fast.kernels.resize_taps import Window


@dataclass(frozen=True, slots=True)
class TileSpec:
    """Tiles that a frame is scored in.

    Attributes:
        height: of a tile in frame pixels, which is resized to the network's input
        width: likewise
        overlap: of neighbouring tiles in frame pixels, at least; at most half a tile

    Raises:
        ValueError: a value is out of range or no integer
    """

    height: int
    width: int
    overlap: int = 0

    def __post_init__(self) -> None:
        for name, least in (("height", 1), ("width", 1), ("overlap", 0)):
            value = getattr(self, name)
            if type(value) is not int or value < least:  # True is an int
                raise ValueError(
                    f"{name} of the tiles is {value!r}, wanted a whole number of frame pixels, at "
                    f"least {least}"
                )
        if 2 * self.overlap > min(self.height, self.width):
            raise ValueError(
                f"overlap is {self.overlap}, and the tiles are {self.height} x {self.width}: "
                f"wanted at most half of the smaller side"
            )

    def check(self, frame: tuple[int, int]) -> None:
        """Raises ``ValueError`` if a tile is larger than a frame of this height and width."""
        if self.height > frame[0] or self.width > frame[1]:
            raise ValueError(
                f"tiles of {self.height} x {self.width} pixels are larger than the frame (or its "
                f"crop) of {frame[0]} x {frame[1]}: give smaller tiles or larger frames"
            )


def largest_tiles(tiles: Iterable[TileSpec | None]) -> TileSpec | None:
    """Tiles that fit into a frame only if all of these do."""
    given = [one for one in tiles if one is not None]
    if not given:
        return None
    return TileSpec(max(one.height for one in given), max(one.width for one in given))


@dataclass(frozen=True, slots=True, eq=False)
class Axis:
    """Tiles along one axis of the working image.

    Attributes:
        size: of the working image in pixels
        starts: first pixel of each tile, ascending
        weights: ``[tiles, tile]`` float32, of a tile's pixels in the blended map. At each pixel of
            the working image they sum to 1
    """

    size: int
    starts: tuple[int, ...]
    weights: NDArray[np.float32]

    @classmethod
    def of(cls, frame: int, tile: int, overlap: int, tile_size: int) -> Axis:
        """Spread tiles evenly over an axis.

        Args:
            frame: pixels of the frame along the axis, at least ``tile``
            tile: of these, what a tile shows
            overlap: of these, what neighbours share at least
            tile_size: pixels of a tile in the working image
        """
        size = round(frame * tile_size / tile)
        shared = min(-(-overlap * tile_size // tile), tile_size - 1)
        count = 1 if size == tile_size else -(-(size - shared) // (tile_size - shared))
        between = [round(i * (size - tile_size) / (count - 1)) for i in range(1, count)]
        starts = (0, *between)
        return cls(size, starts, _blend_weights(size, starts, tile_size))


def _blend_weights(size: int, starts: tuple[int, ...], tile: int) -> NDArray[np.float32]:
    """Trapezoids that fall to nearly 0 over what a tile shares with its neighbours."""
    pixel = np.arange(tile) + 0.5
    weights = np.ones((len(starts), tile))
    for i, (start, following) in enumerate(pairwise(starts)):
        shared = start + tile - following
        ramp = np.minimum(pixel / max(shared, 0.5), 1)
        weights[i] = np.minimum(weights[i], ramp[::-1])
        weights[i + 1] = np.minimum(weights[i + 1], ramp)
    total = np.zeros(size)
    for start, own in zip(starts, weights, strict=True):
        total[start : start + tile] += own
    of_tiles = np.stack([total[start : start + tile] for start in starts])
    return (weights / of_tiles).astype(np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class Tiling:
    """The tiles of frames of one size.

    Attributes:
        rows: tiles along the height
        columns: tiles along the width
        tile: height and width of a tile in the working image, the network's input
    """

    rows: Axis
    columns: Axis
    tile: tuple[int, int]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the working image, and of the anomaly map."""
        return self.rows.size, self.columns.size

    @property
    def walk(self) -> int:
        """The axis along which tiles are scored line by line: 0 down, as pixels lie in memory, or 1
        to the right, if there are more than twice as many tiles as down."""
        return int(self.columns.size * self.tile[0] > 2 * self.rows.size * self.tile[1])

    def windows(self) -> list[Window]:
        """The tiles in the order in which they are scored."""
        if self.walk == 0:
            places = [(y, x) for y in self.rows.starts for x in self.columns.starts]
        else:
            places = [(y, x) for x in self.columns.starts for y in self.rows.starts]
        return [Window(*self.size, *place) for place in places]


@lru_cache(maxsize=64)
def tiling(tiles: TileSpec, frame: tuple[int, int], tile: tuple[int, int]) -> Tiling:
    """The tiles of a frame.

    Args:
        tiles: as configured
        frame: height and width of the frame, or of its crop
        tile: height and width of the network's input

    Raises:
        ValueError: a tile is larger than the frame
    """
    tiles.check(frame)
    return Tiling(
        Axis.of(frame[0], tiles.height, tiles.overlap, tile[0]),
        Axis.of(frame[1], tiles.width, tiles.overlap, tile[1]),
        tile,
    )
