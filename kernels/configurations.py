"""Block sizes of the GPU's kernels by architecture. Chosen once, here: nothing is tuned live."""

from __future__ import annotations

from typing import NamedTuple

ARCHITECTURES = (80, 86, 89, 90, 100, 120)  # compute capabilities that cubins are built for
BASELINE = 80  # whose PTX every later driver can compile


class Configuration(NamedTuple):
    blocks: dict[str, int]
    num_warps: int
    num_stages: int = 2


# Chosen by reasoning, not yet measured on a GPU. Channels-first reads 64 neighbouring positions
# (128 bytes of float16) of 32 channels; channels-last a line of 64 channels at 32 positions.
_ALL = {
    "cosine_map": Configuration({"BLOCK_C": 32, "BLOCK_P": 64}, num_warps=4, num_stages=3),
    "cosine_map_last": Configuration({"BLOCK_C": 64, "BLOCK_P": 32}, num_warps=4, num_stages=3),
    # Smaller or larger tiles spill registers with one version of Triton or another.
    "smooth_map": Configuration(
        {"BLOCK_Y": 32, "BLOCK_X": 32, "BLOCK_K": 16, "BLOCK": 512}, num_warps=8
    ),
    "fuse_mul": Configuration({"BLOCK": 256}, num_warps=4),
    "resize_normalize": Configuration({"BLOCK_Y": 4, "BLOCK_X": 32}, num_warps=4),
}
_BY_ARCHITECTURE = {
    # More bytes in flight for its memory's bandwidth. On 100, eight warps spill registers.
    90: {"cosine_map": Configuration({"BLOCK_C": 32, "BLOCK_P": 64}, num_warps=8, num_stages=3)},
}


def configuration(kernel: str, architecture: int) -> Configuration:
    """Of a kernel on a compute capability (90 for 9.0); an unknown one takes the baseline's."""
    return _BY_ARCHITECTURE.get(architecture, {}).get(kernel, _ALL[kernel])
