"""Instruction sets of this processor that decide how fast a network runs, and its cores."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

# Name to show, and Linux's names for it, of which one is enough.
_FEATURES = (
    ("AVX2", {"avx2"}),
    ("AVX-512", {"avx512f"}),
    ("VNNI", {"avx512_vnni", "avx_vnni", "avx_vnni_int8"}),
    ("BF16", {"avx512_bf16", "amx_bf16", "avx_ne_convert"}),
    ("FP16", {"avx512_fp16", "amx_fp16"}),
    ("AMX", {"amx_tile"}),
)


def cpu_features() -> tuple[str, ...]:
    """Instruction sets, such as ("AVX2", "AVX-512", "VNNI", "BF16"); empty if unknown."""
    flags = _told("flags")
    return tuple(name for name, either in _FEATURES if flags & either)


def has_fast_bf16() -> bool:
    """Whether bfloat16 is faster than float32: with AMX, and on AMD CPUs with AVX512_BF16.

    Intel's with AVX512_BF16 and without AMX do not count: none was measured.
    """
    if "amx_bf16" in _told("flags"):
        return True
    return "avx512_bf16" in _told("flags") and "AuthenticAMD" in _told("vendor_id")


def usable_cores() -> int:
    """Number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@cache
def _told(name: str) -> frozenset[str]:
    """The words of one line about the first processor in /proc/cpuinfo."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return frozenset()
    for line in text.splitlines():
        if line.startswith(name):
            return frozenset(line.partition(":")[2].split())
    return frozenset()
