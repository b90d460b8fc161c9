from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from rdx_fast.bench import triton_operations
from rdx_fast.kernels.epilogue import Epilogue, MapStats, region_labels, summarize_numpy
from rdx_fast.kernels.on_triton import run
from support.kernel_runs import COMPILED, DEVICE, IMPLEMENTATIONS, smooth_map, summarize, tensor
from support.smooth_map_cases import generated

SIZE = (37, 70)  # no multiple of what any kernel makes at once
GIVEN = generated(2, [(7, 9), (3, 4)], SIZE)
ONE = generated(1, [(3, 4)], SIZE)  # which an interpreted kernel makes sooner
ON_CPU = ("numpy", *COMPILED)
Y, X = np.mgrid[: SIZE[0], : SIZE[1]]


def drawn(regions: int) -> NDArray[np.int64]:
    """Regions strewn over the map, and pixels that belong to none."""
    return np.random.default_rng(1).integers(0, regions + 1, SIZE)


def single_pixels() -> NDArray[np.int64]:
    """At corners of the map, and on both sides of the borders of tiles, vectors and stripes."""
    labels = np.zeros(SIZE, int)
    places = [(0, 0), (36, 69), (31, 31), (32, 32), (3, 15), (4, 16), (8, 63), (8, 64)]
    for label, place in enumerate(places, start=1):
        labels[place] = label
    return labels


# Tiles have 32 x 32 pixels, vectors 8 or 16, stripes 4 rows: each layout meets their borders.
LAYOUTS = {
    "one inside": (Y > 5) & (Y < 33) & (X > 14) & (X < 66),
    "one strewn": drawn(1),
    "single pixels": single_pixels(),
    "on the borders": 1 + X // 32 + 3 * (Y // 32),
    "beside the borders": 1 + (X + 1) // 16 + 5 * ((Y + 1) // 4 % 2),
    "checkerboard": 1 + (X + Y) % 2,
    "checkerboard with gaps": (X + Y) % 4,
    "last region first": 3 - X // 24,
    "strewn": drawn(17),
}


def epilogue_of(layout: str, top_k: int = 0) -> Epilogue:
    labels = LAYOUTS[layout].astype(np.uint8)
    return Epilogue(labels, tuple(1.8 + 0.05 * r for r in range(labels.max())), top_k)


def expected(maps: NDArray[np.float32], epilogue: Epilogue) -> MapStats:
    """Region by region and image by image."""
    labels = np.ones(maps.shape[1:]) if epilogue.labels is None else epilogue.labels
    thresholds = enumerate(np.float32(epilogue.thresholds), start=1)
    read = [
        [(image[labels == r].max(), (image[labels == r] > t).sum()) for image in maps]
        for r, t in thresholds
    ]
    maxima, areas = np.array(read).transpose(2, 1, 0)
    largest = [np.sort(image[labels > 0])[::-1][: epilogue.top_k] for image in maps]
    means = np.mean(largest, axis=1, dtype=float) if epilogue.top_k else None
    return MapStats(maxima, means, areas)


def assert_same(found: MapStats, wanted: MapStats) -> None:
    np.testing.assert_array_equal(found.maxima, wanted.maxima)
    np.testing.assert_array_equal(found.areas, wanted.areas)
    assert (found.top_means is None) == (wanted.top_means is None)
    if wanted.top_means is not None:
        np.testing.assert_allclose(found.top_means, wanted.top_means, rtol=1e-6)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_is_read_off(implementation: str, layout: str) -> None:
    epilogue = epilogue_of(layout)
    maps, found = smooth_map(implementation, *ONE, epilogue)
    assert maps is not None
    assert found.maxima.shape == found.areas.shape == (1, epilogue.regions)
    assert (found.maxima.dtype, found.areas.dtype) == (np.float32, np.int64)
    assert_same(found, expected(maps, epilogue))


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize(("threshold", "top_k"), [(2.1, 0), (math.inf, 1), (-math.inf, 10)])
def test_the_whole_map(implementation: str, threshold: float, top_k: int) -> None:
    epilogue = Epilogue(None, (threshold,), top_k)
    maps, found = smooth_map(implementation, *ONE, epilogue)
    assert maps is not None
    assert_same(found, expected(maps, epilogue))


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize(
    ("layout", "top_k"), [("single pixels", 8), ("one strewn", 1), ("beside the borders", 10)]
)
def test_top_mean_of_all_regions(implementation: str, layout: str, top_k: int) -> None:
    epilogue = epilogue_of(layout, top_k)
    maps, found = smooth_map(implementation, *GIVEN, epilogue)
    assert maps is not None
    assert_same(found, expected(maps, epilogue))


@pytest.mark.parametrize(
    "implementation", [*ON_CPU, pytest.param("triton", marks=pytest.mark.slow)]
)
def test_as_many_regions_as_there_can_be(implementation: str) -> None:
    labels = np.broadcast_to(1 + np.arange(300) * 255 // 300, (3, 300)).astype(np.uint8)
    epilogue = Epilogue(labels, tuple(np.linspace(1.5, 2.5, 255)))
    maps, found = smooth_map(implementation, *generated(1, [(3, 9)], (3, 300)), epilogue)
    assert maps is not None
    assert_same(found, expected(maps, epilogue))


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_score_only_mode_reads_the_same(implementation: str) -> None:
    epilogue = epilogue_of("checkerboard with gaps", top_k=7)
    _, wanted = smooth_map(implementation, *ONE, epilogue)
    nothing, found = smooth_map(implementation, *ONE, epilogue, maps=False)
    assert nothing is None
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("top_k", [SIZE[0] * SIZE[1], 3])
def test_ties_and_negative_values(implementation: str, top_k: int) -> None:
    distances, rows, columns = ONE
    shifted = [np.round(d - 1) for d in distances]
    epilogue = Epilogue(LAYOUTS["on the borders"].astype(np.uint8), (0.0,) * 6, top_k)
    maps, found = smooth_map(implementation, shifted, rows, columns, epilogue)
    assert maps is not None
    assert maps.min() < 0
    wanted = expected(maps, epilogue)
    assert_same(found._replace(top_means=None), wanted._replace(top_means=None))
    np.testing.assert_allclose(found.top_means, wanted.top_means, rtol=0, atol=2e-6)


def broken_distances() -> list[NDArray[np.float32]]:
    """NaN at the last corner of the second image."""
    distances = [d.copy() for d in GIVEN[0]]
    distances[0][1, 6, 8] = np.nan
    return distances


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("top_k", [0, 3])
def test_nan_anywhere_is_never_a_score(implementation: str, top_k: int) -> None:
    labels = np.zeros(SIZE, np.uint8)
    labels[:2, :5] = [1, 2, 3, 4, 5]  # far from what is broken
    epilogue = Epilogue(labels, (math.inf,) * 5, top_k)
    maps, found = smooth_map(implementation, broken_distances(), *GIVEN[1:], epilogue)
    assert maps is not None
    if implementation != "numpy":  # whose products with zero are NaN too
        assert not np.isnan(maps[:, labels > 0]).any()
    np.testing.assert_array_equal(np.isnan(found.maxima), [[False] * 5, [True] * 5])
    if found.top_means is not None:
        np.testing.assert_array_equal(np.isnan(found.top_means), [False, True])


def test_a_launch_leaves_nothing_behind_on_triton() -> None:
    """Buffers serve the next launch, also after a broken image."""
    epilogue = epilogue_of("single pixels")
    (distances,), rows, columns = ONE
    operators = triton_operations.Operators.of(rows, [b.transposed for b in columns], DEVICE)
    there = tensor(np.full_like(distances, np.nan))
    held = triton_operations.buffers(there, SIZE, epilogue)
    launch = operators.launch([there], held)
    run(launch)
    assert held.maxima.isnan().all()
    there.copy_(tensor(distances))
    run(launch)
    maps, _ = smooth_map("numpy", *ONE)
    assert maps is not None
    wanted = expected(maps, epilogue)
    np.testing.assert_allclose(held.maxima.cpu(), wanted.maxima, rtol=1e-6)
    np.testing.assert_array_equal(held.areas.cpu(), wanted.areas)


@pytest.mark.parametrize("implementation", COMPILED)
@given(st.data())
def test_against_the_reference(implementation: str, data: st.DataObject) -> None:
    size = data.draw(st.tuples(st.integers(1, 40), st.integers(1, 70)))
    regions = data.draw(st.integers(1, min(20, size[0] * size[1])))
    labels = np.random.default_rng(data.draw(st.integers(0, 99))).integers(0, regions + 1, size)
    labels.flat[:regions] = np.arange(1, regions + 1)
    top_k = data.draw(st.integers(0, np.count_nonzero(labels)))
    thresholds = data.draw(st.lists(st.floats(0, 3), min_size=regions, max_size=regions))
    epilogue = Epilogue(labels.astype(np.uint8), tuple(thresholds), top_k)
    maps, found = smooth_map(implementation, *generated(2, [(3, 5)], size, 1.0), epilogue)
    assert maps is not None
    assert_same(found, summarize_numpy(maps, epilogue))


@pytest.mark.parametrize("implementation", ON_CPU)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_maps_that_exist_are_read_alike(implementation: str, layout: str) -> None:
    """Whole, by several threads, as views, and in strips of rows or columns."""
    epilogue = epilogue_of(layout, top_k=1)
    maps, wanted = smooth_map(implementation, *GIVEN, epilogue)
    assert maps is not None
    for found in (
        summarize(implementation, maps, epilogue),
        summarize(implementation, maps, epilogue, threads=3),
        summarize(implementation, np.repeat(maps, 2, axis=2)[..., ::2], epilogue),
    ):
        for a, b in zip(found, wanted, strict=True):
            np.testing.assert_array_equal(a, b)
    scores = Epilogue(epilogue.labels, epilogue.thresholds)
    for size, place in ((SIZE[0], lambda y: (y, 0)), (SIZE[1], lambda x: (0, x))):
        first, second, third = (
            summarize(implementation, cut(maps, place(begin), place(end)), scores, place(begin))
            for begin, end in ((0, 5), (5, 33), (33, size))
        )
        joined = first.joined(second).joined(third)
        np.testing.assert_array_equal(joined.maxima, wanted.maxima)
        np.testing.assert_array_equal(joined.areas, wanted.areas)
        assert joined.top_means is None


def cut(
    maps: NDArray[np.float32], begin: tuple[int, int], end: tuple[int, int]
) -> NDArray[np.float32]:
    """The part between two places; 0 is the whole of an axis."""
    return maps[:, begin[0] : end[0] or None, begin[1] : end[1] or None]


@pytest.mark.parametrize("implementation", ON_CPU)
def test_strips_without_a_region_and_with_nan(implementation: str) -> None:
    maps = np.random.default_rng(0).random((2, 6, 9), np.float32)
    maps[1, 5, 8] = np.nan
    labels = np.zeros((6, 9), np.uint8)
    labels[:3, 1:], labels[3:, :8] = 1, 2
    epilogue = Epilogue(labels, (0.5, 0.25))
    upper, lower = (summarize(implementation, maps[:, y : y + 3], epilogue, (y, 0)) for y in (0, 3))
    np.testing.assert_array_equal(upper.maxima[:, 1], -np.inf)
    np.testing.assert_array_equal(lower.maxima, [[-np.inf, maps[0, 3:, :8].max()], [np.nan] * 2])
    whole = summarize(implementation, maps, epilogue)
    np.testing.assert_array_equal(upper.joined(lower).maxima, whole.maxima)
    np.testing.assert_array_equal(upper.joined(lower).areas, whole.areas)


def test_maps_that_do_not_fit() -> None:
    maps = np.zeros((1, 4, 5), np.float32)
    halves = Epilogue(np.repeat([[1], [2]], 4, axis=0).astype(np.uint8).repeat(5, axis=1), (1, 2))
    top = Epilogue(halves.labels, halves.thresholds, top_k=2)
    for arguments, message in (
        ((maps.astype(float), halves), r"maps are float64 \[1, 4, 5\], wanted float32 \[B, H, W\]"),
        ((maps[0], halves), r"maps are float32 \[4, 5\], wanted"),
        ((maps[:, :0], halves), r"maps are float32 \[1, 0, 5\], wanted"),
        (
            (maps, halves, (5, 0)),
            r"rows 5 to 9 and columns 0 to 5, the regions are marked in \[8, 5\]",
        ),
        ((maps, halves, (-1, 0)), "maps are rows -1 to 3"),
        ((maps, halves, (0, -1)), "columns -1 to 4"),
        ((maps[..., :4], halves, (0, 2)), "maps are rows 0 to 4 and columns 2 to 6"),
        ((maps, top), r"marked in \[8, 5\] pixels, the map is \[4, 5\]"),
        ((maps, Epilogue(top_k=21)), "top_k is 21, the regions have 20 pixels"),
        ((maps, halves, (0, 0), 0), "threads is 0"),
    ):
        with pytest.raises(ValueError, match=message):
            summarize(IMPLEMENTATIONS[0], *arguments)
    whole = summarize("numpy", np.zeros((1, 8, 5), np.float32), top)
    with pytest.raises(ValueError, match="does not follow from those of its parts"):
        whole.joined(whole)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"labels": np.ones((3, 3), bool)}, r"bool \[3, 3\], wanted uint8 \[H, W\]"),
        ({"labels": np.ones(3, np.uint8)}, r"uint8 \[3\], wanted uint8 \[H, W\]"),
        ({"labels": np.zeros((3, 3), np.uint8)}, "region 1 has no pixels: nothing of it would be"),
        (
            {"labels": np.array([[1, 3]], np.uint8), "thresholds": (1, 2, 3)},
            "region 2 has no pixels",
        ),
        ({"labels": np.array([[1, 4]], np.uint8)}, "labels of regions go up to 4, there are 1 thr"),
        ({"thresholds": (1.0, 2.0)}, "2 thresholds and no labels: .* the whole map is one region"),
        ({"thresholds": ()}, "there are 0 thresholds, wanted one for each region"),
        ({"thresholds": (1.0,) * 256}, "there are 256 thresholds, .* at most 255"),
        ({"thresholds": (math.nan,)}, "threshold of region 1 is NaN"),
        ({"top_k": -1}, "top_k is -1"),
    ],
)
def test_refused(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Epilogue(**arguments)


def test_more_than_the_regions_hold() -> None:
    with pytest.raises(ValueError, match="top_k is 3, the regions have 2 pixels"):
        Epilogue(np.array([[1, 1, 0]], np.uint8), top_k=3).check(1, 3)


def test_nobody_changes_the_labels_of_an_epilogue() -> None:
    labels = np.array([[1, 1, 0]], np.uint8)
    epilogue = Epilogue(labels)
    labels[:] = 0
    assert epilogue.labels is not None
    assert epilogue.labels.tolist() == [[1, 1, 0]]
    with pytest.raises(ValueError, match="read-only"):
        epilogue.labels[:] = 0


def test_one_region_of_interest() -> None:
    assert region_labels(None) is None
    assert region_labels(np.array([[True, False]])).tolist() == [[1, 0]]
    with pytest.raises(ValueError, match=r"region of interest is uint8 \[2\], wanted bool"):
        region_labels(np.ones(2, np.uint8))
