"""The pipeline of frames that are scored in tiles: it scores windows by another pipeline."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from itertools import groupby, islice
from operator import itemgetter
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rdx_fast.kernels.epilogue import Epilogue, MapStats
from rdx_fast.kernels.resize_normalize import check_crop
from rdx_fast.pipelines.blending import Blender
from rdx_fast.pipelines.pipeline import (
    BatchScores,
    Pipeline,
    ScoreOptions,
    WindowPipeline,
    nothing,
)
from rdx_fast.preprocess import FrameWindow
from rdx_fast.recipe.tiling import TileSpec, Tiling, tiling

Part = Sequence[FrameWindow]


def in_tiles(
    pipeline: WindowPipeline, tiles: TileSpec | None, tile: tuple[int, int], epilogue: Epilogue
) -> Pipeline:
    """The pipeline that scores frames in ``tiles``; without tiles the pipeline itself."""
    return pipeline if tiles is None else TiledPipeline(pipeline, tiles, tile, epilogue)


class TiledPipeline:
    """A ``pipeline.Pipeline`` that scores each frame in tiles and blends their maps.

    Args:
        windows: scores the tiles; its epilogue reads each tile's maximum
        tiles: as configured
        tile: height and width of the network's input
        epilogue: what to read off the blended maps
    """

    def __init__(
        self, windows: WindowPipeline, tiles: TileSpec, tile: tuple[int, int], epilogue: Epilogue
    ) -> None:
        self.description = (
            f"{windows.description}; tiles of {tiles.height} x {tiles.width}, overlap "
            f"{tiles.overlap}"
        )
        self._windows = windows
        self._tiles = tiles
        self._tile = tile
        self._epilogue = epilogue
        self._of_lines = replace(epilogue, top_k=0)
        self._spare: deque[NDArray[np.float32]] = deque()

    def score(
        self, batch: Any, options: ScoreOptions, check: Callable[[], None] = nothing
    ) -> BatchScores:
        check()
        return self.submit(batch, options)()

    def submit(self, batch: Any, options: ScoreOptions) -> Callable[[], BatchScores]:
        tilings = [
            tiling(self._tiles, check_crop(shape[:2], options.crop)[2:], self._tile)
            for shape in self._windows.shapes(batch)
        ]
        given = (batch, options, tilings, self._epilogue, self._of_lines, self._spare)
        work = _Work(self._windows, *given)
        work.begin()
        return work.finish

    def close(self) -> None:
        self._windows.close()


class _Work:
    """One batch: parts of its tiles are scored in order, and blended frame by frame.

    Args:
        windows: scores the tiles
        batch: the frames
        options: of scoring
        tilings: of each frame
        epilogue: what to read off the blended maps
        of_lines: what to read off their lines: the same without a top mean
        spare: memory for the maps of a part ``[max_windows, h, w]``, which is used again
    """

    def __init__(
        self,
        windows: WindowPipeline,
        batch: Any,
        options: ScoreOptions,
        tilings: Sequence[Tiling],
        epilogue: Epilogue,
        of_lines: Epilogue,
        spare: deque[NDArray[np.float32]],
    ) -> None:
        for of_frame in tilings:
            epilogue.check(*of_frame.size)
        self._windows = windows
        self._batch = batch
        self._options = options
        self._tilings = tilings
        self._top_k = epilogue.top_k
        self._of_lines = of_lines
        self._spare = spare
        self._summary = MapStats.empty(len(tilings), epilogue)  # NaN until inspected
        self._maps = _zero_maps(tilings) if options.maps else None
        tiles = ((i, window) for i, t in enumerate(tilings) for window in t.windows())
        self._parts = iter(lambda: tuple(islice(tiles, windows.max_windows)), ())
        self._flying: deque[tuple[Part, NDArray[np.float32], Callable[[], BatchScores]]] = deque()
        self._blender: Blender | None = None
        self._seconds: dict[str, float] = {}

    def begin(self) -> None:
        """Start scoring the first parts."""
        with self._abandoning():
            self._fill()

    def finish(self) -> BatchScores:
        """Wait for all parts and blend them."""
        with self._abandoning():
            while self._flying:
                part, memory, result = self._flying.popleft()
                scored = result()
                self._fill()  # so that these are scored while this one is blended
                begin = perf_counter()
                self._blend(part, scored)
                self._spare.append(memory)
                for stage, taken in (*scored.seconds.items(), ("blend", perf_counter() - begin)):
                    self._seconds[stage] = self._seconds.get(stage, 0.0) + taken
        return BatchScores(self._summary, self._maps, self._seconds)

    def _fill(self) -> None:
        """Start scoring parts, as many as may be in flight."""
        most = self._windows.parts_in_flight
        while len(self._flying) < most and (part := next(self._parts, None)):
            memory = self._memory()
            options = self._options._replace(maps=True, windows=part, out=memory[: len(part)])
            self._flying.append((part, memory, self._windows.submit(self._batch, options)))

    def _memory(self) -> NDArray[np.float32]:
        """For the maps of a part."""
        try:
            return self._spare.pop()
        except IndexError:
            return np.empty((self._windows.max_windows, *self._tilings[0].tile), np.float32)

    def _blend(self, part: Part, scored: BatchScores) -> None:
        maps, scores = scored.anomaly_maps, scored.summary.maxima
        assert maps is not None
        for frame, own in groupby(part, key=itemgetter(0)):
            if self._blender is None:
                self._blender = Blender(
                    self._tilings[frame],
                    self._of_lines,
                    self._top_k,
                    None if self._maps is None else self._maps[frame],
                )
            tiles = len(list(own))
            self._blender.add(maps[:tiles], scores[:tiles])
            maps, scores = maps[tiles:], scores[tiles:]
            if self._blender.done:
                self._summary.put(slice(frame, frame + 1), self._blender.summary())
                self._blender = None

    @contextmanager
    def _abandoning(self) -> Iterator[None]:
        """After a failure, wait for what is in flight: it must not read frames that the caller may
        now change."""
        try:
            yield
        except BaseException:
            while self._flying:
                with suppress(Exception):  # the first failure is raised
                    self._flying.popleft()[-1]()
            raise


def _zero_maps(tilings: Sequence[Tiling]) -> NDArray[np.float32]:
    sizes = list(dict.fromkeys(of_frame.size for of_frame in tilings))
    if len(sizes) > 1:
        (height, width), (other_height, other_width) = sizes[:2]
        raise ValueError(
            f"the frames of the batch have maps of {height} x {width} and of {other_height} x "
            f"{other_width} pixels, which make no one array: score frames of one size together, or "
            f"leave the maps out (maps=False)"
        )
    return np.zeros((len(tilings), *sizes[0]), np.float32)
