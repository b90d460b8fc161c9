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
    # Smaller or larger tiles spill registers with one version of Triton or another. BLOCK holds all
    # regions, of which there are at most 255.
    BASELINE: Configuration(
        {"BLOCK_Y": 32, "BLOCK_X": 32, "BLOCK_K": 16, "BLOCK": 512}, num_warps=8
    ),
}


class Epilogues(NamedTuple):
    """Device arrays of ``smooth_map``'s epilogue; see the kernel. Without ``has_labels`` the labels
    may be any uint8 array, and without ``write_maps`` the maps any float32 one: they are not
    touched."""

    labels: Any
    has_labels: bool
    thresholds: Any
    regions: int
    top_k: int
    maps: Any
    write_maps: bool
    keys_so_far: Any
    areas_so_far: Any
    tiles_done: Any
    maxima: Any
    areas: Any
    top_means: Any


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
    tiles = -(-size[0] // config.blocks["BLOCK_Y"]) * -(-size[1] // config.blocks["BLOCK_X"])
    return Launch.of("smooth_map", (tiles, distances[0].shape[0]), arguments, config)


def variants() -> Iterator[Variant]:
    parameters = (
        *DISTANCE_PARAMETERS,
        *(("matrices", "*fp32"), ("bands", "*i32"), ("labels", "*u8"), ("has_labels", "i32")),
        *(("thresholds", "*fp32"), ("regions", "i32"), ("top_k", "i32")),
        *(("maps", "*fp32"), ("write_maps", "i32"), ("keys_so_far", "*u32")),
        *(("areas_so_far", "*i32"), ("tiles_done", "*i32")),
        *(("maxima", "*fp32"), ("areas", "*i64"), ("top_means", "*fp32")),
        *(("height", "i32"), ("width", "i32")),
    )
    yield Variant("smooth_map", parameters, {}, CONFIGURATIONS)
