"""What is shown of an inspection of several regions is relative to each region's limits."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from rdx_fast.bundle.bundle import Bundle, open_bundle
from rdx_fast.bundle.changes import replace_recipe
from rdx_fast.detector import Detector
from rdx_fast.images import list_images, read_image
from rdx_fast.judge import Judge
from rdx_fast.limits.calibration import manual_threshold
from rdx_fast.limits.limits import VERDICTS, Limits
from rdx_fast.limits.relative import (
    common_ng,
    map_on_common_scale,
    relative_map,
    to_common_scale,
)
from rdx_fast.overlay import overlay
from rdx_fast.recipe.recipe import FrameSpec, InspectionRecipe, RegionSpec
from rdx_fast.scoring import score_files

SIZE = (80, 112)  # of the drawn parts
TWO = InspectionRecipe(
    FrameSpec(*SIZE),
    (
        RegionSpec("left", polygon=((0, 0), (40, 0), (40, 80), (0, 80))),
        RegionSpec("right", polygon=((60, 0), (100, 0), (100, 80), (60, 80))),
    ),
)


def limits_of(name: str, ok_below: float, ng_above: float | None = None) -> Limits:
    ok = manual_threshold(ok_below, "test")
    return Limits(name, ok, ok if ng_above is None else manual_threshold(ng_above, "test"))


@pytest.fixture
def two(bundle: Bundle, tmp_path: Path) -> Iterator[Detector]:
    """Two regions, one of which is always OK and one of which never is."""
    copy = open_bundle(shutil.copytree(bundle.path, tmp_path / "copy.rdx"))
    replace_recipe(copy, TWO, {}, "anna")
    limits = [limits_of("left", 100), limits_of("right", 1e-3)]
    with Detector(copy.path, limits=limits) as detector:
        yield detector


positive = st.floats(2**-10, 2**10, width=32)
pairs = st.tuples(positive, positive).map(sorted)


@given(
    arrays(np.float32, (20, 3), elements=st.floats(0, 2e3, width=32)),
    st.lists(pairs, min_size=3, max_size=3),
)
def test_one_scale_has_the_verdicts_of_all_regions(scores: Any, of: list[list[float]]) -> None:
    limits = [limits_of(name, *both) for name, both in zip("abc", of, strict=True)]
    # Scores at the limits and next to them too.
    for k, both in enumerate(of):
        near = [np.nextafter(np.float32(v), np.float32(way)) for v in both for way in (0, 1e9)]
        scores[: len(near), k], scores[4:6, k] = near, both
    ng = common_ng(limits)
    scaled = np.stack([to_common_scale(scores[:, k], limits[k], ng) for k in range(3)], axis=1)
    largest = scaled.max(axis=1)
    verdicts = (largest > 1).astype(int) + (largest > np.float32(ng))
    assert [VERDICTS[v] for v in verdicts] == Judge(limits)(scores).verdicts
    for k in range(3):
        order = np.argsort(scores[:, k])
        assert (np.diff(scaled[order, k]) >= 0).all()


def test_maps_of_regions() -> None:
    shown = np.full((2, 6), 4, np.float32)
    labels = np.array([[0, 0, 1, 1, 2, 2]] * 2, np.uint8)
    limits = [limits_of("a", 2, 3), limits_of("b", 8, 20)]
    np.testing.assert_array_equal(relative_map(shown, limits, labels)[0], [0, 0, 2, 2, 0.5, 0.5])
    np.testing.assert_array_equal(relative_map(shown, limits[:1], None), shown / 2)
    # NG of both is at 20 / 8; 4 is NG by the limit 3.
    scaled = map_on_common_scale(shown, limits, labels)
    np.testing.assert_allclose(scaled[0], [0, 0, 2.5 * 4 / 3, 2.5 * 4 / 3, 0.5, 0.5])
    one = map_on_common_scale(shown, limits[:1], (labels == 1).astype(np.uint8))
    np.testing.assert_array_equal(one[0], [0, 0, 4, 4, 0, 0])
    assert map_on_common_scale(shown, limits[:1], None) is shown


def test_overlays_and_rows(two: Detector, parts: Path, tmp_path: Path) -> None:
    good = list_images(parts / "test" / "good")[0]
    Image.fromarray(np.zeros((10, 10), np.uint8)).save(tmp_path / "small.png")
    files = [good, tmp_path / "small.png"]
    row, error = score_files(two, files, overlays=tmp_path / "o")
    assert (row.verdict, row.region, row.threshold) == ("NG", "right", 1e-3)
    assert (error.verdict, error.region, error.threshold) == ("ERROR", None, None)
    (shown,) = (tmp_path / "o").rglob("*.png")
    frame, heat = np.split(read_image(shown).astype(int), 2, axis=1)
    np.testing.assert_array_equal(heat[:, :38], frame[:, :38])  # OK: no heat
    assert (heat[:, 63:97] != frame[:, 63:97]).any(axis=2).all()
    assert (heat[0, 63:97] == 255).all()  # the line
    for nothing in (slice(43, 57), slice(103, None)):
        added = heat[:, nothing] - frame[:, nothing] // 2
        assert set(np.unique(added)) == {0, 48}
    maps = two.score(read_image(good)).anomaly_maps
    assert maps is not None
    wanted = overlay(read_image(good), two.relative_map(maps[0]), two.labels)
    np.testing.assert_array_equal(heat, wanted)


def test_an_error_of_one_region_has_its_limit(bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_text("no image")
    with Detector(bundle.path) as detector:
        (row,) = score_files(detector, [tmp_path / "bad.png"])
        assert row.threshold == detector.threshold.value
