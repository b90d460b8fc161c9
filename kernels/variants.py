"""The variants of the GPU's kernels that are built ahead of time, and their parameters' types."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import NamedTuple

from rdx_fast.kernels.configurations import Configuration, configuration

MANIFEST = "kernels.json"  # of a folder of built kernels
ALIGNMENT = 16  # bytes, of pointers, so that loads are as wide as they get
UNALIGNED = {"frames"}  # may be a view of anybody's array
FORMAT = 1
# Triton's names of what arrays hold.
ELEMENTS = {
    "float32": "fp32",
    "float16": "fp16",
    "bfloat16": "bf16",
    "uint8": "u8",
    "int32": "i32",
    "int64": "i64",
}
_SCALES = range(3)
_DISTANCES = [
    pair for s in _SCALES for pair in ((f"d{s}", "*fp32"), (f"h{s}", "i32"), (f"w{s}", "i32"))
]


class Variant(NamedTuple):
    """A kernel with its types and constants fixed. ``parameters``: name and Triton type of each, in
    order; ``entry``: of the table of configurations."""

    kernel: str
    entry: str
    parameters: tuple[tuple[str, str], ...]
    constants: dict[str, int]

    def configuration(self, architecture: int) -> Configuration:
        return configuration(self.entry, architecture)

    @property
    def name(self) -> str:
        """Unique among the variants, and fit for a file."""
        types = dict(self.parameters)
        varying = {"cosine_map": "t0", "resize_normalize": "out"}.get(self.kernel)
        parts = [self.kernel, *([types[varying].lstrip("*")] if varying else [])]
        parts += [f"{name.lower()}{value}" for name, value in self.constants.items()]
        return "_".join(parts)


def variants() -> Iterator[Variant]:
    """All that are built: every element type and layout that engines deliver."""
    for element, last, aligned in product(("fp32", "fp16", "bf16"), (0, 1), (0, 1)):
        parameters = []
        for s in _SCALES:
            parameters += [(f"t{s}", f"*{element}"), (f"s{s}", f"*{element}"), (f"d{s}", "*fp32")]
            parameters += [(f"channels{s}", "i32"), (f"count{s}", "i32"), (f"blocks{s}", "i32")]
        yield Variant(
            "cosine_map",
            "cosine_map_last" if last else "cosine_map",
            tuple(parameters[:-1]),
            {"CHANNELS_LAST": last, "ALIGNED": aligned},
        )
    yield Variant(
        "smooth_map",
        "smooth_map",
        (
            *_DISTANCES,
            *(("matrices", "*fp32"), ("bands", "*i32"), ("mask", "*u8"), ("has_mask", "i32")),
            *(("threshold", "fp32"), ("top_k", "i32"), ("maps", "*fp32"), ("write_maps", "i32")),
            *(("tile_maxima", "*fp32"), ("tile_areas", "*i32"), ("tiles_done", "*i32")),
            *(("maxima", "*fp32"), ("areas", "*i64"), ("top_means", "*fp32")),
            *(("height", "i32"), ("width", "i32")),
        ),
        {},
    )
    yield Variant(
        "fuse_mul",
        "fuse_mul",
        (*_DISTANCES, ("product", "*fp32"), ("height", "i32"), ("width", "i32")),
        {},
    )
    for element, pixel_format in product(("fp32", "fp16"), (0, 1, 2)):
        yield Variant(
            "resize_normalize",
            "resize_normalize",
            (
                *(("frames", "*u8"), ("frame_stride", "i64"), ("pitch", "i64"), ("red", "i32")),
                *(("red_row", "i32"), ("red_column", "i32")),
                *(("row_first", "*i32"), ("row_weights", "*fp32"), ("row_taps", "i32")),
                *(("column_first", "*i32"), ("column_weights", "*fp32"), ("column_taps", "i32")),
                *(("gain", "*fp32"), ("offset", "*fp32"), ("out", f"*{element}")),
                *(("image_stride", "i64"), ("channel_stride", "i32"), ("row_stride", "i32")),
                *(("column_stride", "i32"), ("height", "i32"), ("width", "i32")),
            ),
            {"FORMAT": pixel_format},
        )
