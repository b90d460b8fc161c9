"""How each GPU kernel is called: grid, arguments and constants, from arrays on the device.

The same for kernels that Triton runs and for those built ahead of time. An array is anything with
``shape``, ``dtype`` and ``stride()`` in elements, such as a torch tensor.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

from rdx_fast.kernels.configurations import Configuration, configuration

MAX_SCALES = 3
FORMATS = {"rgb": 0, "bgr": 0, "mono": 1}  # Bayer patterns are 2


class Array(Protocol):
    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> Any: ...
    def stride(self) -> tuple[int, ...]: ...
    def unsqueeze(self, dim: int) -> Array: ...


class Launch(NamedTuple):
    """One call of the function ``kernel``; ``arguments`` in the order of those of its own that are
    no constants."""

    kernel: str
    grid: tuple[int, int]
    arguments: tuple[Any, ...]
    constants: dict[str, int]
    num_warps: int
    num_stages: int


class Epilogues(NamedTuple):
    """Device arrays of ``smooth_map``'s epilogue; see the kernel. Without ``has_mask`` the mask may
    be any uint8 array, and without ``write_maps`` the maps any float32 one: they are not touched.
    ``tile_maxima``, ``tile_areas``: ``[B, tile_count(...)]``."""

    mask: Any
    has_mask: bool
    threshold: float
    top_k: int
    maps: Any
    write_maps: bool
    tile_maxima: Any
    tile_areas: Any
    tiles_done: Any
    maxima: Any
    areas: Any
    top_means: Any


def dtype_name(array: Array) -> str:
    return str(array.dtype).rpartition(".")[2]


def common_layout(features: Sequence[Array]) -> str | None:
    """Return "first" if all ``[B, C, h, w]`` are contiguous, "last" if all are channels-last, else
    None."""
    for name in ("first", "last"):
        if all(_lies(x, name) for x in features):
            return name
    return None


def _lies(array: Array, layout: str) -> bool:
    _, channels, height, width = array.shape
    image = channels * height * width
    first, last = (image, height * width, width, 1), (image, 1, width * channels, channels)
    strides = zip(array.shape, array.stride(), first if layout == "first" else last, strict=True)
    return all(length == 1 or stride == wanted for length, stride, wanted in strides)


def cosine_map(
    teacher: Sequence[Array], student: Sequence[Array], out: Sequence[Array], architecture: int
) -> Launch:
    """All scales in one launch: ``[B, C_s, h_s, w_s]`` twice to ``[B, h_s, w_s]`` float32.

    Raises ``ValueError`` for more scales than ``MAX_SCALES`` or a layout other than all
    contiguous or all channels-last.
    """
    _check_scales(len(teacher))
    layout = common_layout((*teacher, *student))
    if layout is None:
        raise ValueError(
            "features are neither all contiguous nor all channels-last: copy them into one layout"
        )
    config = configuration("cosine_map" if layout == "first" else "cosine_map_last", architecture)
    aligned = all(t.shape[1] % 16 == 0 and t.shape[2] * t.shape[3] % 16 == 0 for t in teacher)
    arguments: list[Any] = []
    total = 0
    for t, u, d in zip(teacher, student, out, strict=True):
        count = t.shape[2] * t.shape[3]
        blocks = -(-count // config.blocks["BLOCK_P"])
        arguments += [t, u, d, t.shape[1], count, blocks]
        total += blocks
    arguments += [teacher[0], student[0], out[0], 0, 0, 0] * (MAX_SCALES - len(teacher))
    own = {"CHANNELS_LAST": int(layout == "last"), "ALIGNED": int(aligned)}
    # The last scale has all the blocks that are left.
    return _launch("cosine_map", (total, teacher[0].shape[0]), arguments[:-1], config, own)


def tile_count(height: int, width: int, architecture: int) -> int:
    """Tiles of a map that ``smooth_map`` works on."""
    blocks = configuration("smooth_map", architecture).blocks
    return -(-height // blocks["BLOCK_Y"]) * -(-width // blocks["BLOCK_X"])


def smooth_map(
    distances: Sequence[Array],
    matrices: Array,
    bands: Array,
    size: tuple[int, int],
    epilogue: Epilogues,
    architecture: int,
) -> Launch:
    """``distances[s]: [B, h_s, w_s]`` float32; ``matrices``, ``bands``: see the kernel."""
    _check_scales(len(distances))
    config = configuration("smooth_map", architecture)
    if epilogue.top_k > 0 and not epilogue.write_maps:
        raise ValueError("the mean of the largest values is read off the maps: give them a place")
    arguments = [
        *_sizes(distances),
        matrices,
        bands,
        *(int(x) if isinstance(x, bool) else x for x in epilogue),
        *size,
    ]
    grid = (tile_count(*size, architecture), distances[0].shape[0])
    return _launch("smooth_map", grid, arguments, config)


def fuse_mul(distances: Sequence[Array], product: Array, architecture: int) -> Launch:
    """``distances[s]: [B, h_s, w_s]`` to ``product: [B, H, W]``, both float32."""
    _check_scales(len(distances))
    config = configuration("fuse_mul", architecture)
    batch, height, width = product.shape
    blocks = -(-height * width // config.blocks["BLOCK"])
    arguments = [*_sizes(distances), product, height, width]
    return _launch("fuse_mul", (blocks, batch), arguments, config)


def resize_normalize(
    frames: Array,
    pixel_format: str,
    red: tuple[int, int],
    rows: tuple[Array, Array],
    columns: tuple[Array, Array],
    gain: Array,
    offset: Array,
    out: Array,
    architecture: int,
) -> Launch:
    """``frames: [B, H, W, 3] or [B, H, W]`` uint8 to ``out: [B, 3, h, w]``; ``rows``, ``columns``:
    ``Taps`` on the device; ``red``: parity of the red pixels of a Bayer pattern."""
    config = configuration("resize_normalize", architecture)
    height, width = out.shape[2:]
    grid_y = -(-height // config.blocks["BLOCK_Y"])
    grid_x = -(-width // config.blocks["BLOCK_X"])
    arguments = [
        frames,
        frames.stride()[0],
        frames.stride()[1],
        2 if pixel_format == "bgr" else 0,
        *red,
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
    return _launch("resize_normalize", grid, arguments, config, own)


def _launch(
    kernel: str,
    grid: tuple[int, int],
    arguments: Sequence[Any],
    config: Configuration,
    own: Mapping[str, int] = MappingProxyType({}),
) -> Launch:
    """``own``: constants besides the block sizes."""
    constants = {**own, **config.blocks}
    return Launch(kernel, grid, tuple(arguments), constants, config.num_warps, config.num_stages)


def _check_scales(count: int) -> None:
    if not 1 <= count <= MAX_SCALES:
        raise ValueError(f"{count} scales, the GPU's kernels take 1 to {MAX_SCALES}")


def _sizes(distances: Sequence[Array]) -> list[Any]:
    """``d, h, w`` of each scale, absent ones with size 0."""
    there = [x for d in distances for x in (d, *d.shape[1:])]
    return there + [distances[0], 0, 0] * (MAX_SCALES - len(distances))
