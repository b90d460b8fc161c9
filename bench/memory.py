"""What a process holds."""

from __future__ import annotations

import psutil


def memory_mb() -> float:
    """Resident memory of this process, 2^20 bytes."""
    return float(psutil.Process().memory_info().rss / 2**20)
