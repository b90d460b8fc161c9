"""Files that survive a power failure."""

from __future__ import annotations

import os
from pathlib import Path


def flush(file: Path) -> None:
    """Make a file's contents durable."""
    with file.open("rb") as stream:
        os.fsync(stream.fileno())


def sync_directory(folder: Path) -> None:
    """Make renames inside ``folder`` durable (a no-op where folders cannot be opened)."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
