"""Files that survive a power failure, and folders that one process at a time changes."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
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


def write_whole(file: Path, content: bytes, mode: int | None = None) -> None:
    """Write a file, or other contents into its place, at once and durably.

    Whoever reads it meanwhile, or after a power failure, finds the old or the new contents whole.

    Args:
        file: the file
        content: all that it holds afterwards
        mode: its permissions, such as 0o600; None for those of any new file
    """
    partial = Path(tempfile.mkdtemp(prefix=f".{file.name}.", dir=file.parent))
    try:
        (partial / file.name).write_bytes(content)
        if mode is not None:
            (partial / file.name).chmod(mode)
        flush(partial / file.name)
        (partial / file.name).replace(file)
        sync_directory(file.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder for this process; others that want it wait (a no-op as above)."""
    if os.name != "posix":
        yield
        return
    import fcntl

    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)  # which gives the lock back
