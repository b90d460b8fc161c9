"""Decoded images, kept in memory so that they are not decoded again at every step."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rdx_fast.cpu import usable_cores
from rdx_fast.images import image_size, read_image

_AT_ONCE = usable_cores()  # images that are decoded before their size is known


class Frames:
    """Image files as frames. Whether a frame is kept or decoded at each use makes no difference to
    it.

    A process that is forked shares the kept frames; one that is spawned decodes at each use.

    Args:
        paths: image files

    Attributes:
        paths: likewise
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = list(paths)
        self._kept: list[NDArray[np.uint8]] = []

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> NDArray[np.uint8]:
        """The frame, uint8 ``[H, W, 3]`` or ``[H, W]``, not to be written to.

        Raises:
            ImageError: the file cannot be read
        """
        return self._kept[index] if index < len(self._kept) else read_image(self.paths[index])

    def size(self, index: int) -> tuple[int, int]:
        """Height and width of the frame in pixels, without decoding it.

        Raises:
            ImageError: the file cannot be read
        """
        return image_size(self.paths[index])

    def __reduce__(self) -> tuple[type[Frames], tuple[list[Path]]]:
        return Frames, (self.paths,)

    def keep(self, budget_bytes: float) -> float:
        """Decode frames in several threads and keep them, from the first to the last that fits.

        Args:
            budget_bytes: memory that they may take

        Returns:
            the bytes that are left of it

        Raises:
            ImageError: a file cannot be read
        """
        self._kept = []
        if budget_bytes <= 0:
            return budget_bytes
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            for first in range(0, len(self), _AT_ONCE):
                for frame in pool.map(read_image, self.paths[first : first + _AT_ONCE]):
                    if frame.nbytes > budget_bytes:
                        return budget_bytes
                    self._kept.append(frame)
                    budget_bytes -= frame.nbytes
        return budget_bytes
