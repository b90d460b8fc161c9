"""Where tiles lie, and how their maps are blended."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from rdx_fast.kernels.epilogue import Epilogue, MapStats, summarize_numpy
from rdx_fast.pipelines.blending import Blender
from rdx_fast.recipe.tiling import Axis, TileSpec, Tiling, tiling

Maps = NDArray[np.float32]


@st.composite
def axes(draw: st.DrawFn) -> tuple[int, int, int, int]:
    """Frame, tile, overlap and network's input along an axis, in pixels."""
    tile = draw(st.integers(1, 300))
    overlap = draw(st.integers(0, tile // 2))
    return draw(st.integers(tile, 12 * tile)), tile, overlap, draw(st.integers(1, 200))


@given(axes())
def test_tiles_of_an_axis(given_axis: tuple[int, int, int, int]) -> None:
    frame, tile, overlap, size = given_axis
    axis = Axis.of(*given_axis)
    assert axis.size == round(frame * size / tile)
    assert axis.starts[0] == 0
    assert axis.starts[-1] == axis.size - size
    steps = np.diff(axis.starts)
    if len(steps):
        assert 1 <= steps.min() <= steps.max() <= min(size, steps.min() + 1)
        if size > 1:
            assert size - steps.max() >= overlap * size / tile
        # No tile could be left out.
        shared = min(np.ceil(overlap * size / tile), size - 1)
        assert axis.size > size + (len(steps) - 1) * (size - shared)


@given(axes())
def test_weights_of_an_axis(given_axis: tuple[int, int, int, int]) -> None:
    size = given_axis[3]
    axis = Axis.of(*given_axis)
    assert axis.weights.dtype == np.float32
    assert axis.weights.min() > 0
    total, covering = np.zeros(axis.size), np.zeros(axis.size, int)
    for start, weights in zip(axis.starts, axis.weights, strict=True):
        total[start : start + size] += weights
        covering[start : start + size] += 1
    np.testing.assert_allclose(total, 1, rtol=1e-6)
    for start, weights in zip(axis.starts, axis.weights, strict=True):
        alone = covering[start : start + size] == 1
        assert (weights[alone] == 1).all()
        # The end of a tile that a neighbour shares counts least.
        if len(axis.starts) > 1 and not alone.any() and size > 2:
            assert weights[0] < weights.max() or weights[-1] < weights.max()
    if len(axis.starts) == 2 and size > 1:
        (_, second), shared = axis.starts, 2 * size - axis.size
        falling = axis.weights[0][second:]
        np.testing.assert_allclose(falling, 1 - (np.arange(shared) + 0.5) / max(shared, 1), 1e-5)


@pytest.mark.parametrize(
    ("frame", "walk", "tiles"),
    [
        ((300, 200), 0, (6, 5)),
        ((200, 300), 0, (4, 7)),
        ((200, 340), 1, (4, 8)),
        ((60, 50), 0, (1, 1)),
    ],
)
def test_tiles_of_a_frame(frame: tuple[int, int], walk: int, tiles: tuple[int, int]) -> None:
    found = tiling(TileSpec(60, 50, 4), frame, (32, 64))
    assert found.size == (round(frame[0] * 32 / 60), round(frame[1] * 64 / 50))
    assert found.walk == walk
    windows = found.windows()
    assert len(windows) == tiles[0] * tiles[1]
    places = [(w.top, w.left)[::-1] if walk else (w.top, w.left) for w in windows]
    assert places == sorted(places)
    assert {(w.height, w.width) for w in windows} == {found.size}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((0, 8), "height of the tiles is 0"),
        ((8, -1), "width of the tiles is -1"),
        ((8, 8, -1), "overlap of the tiles is -1"),
        ((8.0, 8), r"height of the tiles is 8\.0, wanted a whole number"),
        ((True, 8), "height of the tiles is True"),
        ((8, 20, 5), "overlap is 5, and the tiles are 8 x 20: wanted at most half"),
    ],
)
def test_specs_that_are_refused(options: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TileSpec(*options)


@pytest.mark.parametrize("frame", [(59, 200), (200, 49)])
def test_tiles_larger_than_the_frame(frame: tuple[int, int]) -> None:
    wanted = f"tiles of 60 x 50 pixels are larger than the frame .* of {frame[0]} x {frame[1]}"
    with pytest.raises(ValueError, match=wanted):
        tiling(TileSpec(60, 50), frame, (32, 32))


def tile_maps(tiled: Tiling, seed: int = 0) -> Maps:
    rng = np.random.default_rng(seed)
    return rng.random((len(tiled.windows()), *tiled.tile), np.float32)


def blended(tiled: Tiling, maps: Maps, epilogue: Epilogue) -> tuple[MapStats, Maps]:
    """Also without the map, and of more than one tile at once: the summary must be the same."""
    of_lines, most = replace(epilogue, top_k=0), epilogue.top_k
    out = np.zeros(tiled.size, np.float32)
    scores = maps.max(axis=(1, 2))[:, None]
    found = []
    for step, target in ((1, out), (5, None)):
        blender = Blender(tiled, of_lines, most, target)
        for i in range(0, len(maps), step):
            assert not blender.done
            blender.add(maps[i : i + step], scores[i : i + step])
        assert blender.done
        found.append(blender.summary())
    for wanted, again in zip(*found, strict=True):
        np.testing.assert_array_equal(again, wanted)
    return found[0], out


def expected_map(tiled: Tiling, maps: Maps) -> NDArray[np.float64]:
    """The sum of all weighted maps at once."""
    whole = np.zeros(tiled.size)
    height, width = tiled.tile
    rows = dict(zip(tiled.rows.starts, tiled.rows.weights, strict=True))
    columns = dict(zip(tiled.columns.starts, tiled.columns.weights, strict=True))
    for window, tile in zip(tiled.windows(), maps, strict=True):
        top, left = window.top, window.left
        weights = np.outer(rows[top], columns[left]).astype(np.float64)
        whole[top : top + height, left : left + width] += weights * tile
    return whole


@st.composite
def tilings(draw: st.DrawFn) -> Tiling:
    size = draw(st.tuples(st.integers(2, 12), st.integers(2, 12)))
    height, width = (draw(st.integers(side, 2 * side)) for side in size)
    overlap = draw(st.integers(0, min(height, width) // 2))
    frame = (draw(st.integers(height, 5 * height)), draw(st.integers(width, 5 * width)))
    return tiling(TileSpec(height, width, overlap), frame, size)


@given(tilings(), st.integers(0, 4), st.integers(0, 3), st.integers(0, 1000))
def test_what_is_read_off_strips(tiled: Tiling, top_k: int, regions: int, seed: int) -> None:
    """It is the same as read off the whole map. Without regions the whole map is one."""
    maps = tile_maps(tiled, seed)
    labels, thresholds = None, (0.6,)
    if regions:
        rng = np.random.default_rng(seed)
        labels = np.where(rng.random(tiled.size) < 0.2, rng.integers(1, 4, tiled.size), 0)
        labels = np.minimum(labels, regions).astype(np.uint8)
        labels.flat[:4] = np.arange(1, 5).clip(max=regions)
        thresholds = (0.6, 0.3, 0.5)[:regions]
    epilogue = Epilogue(labels, thresholds, top_k)
    summary, out = blended(tiled, maps, epilogue)
    np.testing.assert_allclose(out, expected_map(tiled, maps), rtol=1e-5)
    wanted = summarize_numpy(out[None], epilogue)
    np.testing.assert_array_equal(summary.maxima, wanted.maxima)
    np.testing.assert_array_equal(summary.areas, wanted.areas)
    assert (summary.top_means is None) == (epilogue.top_k == 0)
    if wanted.top_means is not None:
        np.testing.assert_allclose(summary.top_means, wanted.top_means, rtol=1e-6)


def test_one_tile_is_the_map() -> None:
    tiled = tiling(TileSpec(70, 90, 20), (70, 90), (32, 64))
    maps = tile_maps(tiled)
    _, out = blended(tiled, maps, Epilogue())
    np.testing.assert_array_equal(out, maps[0])


@pytest.mark.parametrize("frame", [(100, 40), (40, 100)])
@pytest.mark.parametrize("broken", ["map", "score"])
def test_a_tile_that_was_not_inspected(frame: tuple[int, int], broken: str) -> None:
    """Its NaN may lie outside the region of interest, or the tile be missing."""
    tiled = tiling(TileSpec(20, 20, 4), frame, (16, 16))
    labels = np.zeros(tiled.size, np.uint8)
    labels[:3, :3] = 1
    for which in range(len(tiled.windows())):
        maps = tile_maps(tiled)
        blender = Blender(tiled, Epilogue(labels, (0.5,)), 2)
        scores = maps.max(axis=(1, 2))[:, None]
        if broken == "map":
            maps[which, -1, -1] = np.nan
        else:
            scores[which] = np.nan
        blender.add(maps, scores)
        summary = blender.summary()
        assert np.isnan(summary.maxima).all()
        assert summary.top_means is not None
        assert np.isnan(summary.top_means).all()


@pytest.mark.parametrize("turned", [False, True])
def test_memory_of_blending(turned: bool) -> None:
    """It does not grow with the longer side of the frame."""

    def peak(length: int) -> int:
        frame = (128, length) if turned else (length, 128)
        tiled = tiling(TileSpec(64, 64, 16), frame, (64, 64))
        tiles = np.ones((1, *tiled.tile), np.float32)
        tracemalloc.start()
        blender = Blender(tiled, Epilogue(None, (0.5,)), 10)
        while not blender.done:
            blender.add(tiles, np.ones((1, 1), np.float32))
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    short, long = peak(512), peak(16 * 512)
    assert long < 1.2 * short
    assert long < 128 * 16 * 512 * 4 / 4


def test_a_spec_can_be_changed_and_compared() -> None:
    spec = TileSpec(8, 9, 2)
    assert replace(spec, overlap=3) == TileSpec(8, 9, 3)
    assert len({spec, TileSpec(8, 9, 2)}) == 1
