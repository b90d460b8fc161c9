"""Blends the maps of a frame's tiles to one map, line by line, and reads the scores off it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rdx_fast.kernels.blend import blend
from rdx_fast.kernels.epilogue import Epilogue, MapStats, Place, part_at, summarize
from rdx_fast.recipe.tiling import Tiling


class Blender:
    """Takes the maps of one frame's tiles in the order of ``Tiling.windows``.

    Lines of the map (along ``Tiling.walk``) that no later tile adds to are read. Without ``out``
    only the others are kept, a strip as wide as a tile.

    Args:
        tiling: of the frame
        epilogue: what to read off the blended map, which it must fit, without a top mean
        top_k: number of the map's largest values in the top mean; 0 for no top mean
        out: ``[H, W]`` float32 of the working image's size, C-contiguous, in which the map is made;
            it must hold zeros. None if it is not wanted
    """

    def __init__(
        self,
        tiling: Tiling,
        epilogue: Epilogue,
        top_k: int = 0,
        out: NDArray[np.float32] | None = None,
    ) -> None:
        self._walk = tiling.walk
        axes = (tiling.rows, tiling.columns)
        self._along, self._across = axes[self._walk], axes[1 - self._walk]
        self._step = tiling.tile[self._walk]
        self._whole = out is not None
        if out is None:
            strip = list(tiling.size)
            strip[self._walk] = self._step
            out = np.zeros(strip, np.float32)
        self._canvas = out
        self._begin = 0  # line of the map that the canvas begins with
        self._added = 0
        self._reading = _Reading(epilogue, top_k)

    @property
    def done(self) -> bool:
        """Whether all tiles were added."""
        return self._added == len(self._along.starts) * len(self._across.starts)

    def add(self, tiles: NDArray[np.float32], scores: NDArray[np.float32]) -> None:
        """Add the next tiles.

        Args:
            tiles: their maps ``[N, h, w]`` float32
            scores: their maxima ``[N, 1]``, NaN for a tile that was not inspected
        """
        self._reading.broken |= bool(np.isnan(scores).any())
        in_line = len(self._across.starts)
        while len(tiles):
            line, first = divmod(self._added, in_line)
            same = tiles[: in_line - first]
            self._add_to_line(same, line, slice(first, first + len(same)))
            self._added += len(same)
            tiles = tiles[len(same) :]
            if first + len(same) == in_line:
                self._finish_line(line)

    def summary(self) -> MapStats:
        """Of the blended map, for a batch of one."""
        return self._reading.summary()

    def _add_to_line(self, tiles: NDArray[np.float32], line: int, across: slice) -> None:
        rows = np.broadcast_to(self._along.weights[line], (len(tiles), self._step))
        columns = self._across.weights[across]
        start = self._along.starts[line] - self._begin
        places = np.array([(start, place) for place in self._across.starts[across]], np.int64)
        if self._walk == 1:
            rows, columns, places = columns, rows, places[:, ::-1]
        blend(tiles, rows, columns, places, self._canvas)

    def _finish_line(self, line: int) -> None:
        """Read what no later tile adds to; a strip moves on."""
        start, end = (*self._along.starts, self._along.size)[line : line + 2]
        final = self._canvas[self._lines(start - self._begin, end - self._begin)]
        self._reading.read(final, (0, start) if self._walk else (start, 0))
        if self._whole:
            return
        passed = end - start
        kept = self._step - passed
        self._canvas[self._lines(0, kept)] = self._canvas[self._lines(passed, self._step)]
        self._canvas[self._lines(kept, self._step)] = 0
        self._begin = end

    def _lines(self, start: int, end: int) -> tuple[slice, ...]:
        """Index of lines of the canvas."""
        return (slice(None),) * self._walk + (slice(start, end),)


class _Reading:
    """What is read off a map, gathered from its parts.

    Attributes:
        broken: whether a tile of the map was not inspected
    """

    def __init__(self, epilogue: Epilogue, top_k: int) -> None:
        self.broken = False
        self._epilogue = epilogue
        self._top_k = top_k
        self._found = MapStats.empty(1, epilogue)
        self._found.maxima[:] = -np.inf
        self._largest = np.empty(0, np.float32)

    def read(self, part: NDArray[np.float32], first: Place) -> None:
        """Read ``[h, w]`` of the map, which begins at ``first``."""
        found = summarize(part[None], self._epilogue, first)
        self._found = self._found.joined(found)
        if self._top_k:
            self._gather(part, first)

    def summary(self) -> MapStats:
        top_means = None
        if self._top_k:
            top_means = self._largest.mean(dtype=np.float64, keepdims=True).astype(np.float32)
        found = self._found._replace(top_means=top_means)
        if self.broken or np.isnan(found.maxima).any():
            found.maxima[:] = np.nan
            if top_means is not None:
                top_means[:] = np.nan
        return found

    def _gather(self, part: NDArray[np.float32], first: Place) -> None:
        """Keep the largest values so far."""
        labels = self._epilogue.labels
        wanted = np.ones(part.shape, bool)
        if labels is not None:
            wanted = labels[part_at(first, part.shape)] != 0
        most = self._top_k
        if len(self._largest) == most:  # after the first lines few values are larger
            wanted &= part > self._largest.min()
        inside = np.concatenate([self._largest, part[wanted]])
        self._largest = np.partition(inside, -most)[-most:] if len(inside) > most else inside
