"""Recording of CUDA graphs through torch."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import torch

from rdx_fast.devices.device import no_collection


def recorded(
    steps: Callable[[], object], stream: torch.cuda.Stream, device: torch.device
) -> torch.cuda.CUDAGraph:
    """Record what ``steps`` queues on a stream, without running it. ``EXCLUSIVE`` must be held.

    Other threads may use the GPU meanwhile, but must not wait for all of it.

    Raises:
        RuntimeError: ``steps`` waits for the GPU, or does what else a recording forbids
    """
    graph, pool = torch.cuda.CUDAGraph(), torch.cuda.graph_pool_handle()
    recording = torch.cuda.graph(graph, pool=pool, stream=stream, capture_error_mode="thread_local")
    try:
        with no_collection(), recording:
            steps()
    except RuntimeError:
        with suppress(RuntimeError):  # torch before 2.12 goes on allocating from the pool
            torch._C._cuda_endAllocateToPool(device.index, pool)
        raise
    return graph
