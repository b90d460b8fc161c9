"""``resize_normalize`` on a GPU: how the kernel in ``triton_kernels`` is launched and built."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

from rdx_fast.kernels.gpu.launch import (
    BASELINE,
    Array,
    Configuration,
    Launch,
    Variant,
    configuration,
)

FORMATS = {"rgb": 0, "bgr": 0, "mono": 1}  # Bayer patterns are 2
CONFIGURATIONS = {BASELINE: Configuration({"BLOCK_Y": 4, "BLOCK_X": 32}, num_warps=4)}


def launch(
    frames: Array,
    pixel_format: str,
    red: tuple[int, int],
    levels: tuple[int, int],
    rows: tuple[Array, Array],
    columns: tuple[Array, Array],
    gain: Array,
    offset: Array,
    out: Array,
    architecture: int,
) -> Launch:
    """``frames: [B, H, W, 3] or [B, H, W]`` uint8 or uint16 to ``out: [B, 3, h, w]``; ``rows``,
    ``columns``: ``Taps`` on the device; ``red``: parity of the red pixels of a Bayer pattern;
    ``levels``: black and white."""
    config = configuration(CONFIGURATIONS, architecture)
    height, width = out.shape[2:]
    grid_y = -(-height // config.blocks["BLOCK_Y"])
    grid_x = -(-width // config.blocks["BLOCK_X"])
    arguments = [
        frames,
        frames.stride()[0],
        frames.stride()[1],
        2 if pixel_format == "bgr" else 0,
        *red,
        levels[0],
        levels[1] - levels[0],
        rows[0],
        rows[1],
        rows[1].shape[2],
        columns[0],
        columns[1],
        columns[1].shape[2],
        gain,
        offset,
        out,
        *out.stride(),
        height,
        width,
    ]
    grid = (grid_y * grid_x, frames.shape[0])
    own = {"FORMAT": FORMATS.get(pixel_format, 2)}
    return Launch.of("resize_normalize", grid, arguments, config, own)


def variants() -> Iterator[Variant]:
    for element, pixel, pixel_format in product(("fp32", "fp16"), ("u8", "u16"), (0, 1, 2)):
        parameters = (
            *(("frames", f"*{pixel}"), ("frame_stride", "i64"), ("pitch", "i64"), ("red", "i32")),
            *(("red_row", "i32"), ("red_column", "i32"), ("black", "i32"), ("span", "i32")),
            *(("row_first", "*i32"), ("row_weights", "*fp32"), ("row_taps", "i32")),
            *(("column_first", "*i32"), ("column_weights", "*fp32"), ("column_taps", "i32")),
            *(("gain", "*fp32"), ("offset", "*fp32"), ("out", f"*{element}")),
            *(("image_stride", "i64"), ("channel_stride", "i32"), ("row_stride", "i32")),
            *(("column_stride", "i32"), ("height", "i32"), ("width", "i32")),
        )
        yield Variant(
            "resize_normalize",
            parameters,
            {"FORMAT": pixel_format},
            CONFIGURATIONS,
            f"{pixel}_{element}",
            unaligned=("frames",),  # may be a view of anybody's array
        )
