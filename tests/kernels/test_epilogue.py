from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rdx_fast.kernels.epilogue import Epilogue, summarize_numpy
from support.kernel_runs import COMPILED, IMPLEMENTATIONS, smooth_map
from support.smooth_map_cases import generated

SIZE = (21, 70)
GIVEN = generated(2, [(7, 9), (3, 4)], SIZE)


def region(share: float) -> np.ndarray:
    mask = np.random.default_rng(1).random(SIZE) < share
    mask[3, 5] = True
    return mask


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("mask", [None, region(0.5), region(0.0)])
@pytest.mark.parametrize("top_k", [0, 1, 10])
def test_what_is_read_off(implementation: str, mask: np.ndarray | None, top_k: int) -> None:
    top_k = min(top_k, 1 if mask is not None and mask.sum() == 1 else 10)
    epilogue = Epilogue(mask, threshold=2.1, top_k=top_k)
    maps, found = smooth_map(implementation, *GIVEN, epilogue)
    assert maps is not None
    inside = maps[:, mask] if mask is not None else maps.reshape(2, -1)
    np.testing.assert_array_equal(found.maxima, inside.max(axis=1))
    np.testing.assert_array_equal(found.areas, (inside > np.float32(2.1)).sum(axis=1))
    if mask is None:
        assert (found.areas > 0).all()
    if not top_k:
        assert found.top_means is None
        return
    expected = np.sort(inside, axis=1)[:, -top_k:].mean(axis=1, dtype=np.float64)
    np.testing.assert_allclose(found.top_means, expected, rtol=1e-6)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_score_only_mode_reads_the_same(implementation: str) -> None:
    epilogue = Epilogue(region(0.5), threshold=2.1, top_k=7)
    _, expected = smooth_map(implementation, *GIVEN, epilogue)
    nothing, found = smooth_map(implementation, *GIVEN, epilogue, maps=False)
    assert nothing is None
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("top_k", [1470, 3])
def test_ties_and_negative_values(implementation: str, top_k: int) -> None:
    distances, rows, columns = GIVEN
    shifted = [np.round(d - 1) for d in distances]
    maps, found = smooth_map(implementation, shifted, rows, columns, Epilogue(top_k=top_k))
    assert maps is not None
    assert maps.min() < 0
    expected = np.sort(maps.reshape(2, -1), axis=1)[:, -top_k:].mean(axis=1, dtype=np.float64)
    np.testing.assert_allclose(found.top_means, expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("top_k", [0, 3])
def test_nan_anywhere_is_never_a_score(implementation: str, top_k: int) -> None:
    distances, rows, columns = GIVEN
    broken = [d.copy() for d in distances]
    broken[0][1, 6, 8] = np.nan  # far from the region of interest, in one image
    mask = np.zeros(SIZE, bool)
    mask[:2, :5] = True
    _, found = smooth_map(implementation, broken, rows, columns, Epilogue(mask, top_k=top_k))
    np.testing.assert_array_equal(np.isnan(found.maxima), [False, True])
    if found.top_means is not None:
        np.testing.assert_array_equal(np.isnan(found.top_means), [False, True])


@pytest.mark.parametrize("implementation", COMPILED)
@given(st.data())
def test_against_the_reference(implementation: str, data: st.DataObject) -> None:
    size = data.draw(st.tuples(st.integers(1, 40), st.integers(1, 70)))
    mask = np.random.default_rng(data.draw(st.integers(0, 99))).random(size) < 0.5
    mask.flat[0] = True
    top_k = data.draw(st.integers(0, int(mask.sum())))
    epilogue = Epilogue(mask, data.draw(st.floats(0, 3)), top_k)
    maps, found = smooth_map(implementation, *generated(2, [(3, 5)], size, 1.0), epilogue)
    assert maps is not None
    expected = summarize_numpy(maps, epilogue)
    np.testing.assert_array_equal(found.maxima, expected.maxima)
    np.testing.assert_array_equal(found.areas, expected.areas)
    if top_k:
        np.testing.assert_allclose(found.top_means, expected.top_means, rtol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mask": np.zeros((3, 3), bool)}, "empty: nothing would be inspected"),
        ({"mask": np.ones((3, 3), np.uint8)}, r"uint8 \[3, 3\], wanted bool"),
        ({"mask": np.ones(3, bool)}, r"bool \[3\], wanted bool \[H, W\]"),
        ({"threshold": float("nan")}, "threshold is NaN"),
        ({"top_k": -1}, "top_k is -1"),
    ],
)
def test_refused(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Epilogue(**arguments)


def test_more_than_the_region_holds() -> None:
    with pytest.raises(ValueError, match="top_k is 3, the region of interest has 2 pixels"):
        Epilogue(np.array([[True, True, False]]), top_k=3).check(1, 3)
