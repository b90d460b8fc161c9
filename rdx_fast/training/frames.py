"""Decoded images, kept in memory so that they are not decoded again at every step."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rdx_fast.bundle.manifest import InputSpec
from rdx_fast.cpu import usable_cores
from rdx_fast.errors import ImageError
from rdx_fast.images import image_size, read_image
from rdx_fast.kernels.resize_normalize import check_crop
from rdx_fast.kernels.resize_taps import Window
from rdx_fast.preprocess import Frame, FrameOptions
from rdx_fast.recipe.tiling import Tiling, tiling

_AT_ONCE = usable_cores()  # images that are decoded before their size is known


class Frames:
    """Image files as frames. Whether a frame is kept or decoded at each use makes no difference to
    it.

    A process that is forked shares the kept frames; one that is spawned decodes at each use.

    Args:
        paths: image files
        options: how the frames are read

    Attributes:
        paths: likewise
        options: likewise
    """

    def __init__(self, paths: Sequence[Path], options: FrameOptions | None = None) -> None:
        self.paths = list(paths)
        self.options = options or FrameOptions()
        self._kept: list[Frame] = []

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Frame:
        """The frame, uint8 or uint16, ``[H, W, 3]`` or ``[H, W]``, not to be written to.

        Raises:
            ImageError: the file cannot be read
        """
        return self._kept[index] if index < len(self._kept) else read_image(self.paths[index])

    def input(
        self,
        index: int,
        spec: InputSpec,
        window: Window | None = None,
        frame: Frame | None = None,
    ) -> NDArray[np.float32]:
        """The frame, or a window of it, resized and normalised, ``[3, height, width]`` float32.

        Args:
            index: of the frame
            spec: the network's input
            window: of the resized frame; None for all of it
            frame: the decoded frame, if it is at hand

        Raises:
            ImageError: the file cannot be read, or the options do not fit it
        """
        try:
            frame = self[index] if frame is None else frame
            return self.options.to_input(frame, spec, window=window)
        except ValueError as error:
            raise ImageError(self.paths[index], str(error)) from error

    def tiling(self, index: int, tile: tuple[int, int]) -> Tiling:
        """The tiles of the frame, as its options say, without decoding it.

        Args:
            index: of the frame
            tile: height and width of the network's input

        Raises:
            ImageError: the file cannot be read, or crop or tiles exceed the frame
        """
        assert self.options.tiles is not None
        size = image_size(self.paths[index])
        try:
            shown = check_crop(size, self.options.crop)[2:]
            return tiling(self.options.tiles, shown, tile)
        except ValueError as error:
            raise ImageError(self.paths[index], str(error)) from error

    def __reduce__(self) -> tuple[type[Frames], tuple[list[Path], FrameOptions]]:
        return Frames, (self.paths, self.options)

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
