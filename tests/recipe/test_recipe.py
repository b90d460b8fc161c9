"""Recipes as people write them, and the regions of frame and map."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from rdx_fast.errors import RecipeError
from rdx_fast.recipe.recipe import FrameSpec, InspectionRecipe, RegionSpec
from rdx_fast.recipe.recipe_file import read_recipe
from rdx_fast.recipe.regions import frame_labels, map_labels, polygon_mask, shares_outside_crop
from rdx_fast.recipe.tiling import TileSpec

SQUARE = ((2.0, 1.0), (6.0, 1.0), (6.0, 4.0), (2.0, 4.0))


def recipe_of(*regions: RegionSpec, size: tuple[int, int] = (10, 12)) -> InspectionRecipe:
    return InspectionRecipe(FrameSpec(*size), regions)


def no_mask(name: str) -> NDArray[np.uint8]:
    raise AssertionError(name)


def test_a_polygon_covers_the_pixels_between_its_corners() -> None:
    expected = np.zeros((10, 12), bool)
    expected[1:4, 2:6] = True
    np.testing.assert_array_equal(polygon_mask(SQUARE, (10, 12)), expected)
    np.testing.assert_array_equal(polygon_mask(SQUARE[::-1], (10, 12)), expected)


@given(st.tuples(*[st.floats(0, 20)] * 4), st.booleans())
def test_polygons_with_a_common_side_share_no_pixel(line, turned: bool) -> None:
    """A quadrilateral cut in two: each pixel belongs to one half."""
    frame = ((0.0, 0.0), (20.0, 0.0), (20.0, 20.0), (0.0, 20.0))
    top, bottom = (line[0], 0.0), (line[1], 20.0)
    left = (frame[0], top, bottom, frame[3])
    right = (top, frame[1], frame[2], bottom)
    masks = [polygon_mask(part[::-1] if turned else part, (20, 20)) for part in (left, right)]
    np.testing.assert_array_equal(masks[0] ^ masks[1], np.ones((20, 20), bool))


def test_later_regions_cover_earlier_ones() -> None:
    whole = ((0.0, 0.0), (12.0, 0.0), (12.0, 10.0), (0.0, 10.0))
    recipe = recipe_of(
        RegionSpec("housing", polygon=whole),
        RegionSpec("window", polygon=SQUARE),
        RegionSpec("label", "ignore", polygon=((5.0, 3.0), (8.0, 3.0), (8.0, 6.0), (5.0, 6.0))),
    )
    labels = frame_labels(recipe, no_mask)
    assert recipe.inspected == ("housing", "window")
    assert labels[0, 0] == 1
    assert labels[1, 2] == 2
    assert labels[3, 5] == 0
    assert np.bincount(labels.ravel()).tolist() == [9, 120 - 9 - 11, 11]


def test_without_regions_to_include_the_rest_is_inspected() -> None:
    recipe = recipe_of(RegionSpec("label", "ignore", polygon=SQUARE))
    assert recipe.inspected == ("all",)
    assert (frame_labels(recipe, no_mask) == 0).sum() == 12


def brute_force(labels: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """The largest label among the frame pixels that each map pixel covers, by exact fractions."""
    found = np.zeros(size, np.uint8)
    height, width = labels.shape
    for y in range(size[0]):
        rows = slice(y * height // size[0], -(-(y + 1) * height // size[0]))
        for x in range(size[1]):
            columns = slice(x * width // size[1], -(-(x + 1) * width // size[1]))
            found[y, x] = labels[rows, columns].max()
    return found


@settings(max_examples=60)
@given(st.data())
def test_map_labels_at_any_frame_size(data: st.DataObject) -> None:
    sides = st.integers(3, 40)
    size, shown = (data.draw(sides), data.draw(sides)), (data.draw(sides), data.draw(sides))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    mask = rng.choice(np.array([0, 255], np.uint8), size)
    mask[size[0] // 2, size[1] // 2] = 255
    recipe = recipe_of(RegionSpec("spots", mask="spots.png"), size=size)
    found = map_labels(recipe, shown, lambda name: mask)
    np.testing.assert_array_equal(found, brute_force((mask > 127).astype(np.uint8), shown))


@pytest.mark.parametrize("factor", [1, 2, 5])
@pytest.mark.parametrize("larger", ["frame", "map"])
def test_an_edge_of_one_pixel_is_kept(factor: int, larger: str) -> None:
    mask = np.zeros((8, 8), np.uint8)
    mask[3, :] = 255
    small, size = (8, 8), (8 * factor, 8 * factor)
    if larger == "frame":
        # A line as wide as a map pixel, and one frame pixel of the next.
        mask = np.kron(mask, np.ones((factor, factor), np.uint8))
        recipe = recipe_of(RegionSpec("line", mask="m"), size=size)
        labels = map_labels(recipe, small, lambda name: mask)
        assert np.flatnonzero(labels[:, 0]).tolist() == [3]
        mask[4 * factor, 5 * factor] = 255
        labels = map_labels(recipe, small, lambda name: mask)
        assert np.argwhere(labels[4:]).tolist() == [[0, 5]]
    else:
        labels = map_labels(recipe_of(RegionSpec("l", mask="m"), size=small), size, lambda n: mask)
        assert np.flatnonzero(labels[:, 0]).tolist() == list(range(3 * factor, 4 * factor))


def test_what_the_crop_leaves_out() -> None:
    whole = ((0.0, 0.0), (12.0, 0.0), (12.0, 10.0), (0.0, 10.0))
    frame = FrameSpec(10, 12, crop=(2, 0, 8, 12))
    regions = (RegionSpec("frame", polygon=whole), RegionSpec("window", polygon=SQUARE))
    # Of the frame's 108 pixels that the window does not cover, 20 lie above the crop.
    found = shares_outside_crop(InspectionRecipe(frame, regions), no_mask)
    assert found == {"frame": 20 / 108, "window": 4 / 12}
    inside = InspectionRecipe(FrameSpec(10, 12, crop=(1, 2, 6, 8)), regions[1:])
    assert shares_outside_crop(inside, no_mask) == {}
    assert shares_outside_crop(InspectionRecipe(FrameSpec(10, 12), regions), no_mask) == {}
    ignored = (RegionSpec("label", "ignore", polygon=SQUARE),)
    assert shares_outside_crop(InspectionRecipe(frame, ignored), no_mask) == {}


def test_labels_follow_the_crop() -> None:
    recipe = InspectionRecipe(
        FrameSpec(10, 12, crop=(1, 2, 6, 8)), (RegionSpec("window", polygon=SQUARE),)
    )
    labels = map_labels(recipe, (6, 8), no_mask)
    assert np.argwhere(labels).min(axis=0).tolist() == [0, 0]
    assert int(labels.sum()) == 12


@pytest.mark.parametrize(
    ("corners", "message"),
    [
        (((0, 0), (4, 4), (4, 0), (0, 4)), "crosses itself: side 1 meets side 3"),
        (((0, 0), (4, 0), (2, 0), (2, 4)), "crosses itself"),
        (((0, 0), (4, 0), (4, 4), (2, 0), (0, 4)), "crosses itself"),
        (((0, 0), (0, 0), (4, 4)), "crosses itself"),
        (((0, 0), (4, 0)), "2 corners, wanted at least 3"),
        (((0, 0), (4, float("nan")), (4, 4)), "not finite"),
    ],
)
def test_polygons_that_are_none(corners, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RegionSpec("part", polygon=corners)


def test_polygons_may_be_concave_and_have_corners_on_a_line() -> None:
    RegionSpec("u", polygon=((0, 0), (4, 0), (4, 4), (3, 4), (3, 1), (1, 1), (1, 4), (0, 4)))
    RegionSpec("line", polygon=((0, 0), (2, 0), (4, 0), (4, 4)))


RECIPE = """
mm_per_pixel = 0.05
deadline_ms = 200
[frame]
height = 10
width = 12
pixel_format = "mono"
[camera]
exposure_us = 800
[tiles]
height = 6
width = 8
overlap = 2
[[regions]]
name = "window"
polygon = [[2, 1], [6, 1], [6, 4], [2, 4]]
[[regions]]
name = "spots"
mask = "masks/spots.png"
[[regions]]
name = "label"
kind = "ignore"
polygon = [[0, 0], [2, 0], [2, 2], [0, 2]]
"""


def write(folder: Path, text: str, size: tuple[int, int] = (10, 12)) -> Path:
    (folder / "masks").mkdir(exist_ok=True)
    mask = np.zeros(size, np.uint8)
    mask[5, 5] = 200
    Image.fromarray(mask).save(folder / "masks" / "spots.png")
    file = folder / "part.toml"
    file.write_text(text)
    return file


def test_a_recipe_is_read_with_its_masks(tmp_path: Path) -> None:
    recipe, masks = read_recipe(write(tmp_path, RECIPE))
    assert recipe.inspected == ("window", "spots")
    assert recipe.regions[0].polygon == SQUARE
    assert (recipe.mm_per_pixel, recipe.deadline_ms) == (0.05, 200)
    assert recipe.camera == {"exposure_us": 800}
    assert recipe.tiles == TileSpec(6, 8, 2)
    ((name, mask),) = masks.items()
    assert recipe.regions[1].mask == name
    assert mask[5, 5] == 255
    assert frame_labels(recipe, masks.__getitem__)[5, 5] == 2


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[6, 4]", "[16, 4]", "corner at x 16, y 4, outside the frame of 12 x 10"),
        ("[6, 1], [6, 4]", "[6, 4], [6, 1]", "'window' crosses itself"),
        ('"ignore"', '"exclude"', "kind of region 'label' is 'exclude'"),
        ('"spots"', '"window"', "each name may occur once"),
        ('"spots"', '"all"', "'all' stands for the whole frame"),
        ("height = 10\nwidth = 12", "", "must state the frame's height and width"),
        ("height = 10\n", "", "states one of height and width"),
        (
            "height = 10\n",
            "height = 11\n",
            "mask of region 'spots' is 10 x 12, .* 11 x 12 .*: paint",
        ),
        ("masks/spots.png", "masks/other.png", r"the mask .*other\.png: no such file"),
        ('mask = "masks/spots.png"', "", "needs either a polygon or a mask"),
        ("polygon = [[0, 0], [2, 0], [2, 2], [0, 2]]", "polygon = [[0, 0], [1, 1]]", "2 corners"),
        ("polygon = [[0, 0], [2, 0], [2, 2], [0, 2]]", "polygon = 3", r"polygon is 3, wanted"),
        ("[0, 0], [2, 0], [2, 2], [0, 2]", "[0, 0], [0.2, 0], [0.2, 0.2]", "centre of no pixel"),
        ("deadline_ms = 200", "deadline_ms = -1", "deadline_ms is -1"),
        ("deadline_ms = 200", "deadline_ms = 70000", "wanted at most 65535"),
        ("exposure_us = 800", "exposure_us = nan", "exposure_us is nan, wanted a finite number"),
        ("exposure_us = 800", "auto = true", "auto is True, wanted a finite number or a text"),
        ("mm_per_pixel", "mm_per_px", "unknown keys: mm_per_px: wanted frame, regions, tiles"),
        ("height = 10", "heigth = 10", "unknown keys in frame: heigth: wanted height, width"),
        ('"spots"', '"spots"\nmsk = 1', "unknown keys in regions: msk: wanted name, kind"),
        ('"mono"', '"grey"', r"frame\.pixel_format is 'grey', wanted one of rgb"),
        ("width = 12", "width = 12\ncrop = [0, 0, 11, 5]", "crop .* reaches beyond the frame"),
        ("width = 8", "width = 13", "tiles of 6 x 13 pixels are larger than the frame .* 10 x 12"),
        ("width = 12", "width = 12\ncrop = [0, 0, 5, 12]", "tiles of 6 x 8 .* crop. of 5 x 12"),
        ("overlap = 2", "overlap = 4", "overlap is 4, .* wanted at most half"),
        ("width = 8", "width = 8.5", r"tiles\.width is 8\.5, wanted"),
        ("[frame]", "[frame", "is no valid TOML: Expected"),
    ],
)
def test_recipes_that_are_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in RECIPE
    with pytest.raises(RecipeError, match=message):
        read_recipe(write(tmp_path, RECIPE.replace(old, new, 1)))


def test_a_black_mask_is_refused() -> None:
    for kind, what in (("include", "inspect"), ("ignore", "ignore")):
        recipe = InspectionRecipe(FrameSpec(10, 12), (RegionSpec("spots", kind, mask="m.png"),))
        with pytest.raises(ValueError, match=f"'spots': the mask is black: paint what to {what}"):
            frame_labels(recipe, lambda _: np.zeros((10, 12), np.uint8))


def test_no_recipe(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="no such file"):
        read_recipe(tmp_path / "none.toml")


def test_a_region_outside_the_crop_is_refused() -> None:
    recipe = InspectionRecipe(
        FrameSpec(10, 12, crop=(5, 0, 5, 12)), (RegionSpec("window", polygon=SQUARE),)
    )
    with pytest.raises(ValueError, match="'window' has no pixel to inspect"):
        map_labels(recipe, (5, 12), no_mask)


def test_what_limits_hold_for() -> None:
    plain = InspectionRecipe()
    assert plain.inspected_sha256() == InspectionRecipe(deadline_ms=5.0).inspected_sha256()
    others = (
        InspectionRecipe(FrameSpec(pixel_format="mono")),
        InspectionRecipe(FrameSpec(crop=(0, 0, 5, 5))),
        recipe_of(RegionSpec("window", polygon=SQUARE)),
        InspectionRecipe(tiles=TileSpec(8, 8)),
        InspectionRecipe(tiles=TileSpec(8, 8, 1)),
    )
    found = {plain.inspected_sha256(), *(other.inspected_sha256() for other in others)}
    assert len(found) == 1 + len(others)
