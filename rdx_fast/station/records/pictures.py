"""Pictures of parts, kept within a limit of disk space."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rdx_fast.deep_images import write_png
from rdx_fast.preprocess import Frame

# 16-bit grey level of a region's OK limit in a stored map: a quarter of the range.
LEVEL_OF_LIMIT = 16384
_FRAME = "_frame.png"


class PictureStore:
    """Stores frames and anomaly maps as PNG files, in one folder for each day.

    The oldest files are deleted when the limit is reached. Maps are 16-bit grey, ``value / OK limit
    of its region * 16384``, 0 where nothing is inspected, at the map's own size. Used by one
    thread.

    Args:
        folder: folder of the pictures, created if it is missing
        budget_mb: most disk space for frames and maps together, in units of 10^6 bytes

    Raises:
        ValueError: ``budget_mb`` is not above 0
    """

    def __init__(self, folder: Path, budget_mb: float) -> None:
        if budget_mb <= 0:
            raise ValueError(f"the disk space budget is {budget_mb} MB, wanted more than 0")
        self._folder = folder
        self._budget = budget_mb * 1e6
        folder.mkdir(parents=True, exist_ok=True)
        for partial in folder.glob("*/*.partial"):  # of a process that was killed
            partial.unlink()
        found = sorted(folder.glob("*/*.png"), key=lambda path: (path.parent.name, path.name))
        self._files = OrderedDict((path, path.stat().st_size) for path in found)
        self._bytes = sum(self._files.values())

    def keep(
        self,
        inspection_id: int,
        taken: datetime,
        frame: Frame,
        relative: NDArray[np.float32] | None,
    ) -> str:
        """Write a frame and its map, and delete the oldest files to make room.

        Args:
            inspection_id: id of the inspection, part of the file names
            taken: time of the picture, whose date names the day's folder
            frame: uint8 or uint16, [H, W, 3] RGB or [H, W], which is stored as it is
            relative: float32 [h, w], the map as multiples of the limits, see
                ``Detector.relative_map``; None to write no map

        Returns:
            The pictures' path in the folder, without ``_frame.png`` and ``_map.png``.

        Raises:
            OSError: the files cannot be written, for example because the disk is full
        """
        name = f"{taken:%Y-%m-%d}/{inspection_id:010d}"
        self._write(self._folder / f"{name}{_FRAME}", frame)
        if relative is not None:
            levels = relative * LEVEL_OF_LIMIT
            self._write(
                self._folder / f"{name}_map.png", levels.clip(0, 65535).round().astype(np.uint16)
            )
        return name

    def newest(self, count: int) -> Iterator[tuple[int, str, datetime]]:
        """The frames that were stored last.

        Args:
            count: how many at most

        Yields:
            Id of the inspection, path as ``keep`` returns it, and time when it was written, UTC.
        """
        frames = (path for path in reversed(self._files) if path.name.endswith(_FRAME))
        for path in islice(frames, count):
            name = path.name.removesuffix(_FRAME)
            written = datetime.fromtimestamp(path.stat().st_mtime, UTC)
            if name.isdecimal():
                yield int(name), f"{path.parent.name}/{name}", written

    def _write(self, path: Path, pixels: Frame) -> None:
        path.parent.mkdir(exist_ok=True)
        partial = path.with_suffix(".partial")
        try:
            # Fast rather than small: no part waits for a picture, but the next picture does.
            write_png(partial, pixels, compression=1)
            size = partial.stat().st_size
            self._make_room(size)
            os.replace(partial, path)
        except OSError:
            partial.unlink(missing_ok=True)
            raise
        # A new file of records counts its inspections from 1 again: the path may be a former one's.
        self._bytes += size - self._files.pop(path, 0)
        self._files[path] = size

    def _make_room(self, size: int) -> None:
        while self._files and self._bytes + size > self._budget:
            path, oldest = self._files.popitem(last=False)
            path.unlink(missing_ok=True)
            self._bytes -= oldest
            if path.parent != self._folder and not any(path.parent.iterdir()):
                path.parent.rmdir()
