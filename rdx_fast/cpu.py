"""What this processor has that decides how fast a network runs."""

from __future__ import annotations

from functools import cache
from pathlib import Path

# Name for people, and Linux' names of which one is enough.
_FEATURES = (
    ("AVX2", {"avx2"}),
    ("AVX-512", {"avx512f"}),
    ("VNNI", {"avx512_vnni", "avx_vnni", "avx_vnni_int8"}),
    ("BF16", {"avx512_bf16", "amx_bf16", "avx_ne_convert"}),
    ("FP16", {"avx512_fp16", "amx_fp16"}),
    ("AMX", {"amx_tile"}),
)


@cache
def cpu_features() -> tuple[str, ...]:
    """Such as ("AVX2", "AVX-512", "VNNI", "BF16"); empty where the system does not tell."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return ()
    flags: set[str] = set()
    for line in text.splitlines():
        if line.startswith("flags"):
            flags = set(line.partition(":")[2].split())
            break
    return tuple(name for name, either in _FEATURES if flags & either)
