"""Kernels run by Triton on torch tensors. Needs torch and triton.

Where there is no GPU, ``TRITON_INTERPRET=1`` runs them on CPU tensors, slowly, for tests.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from rdx_fast.kernels import triton_kernels
from rdx_fast.kernels.gpu.launch import BASELINE, Launch


def run(launch: Launch) -> None:
    """Start a kernel on torch's current stream."""
    kernel = getattr(triton_kernels, launch.kernel)
    kernel[launch.grid](*launch.arguments, **_options(launch))


def prepared(launch: Launch) -> Callable[[], None]:
    """Compile a kernel now; the function returned starts it on torch's current stream.

    Started often, it saves what Triton looks up at each call, which takes longer than the launch.
    The GPU that holds the arguments must be the current one, here and at each start.
    """
    kernel = getattr(triton_kernels, launch.kernel)
    compiled = kernel.warmup(*launch.arguments, grid=launch.grid, **_options(launch))
    constants = (launch.constants[name] for name in kernel.arg_names[len(launch.arguments) :])
    grid = (*launch.grid, 1)
    return partial(compiled[grid], *launch.arguments, *constants)


def _options(launch: Launch) -> dict[str, object]:
    return {
        **launch.constants,
        "num_warps": launch.num_warps,
        "num_stages": launch.num_stages,
        "enable_fp_fusion": True,
    }


def architecture_of(tensor: Tensor) -> int:
    """Compute capability of the tensor's GPU, 90 for 9.0."""
    if not tensor.is_cuda:
        return BASELINE  # interpreted
    major, minor = torch.cuda.get_device_capability(tensor.device)
    return 10 * major + minor
