"""Blends the maps of a frame's tiles to one map, strip by strip, and reads the scores off it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from rdx_fast.kernels.epilogue import Epilogue, MapStats, summarize_numpy
from rdx_fast.tiling import Tiling


class Blender:
    """Takes the maps of one frame's tiles in the order of ``Tiling.windows``.

    Only the lines of the map that later tiles add to are kept, a strip as wide as a tile across
    ``Tiling.walk``. The others are summarised, written to ``out`` if it is given, and dropped.

    Args:
        tiling: of the frame
        epilogue: what to read off the blended map, which it must fit
        out: ``[H, W]`` float32 of the working image's size, to be written; None if not wanted
    """

    def __init__(
        self, tiling: Tiling, epilogue: Epilogue, out: NDArray[np.float32] | None = None
    ) -> None:
        self._walk = tiling.walk
        axes = (tiling.rows, tiling.columns)
        self._along, self._across = axes[self._walk], axes[1 - self._walk]
        self._step = tiling.tile[self._walk]
        shape = list(tiling.size)
        shape[self._walk] = self._step
        self._strip = np.zeros(shape, np.float32)
        self._out = out
        self._reading = _Reading(epilogue)
        self._added = 0

    @property
    def done(self) -> bool:
        """Whether all tiles were added."""
        return self._added == len(self._along.starts) * len(self._across.starts)

    def add(self, tile: NDArray[np.float32], score: np.float32) -> None:
        """Add the next tile.

        Args:
            tile: its map ``[h, w]`` float32, which is overwritten
            score: its maximum, NaN if it was not inspected
        """
        line, place = divmod(self._added, len(self._across.starts))
        self._added += 1
        if np.isnan(score).any():
            self._reading.broken = True
        if len(self._along.starts) > 1:
            tile *= self._spread(self._along.weights[line], self._walk)
        if len(self._across.starts) > 1:
            tile *= self._spread(self._across.weights[place], 1 - self._walk)
        start = self._across.starts[place]
        self._strip[self._lines(start, start + tile.shape[1 - self._walk], 1 - self._walk)] += tile
        if place == len(self._across.starts) - 1:
            self._finish_line(line)

    def summary(self) -> MapStats:
        """Of the blended map, for a batch of one."""
        return self._reading.summary()

    def _finish_line(self, line: int) -> None:
        """Read and drop what no later tile adds to."""
        starts = (*self._along.starts, self._along.size)
        start, end = starts[line : line + 2]
        final = self._strip[self._lines(0, end - start)]
        self._reading.read(final, self._lines(start, end))
        if self._out is not None:
            self._out[self._lines(start, end)] = final
        kept = self._step - (end - start)
        self._strip[self._lines(0, kept)] = self._strip[self._lines(end - start, self._step)]
        self._strip[self._lines(kept, self._step)] = 0

    def _lines(self, start: int, end: int, axis: int | None = None) -> tuple[slice, ...]:
        """Lines of the axis that is walked along, or of another, as an index of a map."""
        axis = self._walk if axis is None else axis
        return (slice(None),) * axis + (slice(start, end),)

    @staticmethod
    def _spread(weights: NDArray[np.float32], axis: int) -> NDArray[np.float32]:
        return weights[:, None] if axis == 0 else weights[None]


class _Reading:
    """What an epilogue reads off a map, gathered from its parts.

    Attributes:
        broken: whether a tile of the map was not inspected
    """

    def __init__(self, epilogue: Epilogue) -> None:
        self.broken = False
        self._epilogue = epilogue
        self._maximum = np.float32(-np.inf)
        self._area = np.int64(0)
        self._largest = np.empty(0, np.float32)

    def read(self, part: NDArray[np.float32], where: tuple[slice, ...]) -> None:
        """Read a part ``[h, w]`` of the map, which lies at ``where``."""
        mask = self._epilogue.mask
        if mask is not None:
            mask = mask[where]
            if not mask.any():
                return
        found = _summarize(part, replace(self._epilogue, mask=mask, top_k=0))
        self._maximum = np.maximum(self._maximum, found.maxima[0])
        self._area += found.areas[0]
        if top_k := self._epilogue.top_k:
            inside = part.ravel() if mask is None else part[mask]
            inside = np.concatenate([self._largest, inside])
            self._largest = np.partition(inside, -top_k)[-top_k:] if len(inside) > top_k else inside

    def summary(self) -> MapStats:
        found = MapStats.empty(1, self._epilogue.top_k)
        found.areas[0] = self._area
        if not self.broken:
            found.maxima[0] = self._maximum
            if found.top_means is not None:
                found.top_means[0] = self._largest.mean(dtype=np.float64)
        return found


def _summarize(part: NDArray[np.float32], epilogue: Epilogue) -> MapStats:
    """What is read off a part ``[h, w]`` of a map."""
    return summarize_numpy(np.ascontiguousarray(part)[None], epilogue)
