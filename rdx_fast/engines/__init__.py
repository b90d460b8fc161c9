"""What runs the network of a bundle on one kind of hardware."""

from __future__ import annotations

from rdx_fast.bundle import Bundle
from rdx_fast.engines.engine import Chunk, Engine

__all__ = ["BACKENDS", "Chunk", "Engine", "open_engine"]

BACKENDS = ("auto", "openvino")


def open_engine(
    bundle: Bundle, backend: str = "auto", threads: int | None = None, mode: str = "latency"
) -> Engine:
    """Open a bundle's engine. ``backend="auto"`` picks what this machine has (OpenVINO on a CPU).

    ``threads``, ``mode``: see ``OpenVINOEngine``. Raises ``ValueError`` for an unknown backend or
    mode, ``EngineError`` if the engine cannot be opened.
    """
    if backend not in BACKENDS:
        raise ValueError(f"backend is {backend!r}, wanted one of {', '.join(BACKENDS)}")
    # OpenVINO takes longer to import than all the rest.
    from rdx_fast.engines.openvino import OpenVINOEngine

    return OpenVINOEngine(bundle, threads=threads, mode=mode)
