from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from rdx_fast.kernels.blend import blend as checked_blend
from support.kernel_runs import COMPILED, blend

ON_CPU = ("numpy", *COMPILED)
Given = tuple[NDArray[Any], ...]  # tiles, weights of rows and of columns, places, canvas

# Tiles, their size, the canvas: sides are no multiples of what a vector holds.
LAYOUTS = [
    (1, (1, 1), (1, 1)),
    (5, (8, 16), (8, 64)),
    (5, (16, 8), (64, 8)),
    (7, (13, 33), (41, 90)),
    (4, (31, 7), (33, 9)),
    (3, (6, 129), (6, 131)),
]


def generated(count: int, tile: tuple[int, int], canvas: tuple[int, int]) -> Given:
    """Tiles at any places, that overlap, on a canvas that is not empty."""
    rng = np.random.default_rng(0)
    room = np.subtract(canvas, tile) + 1
    return (
        rng.random((count, *tile), np.float32),
        rng.random((count, tile[0]), np.float32),
        rng.random((count, tile[1]), np.float32),
        rng.integers(0, room, (count, 2), np.int64),
        rng.random(canvas, np.float32),
    )


def expected(given: Given) -> NDArray[np.float32]:
    """Pixel by pixel. float64 holds products of float32, so each operation is rounded once."""
    tiles, rows, columns, places, canvas = given
    whole = canvas.copy()
    for tile, down, across, (top, left) in zip(tiles, rows, columns, places, strict=True):
        for (y, x), value in np.ndenumerate(tile):
            weighted = np.float32(float(np.float32(float(value) * down[y])) * float(across[x]))
            place = top + y, left + x
            whole[place] = np.float32(float(whole[place]) + float(weighted))
    return whole


def bits(values: NDArray[np.float32]) -> NDArray[np.uint32]:
    return values.view(np.uint32)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_to_the_last_bit(layout: Any) -> None:
    given = generated(*layout)
    wanted = expected(given)
    for implementation in ON_CPU:
        canvas = given[-1].copy()
        blend(implementation, *given[:-1], canvas)
        np.testing.assert_array_equal(bits(canvas), bits(wanted), implementation)


@pytest.mark.parametrize("implementation", ON_CPU)
@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("place", [(0, 0), (12, 32), (12, 5)])
def test_what_is_not_finite_stays(
    implementation: str, value: float, place: tuple[int, int]
) -> None:
    """In its own pixel alone, whatever other tiles add there."""
    tiles, rows, columns, places, canvas = generated(7, (13, 33), (41, 90))
    tiles[3][place] = value
    blend(implementation, tiles, rows, columns, places, canvas)
    broken = np.zeros(canvas.shape, bool)
    broken[tuple(places[3] + place)] = True
    np.testing.assert_array_equal(~np.isfinite(canvas), broken)


@pytest.mark.parametrize("implementation", ON_CPU)
def test_one_tile_is_the_canvas(implementation: str) -> None:
    tile = np.random.default_rng(0).random((1, 19, 37), np.float32)
    rows, columns = (np.ones((1, n), np.float32) for n in tile.shape[1:])
    canvas = np.zeros(tile.shape[1:], np.float32)
    blend(implementation, tile, rows, columns, np.zeros((1, 2), np.int64), canvas)
    np.testing.assert_array_equal(bits(canvas), bits(tile[0]))


@pytest.mark.parametrize("implementation", ON_CPU)
def test_views(implementation: str) -> None:
    """Of tiles and weights, such as one row of weights for all tiles."""
    tiles, rows, columns, places, canvas = generated(5, (8, 16), (8, 64))
    rows = np.broadcast_to(rows[0], rows.shape)
    wanted = expected((tiles, rows, columns, places, canvas))
    blend(implementation, np.repeat(tiles, 2, 2)[..., ::2], rows, columns, places, canvas)
    np.testing.assert_array_equal(bits(canvas), bits(wanted))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({0: np.zeros((5, 8), np.float32)}, r"the tiles are \[5, 8\] and the canvas \[8, 64\]"),
        ({0: np.zeros((0, 8, 16), np.float32)}, r"tiles are \[0, 8, 16\]"),
        ({0: np.zeros((5, 8, 16))}, r"tiles: float64 \[5, 8, 16\] given, wanted float32"),
        ({1: np.zeros((5, 9), np.float32)}, r"rows: float32 \[5, 9\] given, .* \[5, 8\]"),
        ({2: np.zeros((4, 16), np.float32)}, r"columns: float32 \[4, 16\] given, .* \[5, 16\]"),
        ({3: np.zeros((5, 2), np.int32)}, r"places: int32 \[5, 2\] given, wanted int64"),
        ({3: np.full((5, 2), -1)}, "a tile of 8 x 16 lies outside of the canvas of 8 x 64"),
        ({3: np.full((5, 2), 1)}, "lies outside"),
        ({4: np.zeros((8, 64))}, r"canvas: float64 \[8, 64\] given, wanted float32"),
        ({4: np.zeros((8, 128), np.float32)[:, ::2]}, "not C-contiguous: the sums would be lost"),
    ],
)
def test_refused(change: dict[int, Any], message: str) -> None:
    given: list[Any] = [*generated(5, (8, 16), (8, 64))]
    for which, other in change.items():
        given[which] = other
    with pytest.raises(ValueError, match=message):
        checked_blend(*given)
