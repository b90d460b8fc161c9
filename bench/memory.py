"""Memory of this process."""

from __future__ import annotations

import psutil


def memory_mb() -> float:
    """Resident memory of this process in units of 2^20 bytes."""
    return float(psutil.Process().memory_info().rss / 2**20)
