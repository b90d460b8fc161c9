"""``cosine_map`` on a GPU: how the kernel in ``triton_kernels`` is launched and built."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

from rdx_fast.kernels.gpu.launch import (
    BASELINE,
    MAX_SCALES,
    Array,
    Configuration,
    Launch,
    Variant,
    check_scales,
    configuration,
)

# By layout. Channels-first reads 64 neighbouring positions (128 bytes of float16) of 32 channels;
# channels-last a line of 64 channels at 32 positions. While one block of channels is summed, the
# STAGES - 1 next ones are being copied to shared memory.
CONFIGURATIONS = {
    "first": {
        BASELINE: Configuration({"BLOCK_C": 32, "BLOCK_P": 64, "STAGES": 3}, num_warps=4),
        # More bytes in flight for its memory's bandwidth. On 100, eight warps spill registers.
        90: Configuration({"BLOCK_C": 32, "BLOCK_P": 64, "STAGES": 3}, num_warps=8),
    },
    "last": {
        BASELINE: Configuration({"BLOCK_C": 64, "BLOCK_P": 32, "STAGES": 3}, num_warps=4),
    },
}


def launch(
    teacher: Sequence[Array], student: Sequence[Array], out: Sequence[Array], architecture: int
) -> Launch:
    """All scales in one launch: ``[B, C_s, h_s, w_s]`` twice to ``[B, h_s, w_s]`` float32.

    Raises ``ValueError`` for more scales than ``MAX_SCALES`` or a layout other than all
    contiguous or all channels-last.
    """
    check_scales(len(teacher))
    layout = common_layout((*teacher, *student))
    if layout is None:
        raise ValueError(
            "features are neither all contiguous nor all channels-last: copy them into one layout"
        )
    config = configuration(CONFIGURATIONS[layout], architecture)
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
    return Launch.of("cosine_map", (total, teacher[0].shape[0]), arguments[:-1], config, own)


def variants() -> Iterator[Variant]:
    for element, last, aligned in product(("fp32", "fp16", "bf16"), (0, 1), (0, 1)):
        parameters = []
        for s in range(MAX_SCALES):
            parameters += [(f"t{s}", f"*{element}"), (f"s{s}", f"*{element}"), (f"d{s}", "*fp32")]
            parameters += [(f"channels{s}", "i32"), (f"count{s}", "i32"), (f"blocks{s}", "i32")]
        yield Variant(
            "cosine_map",
            tuple(parameters[:-1]),
            {"CHANNELS_LAST": last, "ALIGNED": aligned},
            CONFIGURATIONS["last" if last else "first"],
            element,
        )


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
