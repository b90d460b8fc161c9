"""All operations that GPUs run, and with that all kernels that are built ahead of time."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from hashlib import sha256
from importlib import import_module
from pathlib import Path

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


@cache
def source_hash() -> str:
    """SHA-256 of the files that built kernels follow from: the Triton functions, and how each is
    launched. Kernels that were built from others must not run."""
    here = Path(__file__).parent
    files = [here.parent / "triton_kernels.py", *(here / f"{name}.py" for name in OPERATIONS)]
    digest = sha256()
    for file in (*files, here / "launch.py"):
        digest.update(file.read_bytes())
    return digest.hexdigest()
