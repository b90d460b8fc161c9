"""Frame to network input as ONNX operators: the same filters as ``kernels/resize_normalize.py``.

Every pixel format is a sum of terms, each filtered along both axes: one term for each colour
channel, one for mono, and six for Bayer patterns, where demosaicing is part of the filters. A 1 x 1
convolution weighs the terms, sums them to three channels and normalises. A filter is a band: each
block of outputs reads a short window of the axis, so products with a small matrix for each block
replace one with a large matrix of mostly zeros.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from rdx_fast.bundle.manifest import InputSpec
from rdx_fast.export.standalone.graph import GraphBuilder, axes, scalar
from rdx_fast.kernels.resize_normalize import (
    BAYER,
    WHITE,
    Crop,
    Levels,
    affine,
    check_crop,
    check_level_range,
    check_pixel_format,
)
from rdx_fast.kernels.resize_taps import Taps, resize_taps
from rdx_fast.recipe.recipe import FrameSpec

T = TypeVar("T")

# Outputs of a filter in one block, at most. Larger blocks read fewer pixels twice and multiply more
# zeros.
_BLOCK = 16


@dataclass(frozen=True, slots=True)
class FrameFormat:
    """The frames that a standalone file takes.

    Attributes:
        height: in pixels
        width: in pixels
        pixel_format: one of ``kernels.resize_normalize.PIXEL_FORMATS``
        crop: top, left, height, width in frame pixels of what is inspected; None for the whole
            frame
        levels: grey levels of black and white of uint16 frames; values outside are clipped. None
            for uint8 frames

    Raises:
        ValueError: a value is out of range
    """

    height: int
    width: int
    pixel_format: str = "rgb"
    crop: Crop | None = None
    levels: Levels | None = None

    def __post_init__(self) -> None:
        if self.height < 1 or self.width < 1:
            raise ValueError(f"the frame size {self.height} x {self.width} is not positive")
        check_pixel_format(self.shape, self.pixel_format)
        check_crop((self.height, self.width), self.crop)
        if self.levels is not None:
            check_level_range(self.levels)

    @classmethod
    def of(
        cls,
        stated: FrameSpec,
        frame_size: tuple[int, int] | None = None,
        pixel_format: str | None = None,
        crop: Crop | None = None,
        levels: Levels | None = None,
    ) -> FrameFormat:
        """The frames of a recipe. What it leaves open is as given; the pixel format else "rgb".

        Args:
            stated: by the recipe
            frame_size: height and width in pixels
            pixel_format: and the others: see the attributes

        Raises:
            ValueError: the size is missing, what is given is not what the recipe states, or a value
                is out of range
        """
        size = _agreed("frame_size", frame_size, stated.size)
        if size is None:
            raise ValueError(
                "the size of the frames is missing, and the recipe states none: give it "
                "(frame_size=(1024, 1280), --frame-size 1024 1280)"
            )
        return cls(
            *size,
            _agreed("pixel_format", pixel_format, stated.pixel_format) or "rgb",
            _agreed("crop", crop, stated.crop),
            _agreed("levels", levels, stated.levels),
        )

    @property
    def shape(self) -> tuple[int, ...]:
        """``[H, W, 3]``, or ``[H, W]`` for one channel."""
        size = (self.height, self.width)
        return (*size, 3) if self.pixel_format in ("rgb", "bgr") else size

    @property
    def element(self) -> int:
        """ONNX type of a pixel."""
        return int(TensorProto.UINT8 if self.levels is None else TensorProto.UINT16)


def _agreed(name: str, given: T | None, stated: T | None) -> T | None:
    if given is not None and stated is not None and given != stated:
        raise ValueError(
            f"{name} is {given} and the recipe states {stated}: leave it out, or change the recipe "
            f"(rdx-fast recipe)"
        )
    return stated if given is None else given


class Terms(NamedTuple):
    """Filters that turn a frame into the network's input.

    Attributes:
        rows: along the height; a table of weights for each term, or one for all colour channels
        columns: along the width, likewise
        mix: share of each term in each channel, float32 [3, terms]
    """

    rows: Taps
    columns: Taps
    mix: NDArray[np.float32]

    @classmethod
    def of(cls, frame: FrameFormat, height: int, width: int) -> Terms:
        """To a network input of ``height`` and ``width``."""
        size = (frame.height, frame.width)
        top, left, crop_height, crop_width = check_crop(size, frame.crop)
        bayer = frame.pixel_format in BAYER
        rows = resize_taps(size[0], top, crop_height, height, bayer)
        columns = resize_taps(size[1], left, crop_width, width, bayer)
        if bayer:
            return cls._bayer(rows, columns, *BAYER[frame.pixel_format])
        mixes = {"rgb": np.eye(3), "bgr": np.eye(3)[::-1], "mono": np.ones((3, 1))}
        return cls(rows, columns, mixes[frame.pixel_format].astype(np.float32))

    @classmethod
    def _bayer(cls, rows: Taps, columns: Taps, red_row: int, red_column: int) -> Terms:
        """Red and blue: one term each. Green: two for its pixels in red rows, two for the others.

        A green value is the pixel itself or the mean of four neighbours, which lie in its row or
        in its column: that is ``(plain + quarter) x plain + plain x quarter``.
        """
        plain, filled, quarter = range(3)  # tables of ``resize_taps``
        red_rows, blue_rows = (_masked(rows, p) for p in (red_row, 1 - red_row))
        red_columns, blue_columns = (_masked(columns, p) for p in (red_column, 1 - red_column))
        terms = [(red_rows[filled], red_columns[filled])]
        for r, c in ((red_rows, blue_columns), (blue_rows, red_columns)):
            terms += [(r[plain] + r[quarter], c[plain]), (r[plain], c[quarter])]
        terms.append((blue_rows[filled], blue_columns[filled]))
        mix = np.zeros((3, 6), np.float32)
        mix[0, 0] = mix[1, 1:5] = mix[2, 5] = 1
        by_row, by_column = (np.stack(tables) for tables in zip(*terms, strict=True))
        return cls(Taps(rows.first, by_row), Taps(columns.first, by_column), mix)


def _masked(taps: Taps, parity: int) -> NDArray[np.float32]:
    """The weights, zero for pixels of the other parity."""
    pixel = taps.first[:, None] + np.arange(taps.weights.shape[2])
    return np.where(pixel % 2 == parity, taps.weights, np.float32(0))


class Blocks(NamedTuple):
    """A filter by blocks of consecutive outputs.

    Attributes:
        pixels: that each block reads, int32 [blocks, length]
        weights: float32 [terms, blocks, outputs of a block, length]
    """

    pixels: NDArray[np.int32]
    weights: NDArray[np.float32]

    @classmethod
    def of(cls, taps: Taps) -> Blocks:
        terms, count, width = taps.weights.shape
        each = math.gcd(count, _BLOCK)
        first = taps.first.reshape(-1, each)
        length = int((first[:, -1] - first[:, 0]).max()) + width
        start = np.minimum(first[:, 0], int(taps.first.max()) + width - length)
        weights = np.zeros((terms, len(start), each, length), np.float32)
        where = (first - start[:, None])[..., None] + np.arange(width)
        values = taps.weights.reshape(terms, len(start), each, width)
        np.put_along_axis(weights, np.broadcast_to(where, values.shape), values, axis=3)
        return cls((start[:, None] + np.arange(length)).astype(np.int32), weights)


def add_frame(graph: GraphBuilder, given: str, frame: FrameFormat, spec: InputSpec) -> str:
    """Add the nodes from a frame to the network's input.

    Args:
        graph: to which they are added
        given: name of the frames, ``[B, *frame.shape]``
        frame: format of the frames
        spec: the network's input

    Returns:
        name of the input, ``[B, 3, height, width]`` float32
    """
    terms = Terms.of(frame, spec.height, spec.width)
    rows, columns = Blocks.of(terms.rows), Blocks.of(terms.columns)
    low, high = int(columns.pixels.min()), int(columns.pixels.max()) + 1
    if (low, high) != (0, frame.width):
        given = graph.add("Slice", "frame/columns_of_crop", given, axes(low), axes(high), axes(2))
    channels = 3 if len(frame.shape) == 3 else 1
    flat = graph.add("Reshape", "frame/flat", given, axes(0, frame.height, (high - low) * channels))

    # Along the height: [B, H, W * channels] to [B, terms, height, W * channels].
    pixels = graph.add("Gather", "frame/rows", flat, rows.pixels, axis=1)
    values = _grey_levels(graph, pixels, frame)
    count, blocks, each, length = rows.weights.shape
    matrices = rows.weights.transpose(1, 0, 2, 3).reshape(blocks, count * each, length)
    product = graph.add("MatMul", "frame/filtered_rows", matrices, values)
    if count > 1:
        shape = axes(0, blocks, count, each, high - low)
        product = graph.add("Reshape", "frame/filtered_rows/split", product, shape)
        product = graph.add("Transpose", "frame/by_term", product, perm=[0, 2, 1, 3, 4])
    shape = axes(0, count, spec.height, (high - low) * channels)
    product = graph.add("Reshape", "frame/filtered_rows/joined", product, shape)

    # Along the width, turned: [B, terms, W, channels * height] to [B, terms, width, ...].
    product = graph.add("Transpose", "frame/turned", product, perm=[0, 1, 3, 2])
    shape = axes(0, count, high - low, channels * spec.height)
    product = graph.add("Reshape", "frame/turned/joined", product, shape)
    window = graph.add("Gather", "frame/columns", product, columns.pixels - np.int32(low), axis=2)
    product = graph.add("MatMul", "frame/filtered_columns", columns.weights, window)
    shape = axes(0, count, spec.width, channels, spec.height)
    product = graph.add("Reshape", "frame/filtered_columns/split", product, shape)
    product = graph.add("Transpose", "frame/turned_back", product, perm=[0, 1, 3, 4, 2])
    shape = axes(0, count * channels, spec.height, spec.width)
    product = graph.add("Reshape", "frame/terms", product, shape)

    black, white = frame.levels or (0, WHITE)
    gain, offset = affine(spec.mean, spec.std, white - black)
    mix = (terms.mix * gain[:, None])[:, :, None, None]
    return graph.add("Conv", "frame/image", product, mix, offset)


def _grey_levels(graph: GraphBuilder, pixels: str, frame: FrameFormat) -> str:
    """Float32 values, clipped to the levels and counted from black."""
    values = graph.add("Cast", "frame/values", pixels, to=TensorProto.FLOAT)
    if frame.levels is None:
        return values
    black, white = frame.levels
    values = graph.add("Clip", "frame/clipped", values, scalar(black), scalar(white))
    return graph.add("Sub", "frame/above_black", values, scalar(black))
