"""Recipes with tiles: regions, defects, grey levels and limits."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from rdx_fast import Detector
from rdx_fast.bundle.bundle import Bundle, open_bundle
from rdx_fast.bundle.changes import replace_recipe
from rdx_fast.bundle.manifest import InputSpec, MapSpec, ScaleSpec
from rdx_fast.defects import frame_map
from rdx_fast.engines import Chunk
from rdx_fast.errors import RecipeError
from rdx_fast.images import list_images, read_image
from rdx_fast.kernels.resize_normalize import Crop
from rdx_fast.limits.calibration import manual_threshold
from rdx_fast.limits.limits import Limits
from rdx_fast.limits.promise import Wish
from rdx_fast.pipelines import ScoreOptions
from rdx_fast.pipelines.tiled import TiledPipeline
from rdx_fast.recalibrate import calibrate_bundle
from rdx_fast.recipe.recipe import FrameSpec, InspectionRecipe, RegionSpec
from rdx_fast.recipe.tiling import TileSpec, tiling
from support.small_network import SIZE, mapper
from support.toy_network import DEVICE, on_device, on_host

NETWORK = (64, 96)
FRAMES: list[tuple[tuple[int, int], Crop | None, TileSpec]] = [
    ((64, 96), None, TileSpec(64, 96)),
    ((300, 120), None, TileSpec(64, 96, 16)),
    ((150, 401), (10, 20, 140, 380), TileSpec(80, 64, 20)),
    ((500, 480), (30, 77, 460, 400), TileSpec(128, 192, 40)),
    ((1030, 700), (2, 0, 1000, 690), TileSpec(100, 150, 50)),
]


class BrightnessEngine:
    """An engine whose distances are a pixel's brightness."""

    description = "bright"
    on_device = False
    frame_threads = 1

    def __init__(self, bundle: Bundle, recipe: InspectionRecipe) -> None:
        self.bundle = bundle
        self.manifest = replace(
            bundle.manifest,
            recipe=recipe,
            input=InputSpec(*NETWORK, (0.0,) * 3, (1.0,) * 3, "bilinear-antialiased"),
            map=MapSpec(*NETWORK, "add", sigma=1.0, truncate=4.0, border="reflect"),
            scales=(ScaleSpec(2, *NETWORK),),
        )
        (self.execution,) = bundle.manifest.executions

    def run(self, inputs: NDArray[np.float32]) -> Iterator[Chunk]:
        for i, image in enumerate(inputs):
            cosine = 1 - image[0]
            student = np.stack([cosine, np.sqrt(1 - cosine**2)])[None]
            teacher = np.stack([np.ones_like(cosine), np.zeros_like(cosine)])[None]
            yield Chunk(i, [teacher], [student])

    def close(self) -> None:
        pass


def bright(bundle: Bundle, recipe: InspectionRecipe) -> Detector:
    limit = manual_threshold(0.5, "test")
    limits = [Limits.single(limit, region) for region in recipe.inspected]
    engine = BrightnessEngine(bundle, recipe)
    return Detector(engine, limits=limits, check_frames=False)  # type: ignore[arg-type]


def spot(frame: NDArray[np.uint8], row: int, column: int, tiles: TileSpec) -> None:
    """Plant a defect of 9 x 9 pixels of the network's input."""
    down, across = 9 * tiles.height // NETWORK[0] // 2, 9 * tiles.width // NETWORK[1] // 2
    frame[row - down : row + down + 1, column - across : column + across + 1] = 255


@pytest.mark.parametrize(("size", "crop", "tiles"), FRAMES)
def test_planted_defects(
    bundle: Bundle, size: tuple[int, int], crop: Crop | None, tiles: TileSpec
) -> None:
    top, left, height, width = crop or (0, 0, *size)
    wanted = [(top + height // 4, left + width // 3), (top + height * 3 // 4, left + width // 2)]
    frame = np.zeros(size, np.uint8)
    for place in wanted:
        spot(frame, *place, tiles)
    with bright(bundle, InspectionRecipe(FrameSpec(*size, "mono", crop), tiles=tiles)) as detector:
        result = detector.score(frame)
        (defects,) = detector.defects(result, size)
    assert result.anomaly_maps is not None
    assert result.anomaly_maps[0].shape == tiling(tiles, (height, width), NETWORK).size
    assert len(defects) == len(wanted)
    whole = frame_map(result.anomaly_maps[0], size, crop)
    for defect, place in zip(sorted(defects, key=lambda d: d.centroid_px), wanted, strict=True):
        assert defect.centroid_px == pytest.approx(np.add(place, 0.5), abs=1)
        assert defect.area_px == pytest.approx((frame > 0).sum() / len(wanted), rel=0.25)
        assert whole[place] > 0.9


@pytest.mark.parametrize(("size", "crop", "tiles"), FRAMES)
def test_regions_of_the_blended_map(
    bundle: Bundle, size: tuple[int, int], crop: Crop | None, tiles: TileSpec
) -> None:
    """Two halves, and between them a strip that is not inspected. Scores and areas are those of the
    whole map, a defect counts in the half that it lies in, and none in the strip counts."""
    top, left, height, width = crop or (0, 0, *size)
    middle = left + width / 2
    across = width / 8
    halves = (
        RegionSpec("left", polygon=box(0, 0, middle, size[0])),
        RegionSpec("right", polygon=box(middle, 0, size[1], size[0])),
        RegionSpec("strip", "ignore", box(middle - across, 0, middle + across, size[0])),
    )
    recipe = InspectionRecipe(FrameSpec(*size, "mono", crop), halves, tiles)
    grey = np.random.default_rng(0).integers(0, 40, size, np.uint8)
    with bright(bundle, recipe) as detector:
        assert detector.labels is not None
        assert detector.labels.shape == tiling(tiles, (height, width), NETWORK).size
        for column, ng in ((left + width // 4, 0), (left + width // 2, None)):
            frame = grey.copy()
            frame[top + height // 2 - 3 : top + height // 2 + 4, column - 3 : column + 4] = 255
            result = detector.score(frame)
            assert result.anomaly_maps is not None
            for r in range(2):
                inside = result.anomaly_maps[0][detector.labels == r + 1]
                assert result.region_scores[0, r] == inside.max()
                assert result.region_areas[0, r] == (inside > np.float32(0.5)).sum()
                assert (result.region_areas[0, r] > 0) == (r == ng)
            assert result.verdicts == ["OK" if ng is None else "NG"]
            without = detector.score(frame, maps=False)
            np.testing.assert_array_equal(without.region_scores, result.region_scores)


def box(left: float, top: float, right: float, bottom: float) -> tuple[tuple[float, float], ...]:
    return ((left, top), (right, top), (right, bottom), (left, bottom))


@pytest.mark.parametrize(
    "frame",
    [
        FrameSpec(),
        FrameSpec(crop=(20, 10, 170, 260)),
        FrameSpec(pixel_format="mono", levels=(0, 4095)),
        FrameSpec(150, 300, "bayer_rggb"),
    ],
)
@pytest.mark.parametrize("tiles", [None, TileSpec(128, 192, 30)])
def test_warmup_has_frames_of_the_recipe(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, frame: FrameSpec, tiles: TileSpec | None
) -> None:
    """Of its size and format, and halfway between black and white."""
    seen: list[NDArray[np.float32]] = []
    run = BrightnessEngine.run

    def watched(engine: BrightnessEngine, inputs: NDArray[np.float32]) -> Iterator[Chunk]:
        seen.append(inputs.copy())
        return run(engine, inputs)

    monkeypatch.setattr(BrightnessEngine, "run", watched)
    with bright(bundle, InspectionRecipe(frame, tiles=tiles)) as detector:
        detector.warmup(1, depth=2)
    np.testing.assert_allclose(np.concatenate(seen), 0.5, atol=2e-3)


def test_limits_are_calibrated_in_tiles(bundle: Bundle, parts: Path, tmp_path: Path) -> None:
    copy = open_bundle(shutil.copytree(bundle.path, tmp_path / "copy.rdx"))
    good = list_images(parts / "test" / "good")[:4]
    recipe = InspectionRecipe(FrameSpec(crop=(4, 2, 72, 100)), tiles=TileSpec(48, 72, 8))
    changed = replace_recipe(copy, recipe, {}, "anna")
    assert changed.manifest.recipe == recipe
    with pytest.raises(RecipeError, match="calibrate them again"):
        Detector(copy.path)
    found = calibrate_bundle(changed, good, Wish(0.4, weaker=True), user="anna").bundle
    with Detector(copy.path) as detector:
        scores = [detector.score(read_image(path)).scores[0] for path in good]
        cut = [read_image(path)[4:76, 2:102] for path in good]
        with pytest.raises(ValueError, match=r"crop is .* and the recipe states"):
            detector.score(cut[0], crop=(0, 0, 72, 100))
    (kept,) = found.calibration().values()
    np.testing.assert_array_equal(kept[:, 0], np.sort(scores))
    replace_recipe(found, replace(recipe, tiles=TileSpec(48, 72, 9)), {}, "anna")
    with pytest.raises(RecipeError, match="calibrate them again"):
        Detector(copy.path)


@pytest.mark.parametrize("pixel_format", ["rgb", "bayer_gbrg"])
@pytest.mark.parametrize("on_gpu", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.filterwarnings("ignore:All-NaN slice:RuntimeWarning")  # of Triton's interpreter
def test_16_bits(pixel_format: str, on_gpu: bool) -> None:
    """As of 8 bits where the levels are theirs, also of frames that lie on the GPU."""
    crop = (3, 2, 80, 60)
    shape = (85, 64, 3) if pixel_format == "rgb" else (85, 64)
    shallow = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    deep = shallow.astype(np.uint16) * 16
    tiles, epilogue = TileSpec(48, 52, 12), mapper(top_k=5).epilogue
    on_cpu = TiledPipeline(on_host(mapper()), tiles, SIZE, epilogue)
    options = ScoreOptions(pixel_format=pixel_format, crop=crop)
    wanted = on_cpu.score(shallow, options)
    options = options._replace(levels=(0, 255 * 16))
    tried = TiledPipeline(on_device(mapper()), tiles, SIZE, epilogue) if on_gpu else on_cpu
    given: list[Any] = [deep]
    if on_gpu:
        given += [deep, torch.from_numpy(deep).to(DEVICE)]  # again, with launches that were kept
    for frame in given:
        found = tried.score(frame, options)
        assert found.anomaly_maps is not None
        assert wanted.anomaly_maps is not None
        np.testing.assert_allclose(found.anomaly_maps, wanted.anomaly_maps, rtol=2e-5, atol=2e-6)
        np.testing.assert_allclose(found.summary.maxima, wanted.summary.maxima, rtol=2e-5)
    with pytest.raises(ValueError, match="a uint16 frame's range is unknown"):
        tried.score(deep, options._replace(levels=None))
