"""Files that survive a power failure, and folders that one process at a time changes."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_AT_CWD = -100  # AT_FDCWD: paths are those of the process
_EXCHANGE = 2  # RENAME_EXCHANGE


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


@contextmanager
def try_locked(folder: Path) -> Iterator[bool]:
    """Hold a folder as ``locked`` does if no process holds it: yields whether it is held now."""
    if os.name != "posix":
        yield True
        return
    import fcntl

    try:
        handle = os.open(folder, os.O_RDONLY)
    except FileNotFoundError:  # removed by whoever held it
        yield False
        return
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(handle)


def exchange(one: Path, other: Path) -> None:
    """Exchange two folders of one file system at once: no moment is without either name.

    Raises:
        OSError: they cannot be exchanged, or the file system or the operating system has no such
            operation (Linux has it on ext4, XFS, Btrfs, F2FS and tmpfs); nothing was changed then
    """
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError, TypeError) as error:
        raise OSError(
            "this operating system cannot exchange two folders at once: it takes Linux with glibc "
            "2.28 or newer"
        ) from error
    found = renameat2(_AT_CWD, os.fsencode(one), _AT_CWD, os.fsencode(other), _EXCHANGE)
    if found != 0:
        number = ctypes.get_errno()
        reason = os.strerror(number)
        if number in (errno.EINVAL, errno.ENOSYS):
            reason = (
                "the file system cannot exchange two folders at once: put the bundle on ext4, XFS "
                "or Btrfs"
            )
        raise OSError(number, reason, str(one), None, str(other))
