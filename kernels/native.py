"""The compiled CPU kernels, ``rdx_fast._C``, where they were built."""

from __future__ import annotations

__all__ = ["IMPLEMENTATION", "ISAS", "check_threads", "native"]

try:
    import rdx_fast._C as native
except ModuleNotFoundError as error:
    # Built only where a compiler was at hand; one that is there and broken must be heard.
    if error.name != "rdx_fast._C":
        raise
    native = None  # type: ignore[assignment]

# The instruction sets that this CPU runs, the widest first; the kernels use the first.
ISAS: tuple[str, ...] = () if native is None else tuple(native.isas().split())
IMPLEMENTATION = "numpy" if native is None else f"c++ {ISAS[0]}"


def check_threads(threads: int) -> None:
    """Raises ``ValueError`` unless ``threads`` is at least 1."""
    if threads < 1:
        raise ValueError(f"threads is {threads}, wanted at least 1")
