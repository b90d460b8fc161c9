"""Stored frames that stay while a retraining uses them: a full picture store deletes the oldest."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from rdx_fast.durable import locked, try_locked
from rdx_fast.retraining.confirmed import RetrainError
from rdx_fast.retraining.origin import RETRAINED

_FRAMES = ".frames-"


@contextmanager
def own_frames(run: Path) -> Iterator[Path]:
    """Yield a new folder for the frames of one retraining, which is removed in the end.

    Folders of retrainings that were killed are removed first.

    Args:
        run: folder of the run
    """
    parent = run / RETRAINED
    parent.mkdir(exist_ok=True)
    with ExitStack() as stack:
        with locked(run):  # the parent is locked by whoever trains
            for left in parent.glob(f"{_FRAMES}*"):
                with try_locked(left) as held:
                    if held:
                        shutil.rmtree(left, ignore_errors=True)
            folder = Path(tempfile.mkdtemp(prefix=_FRAMES, dir=parent))
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
            stack.enter_context(locked(folder))  # says that it is in use
        yield folder


def keep_frame(path: Path, folder: Path) -> Path | None:
    """Keep a stored frame, without a copy where the file system allows.

    Args:
        path: of the frame; its name and its folder's stay the same
        folder: see ``own_frames``

    Returns:
        where it is kept; None if it was deleted meanwhile

    Raises:
        RetrainError: it cannot be kept, for example because the disk is full
    """
    kept = folder / path.parent.name / path.name
    try:
        kept.parent.mkdir(exist_ok=True)
        try:
            os.link(path, kept)
        except FileNotFoundError:
            raise
        except OSError:  # another file system, or one without hard links, or another user's file
            shutil.copyfile(path, kept)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise RetrainError(f"{path} cannot be kept in {folder}: {error}") from error
    return kept
