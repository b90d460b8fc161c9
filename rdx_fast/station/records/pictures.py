"""Pictures of rejected parts, within a budget of disk space."""

from __future__ import annotations

import os
from collections import deque
from datetime import datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

# A map's grey levels, 16 bits: the threshold lies at a quarter of the range.
LEVELS_AT_THRESHOLD = 16384


class PictureStore:
    """A folder of a day each; a frame and its anomaly map as PNG; the oldest go when the budget is
    spent. ``budget_mb``: of both together, in 10^6 bytes. Used by one thread.

    The map is 16-bit grey, ``value / threshold * 16384``, at its own size.
    """

    def __init__(self, folder: Path, budget_mb: float) -> None:
        if budget_mb <= 0:
            raise ValueError(f"the budget is {budget_mb} MB, wanted more than 0")
        self._folder = folder
        self._budget = budget_mb * 1e6
        folder.mkdir(parents=True, exist_ok=True)
        for partial in folder.glob("*/*.partial"):  # of a process that was killed
            partial.unlink()
        found = sorted(folder.glob("*/*.png"), key=lambda path: (path.parent.name, path.name))
        self._files = deque((path, path.stat().st_size) for path in found)
        self._bytes = sum(size for _, size in self._files)

    def keep(
        self,
        inspection_id: int,
        taken: datetime,
        frame: NDArray[np.uint8],
        anomaly_map: NDArray[np.float32] | None,
        threshold: float,
    ) -> str:
        """Write both and make room. Returns the name in the folder, without suffix. Raises
        ``OSError`` (disk full)."""
        name = f"{taken:%Y-%m-%d}/{inspection_id:010d}"
        self._write(self._folder / f"{name}_frame.png", frame)
        if anomaly_map is not None:
            levels = anomaly_map / np.float32(threshold) * LEVELS_AT_THRESHOLD
            self._write(
                self._folder / f"{name}_map.png", levels.clip(0, 65535).round().astype(np.uint16)
            )
        return name

    def _write(self, path: Path, pixels: NDArray[np.uint8] | NDArray[np.uint16]) -> None:
        path.parent.mkdir(exist_ok=True)
        partial = path.with_suffix(".partial")
        try:
            # Quick rather than small: the line waits for no picture, but the next one does.
            Image.fromarray(pixels).save(partial, format="PNG", compress_level=1)
            size = partial.stat().st_size
            self._make_room(size)
            os.replace(partial, path)
        except OSError:
            partial.unlink(missing_ok=True)
            raise
        self._files.append((path, size))
        self._bytes += size

    def _make_room(self, size: int) -> None:
        while self._files and self._bytes + size > self._budget:
            path, oldest = self._files.popleft()
            path.unlink(missing_ok=True)
            self._bytes -= oldest
            if path.parent != self._folder and not any(path.parent.iterdir()):
                path.parent.rmdir()
