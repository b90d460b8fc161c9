"""``smooth_map`` on a GPU: how the kernel in ``triton_kernels`` is launched and built."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from rdx_fast.kernels.gpu.launch import (
    BASELINE,
    DISTANCE_PARAMETERS,
    Array,
    Configuration,
    Launch,
    Variant,
    check_scales,
    configuration,
    distance_arguments,
)

CONFIGURATIONS = {
    # Smaller or larger tiles spill registers with one version of Triton or another.
    BASELINE: Configuration(
        {"BLOCK_Y": 32, "BLOCK_X": 32, "BLOCK_K": 16, "BLOCK": 512}, num_warps=8
    ),
}


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


def tile_count(height: int, width: int, architecture: int) -> int:
    """Tiles of a map that ``smooth_map`` works on."""
    blocks = configuration(CONFIGURATIONS, architecture).blocks
    return -(-height // blocks["BLOCK_Y"]) * -(-width // blocks["BLOCK_X"])


def launch(
    distances: Sequence[Array],
    matrices: Array,
    bands: Array,
    size: tuple[int, int],
    epilogue: Epilogues,
    architecture: int,
) -> Launch:
    """``distances[s]: [B, h_s, w_s]`` float32; ``matrices``, ``bands``: see the kernel."""
    check_scales(len(distances))
    config = configuration(CONFIGURATIONS, architecture)
    if epilogue.top_k > 0 and not epilogue.write_maps:
        raise ValueError("the mean of the largest values is read off the maps: give them a place")
    arguments = [
        *distance_arguments(distances),
        matrices,
        bands,
        *(int(x) if isinstance(x, bool) else x for x in epilogue),
        *size,
    ]
    grid = (tile_count(*size, architecture), distances[0].shape[0])
    return Launch.of("smooth_map", grid, arguments, config)


def variants() -> Iterator[Variant]:
    parameters = (
        *DISTANCE_PARAMETERS,
        *(("matrices", "*fp32"), ("bands", "*i32"), ("mask", "*u8"), ("has_mask", "i32")),
        *(("threshold", "fp32"), ("top_k", "i32"), ("maps", "*fp32"), ("write_maps", "i32")),
        *(("tile_maxima", "*fp32"), ("tile_areas", "*i32"), ("tiles_done", "*i32")),
        *(("maxima", "*fp32"), ("areas", "*i64"), ("top_means", "*fp32")),
        *(("height", "i32"), ("width", "i32")),
    )
    yield Variant("smooth_map", parameters, {}, CONFIGURATIONS)
