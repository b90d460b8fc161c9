"""Mixed precision of training: which type a machine trains in."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import torch

from rdx_fast.cpu import has_fast_bf16
from rdx_fast.training.recipe import Recipe

PRECISIONS = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}

Autocast = Callable[[], AbstractContextManager[object]]


def training_precision(recipe: Recipe, device: torch.device) -> str:
    """The precision of a run on this machine, a key of ``PRECISIONS``.

    bf16 on CPUs that compute it faster than float32, and on GPUs that have it; fp16 on other GPUs;
    fp32 elsewhere, and where the recipe has no mixed precision.
    """
    if not recipe.amp:
        return "fp32"
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    return "bf16" if has_fast_bf16() else "fp32"


def autocast(device: torch.device, precision: str) -> Autocast:
    """A function that opens the context in which networks run in a precision."""
    dtype = PRECISIONS[precision]
    return lambda: torch.autocast(device.type, dtype, enabled=dtype is not None)
