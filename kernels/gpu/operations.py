"""All operations that GPUs run, and with that all kernels that are built ahead of time."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module

from rdx_fast.kernels.gpu.launch import Variant

# Modules beside this one. Their Triton functions, and the tests of each, have the same names.
OPERATIONS = (
    "cosine_map",
    "smooth_map",
    "fuse_mul",
    "resize_normalize",
)


def variants() -> Iterator[Variant]:
    """All that are built: every element type and layout that engines deliver."""
    for name in OPERATIONS:
        yield from import_module(f"rdx_fast.kernels.gpu.{name}").variants()
