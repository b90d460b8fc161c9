"""Blends the maps of a frame's tiles to one map, strip by strip, and reads the scores off it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rdx_fast.kernels.epilogue import Epilogue, MapStats, summarize
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
        self, tiling: Tiling, epilogue: StripEpilogue, out: NDArray[np.float32] | None = None
    ) -> None:
        self._walk = tiling.walk
        axes = (tiling.rows, tiling.columns)
        self._along, self._across = axes[self._walk], axes[1 - self._walk]
        self._step = tiling.tile[self._walk]
        shape = list(tiling.size)
        shape[self._walk] = self._step
        self._strip = np.zeros(shape, np.float32)
        self._out = out
        self._reading = _Reading(epilogue, self._walk)
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
        self._reading.read(final, start)
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


class StripEpilogue:
    """An epilogue for maps that come in strips, which are rows or columns of the map.

    Args:
        epilogue: what to read off a map

    Attributes:
        whole: likewise
        of_lines: what to read off its strips, for strips of rows and, transposed, of columns
    """

    def __init__(self, epilogue: Epilogue) -> None:
        self.whole = epilogue
        labels = epilogue.labels
        self.of_lines = [
            Epilogue(part, epilogue.thresholds)
            for part in (labels, None if labels is None else np.ascontiguousarray(labels.T))
        ]


class _Reading:
    """What an epilogue reads off a map, gathered from its strips.

    Attributes:
        broken: whether a tile of the map was not inspected
    """

    def __init__(self, epilogue: StripEpilogue, walk: int) -> None:
        self.broken = False
        self._walk = walk
        self._top_k = epilogue.whole.top_k
        self._of_lines = epilogue.of_lines[walk]
        self._found = MapStats.empty(1, self._of_lines)
        self._found.maxima[:] = -np.inf
        self._largest = np.empty(0, np.float32)

    def read(self, strip: NDArray[np.float32], start: int) -> None:
        """Read lines ``[n, W]``, or columns ``[H, n]``, of the map from ``start`` on."""
        lines = np.ascontiguousarray(strip if self._walk == 0 else strip.T)
        found = summarize(lines[None], self._of_lines, start)
        self._found = self._found.joined(found)
        if self._top_k:
            labels = self._of_lines.labels
            inside = lines.ravel()
            if labels is not None:
                inside = lines[labels[start : start + len(lines)] != 0]
            inside = np.concatenate([self._largest, inside])
            most = self._top_k
            self._largest = np.partition(inside, -most)[-most:] if len(inside) > most else inside

    def summary(self) -> MapStats:
        top_means = None
        if self._top_k:
            top_means = self._largest.mean(dtype=np.float64, keepdims=True).astype(np.float32)
        found = self._found._replace(top_means=top_means)
        if self.broken:
            found.maxima[:] = np.nan
            if top_means is not None:
                top_means[:] = np.nan
        return found
