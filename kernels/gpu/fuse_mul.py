"""``fuse_mul`` on a GPU: how the kernel in ``triton_kernels`` is launched and built."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

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

CONFIGURATIONS = {BASELINE: Configuration({"BLOCK": 256}, num_warps=4)}


def launch(distances: Sequence[Array], product: Array, architecture: int) -> Launch:
    """``distances[s]: [B, h_s, w_s]`` to ``product: [B, H, W]``, both float32."""
    check_scales(len(distances))
    config = configuration(CONFIGURATIONS, architecture)
    batch, height, width = product.shape
    blocks = -(-height * width // config.blocks["BLOCK"])
    arguments = [*distance_arguments(distances), product, height, width]
    return Launch.of("fuse_mul", (blocks, batch), arguments, config)


def variants() -> Iterator[Variant]:
    own = (("product", "*fp32"), ("height", "i32"), ("width", "i32"))
    yield Variant("fuse_mul", (*DISTANCE_PARAMETERS, *own), {}, CONFIGURATIONS)
