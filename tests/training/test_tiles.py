"""Training, export and evaluation on tiles."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from rdx_fast import Detector
from rdx_fast.bench.recipes import under
from rdx_fast.bundle.bundle import Bundle
from rdx_fast.datasets import find_dataset
from rdx_fast.engines import open_engine
from rdx_fast.errors import DatasetError, ImageError, TrainingError
from rdx_fast.evaluation import check_images, score_set
from rdx_fast.export import export_bundle
from rdx_fast.images import image_size, list_images, read_image
from rdx_fast.kernels.resize_normalize import Crop, check_crop
from rdx_fast.limits.calibration import calibrate_threshold
from rdx_fast.preprocess import FrameOptions, to_input, unit_spec
from rdx_fast.recipe.recipe import InspectionRecipe
from rdx_fast.recipe.tiling import TileSpec, tiling
from rdx_fast.training import Checkpoint, Recipe, load_checkpoint, train
from rdx_fast.training.contact_sheet import save_contact_sheet
from rdx_fast.training.data import ImageDataset
from rdx_fast.training.foreground import TileMasks, foreground_masks
from rdx_fast.training.frames import Frames
from rdx_fast.training.inputs import training_inputs
from rdx_fast.training.synthetic import anomaly_maker
from support.commands import run, unboxed
from support.weights import assert_same_weights

SPEC = unit_spec(32, 64)
TILES = TileSpec(40, 64, 8)  # of parts of 80 x 112: three lines of two
RECIPE = Recipe(
    backbone="efficientnet_lite0", image_size=(32, 32), iterations=5, batch=12, tiles=TILES
)


@pytest.fixture(scope="module")
def images(parts: Path) -> list[Path]:
    return find_dataset(parts).train()[:4]


@pytest.fixture(scope="module")
def two_sizes(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A bright disc on dark ground, in images of two sizes."""
    folder = tmp_path_factory.mktemp("sizes")
    paths = []
    for i, (height, width) in enumerate(((90, 130), (120, 100))):
        y, x = np.mgrid[:height, :width]
        disc = (y - height / 2) ** 2 + (x - width / 2) ** 2 < 35**2
        noise = np.random.default_rng(i).integers(0, 20, (height, width))
        paths.append(folder / f"{i}.png")
        Image.fromarray((disc * 180 + noise).astype(np.uint8)).save(paths[-1])
    return paths


@pytest.mark.parametrize("crop", [None, (2, 3, 70, 90)])
def test_items_are_tiles(images: list[Path], two_sizes: list[Path], crop: Crop | None) -> None:
    paths = [images[0], *two_sizes]
    dataset = ImageDataset(Frames(paths, FrameOptions(crop=crop, tiles=TILES)), SPEC)
    index = 0
    for path in paths:
        assert image_size(path) == read_image(path).shape[:2]
        laid = tiling(TILES, check_crop(image_size(path), crop)[2:], (32, 64))
        height, width = laid.size
        (whole,) = to_input([read_image(path)], unit_spec(height, width), crop=crop)
        for window in laid.windows():
            top, left = window.top, window.left
            shown = whole[:, top : top + 32, left : left + 64]
            np.testing.assert_allclose(dataset[index], shown, rtol=0, atol=1e-6)
            index += 1
    assert index == len(dataset) > len(paths)


def test_images_smaller_than_a_tile(
    images: list[Path], two_sizes: list[Path], tmp_path: Path
) -> None:
    large = replace(RECIPE, tiles=TileSpec(80, 112), iterations=1, batch=2)
    with pytest.raises(ImageError, match=r"1\.png: tiles of 80 x 112 pixels are larger"):
        ImageDataset(Frames(two_sizes, large.frame_options), SPEC)
    paths = [*images, two_sizes[1]]
    said: list[str] = []
    with pytest.raises(DatasetError, match=r"1 of 5 images cannot be used(.|\n)*1\.png: tiles of"):
        training_inputs(large, paths, [], None, False, said.append)
    assert training_inputs(large, paths, [], None, True, said.append).images == images
    assert said == ["left out: 1 of 5 images, which cannot be used"]
    with pytest.raises(TrainingError, match="4 tiles of 4 images to train on, fewer than a batch"):
        train(replace(large, batch=5), images, tmp_path / "few")


def test_epochs_count_tiles(images: list[Path], tmp_path: Path) -> None:
    said: list[str] = []
    run = tmp_path / "run"
    unbroken = train(RECIPE, images, tmp_path / "unbroken", on_stage=said.append)
    assert said[0] == "computing the teacher's features of 24 tiles of 4 images"
    assert unbroken.steps_per_epoch == 2
    assert unbroken.epoch == 2
    assert train(RECIPE, images, run, max_minutes=0).step == 1
    assert load_checkpoint(run).recipe == RECIPE
    assert_same_weights(train(RECIPE, images, run, resume=True), unbroken)


def test_checkpoints_from_before_tiles(checkpoint: Checkpoint, tmp_path: Path) -> None:
    from rdx_fast.training.checkpoint import FILE, save_checkpoint

    save_checkpoint(checkpoint, tmp_path)
    content = torch.load(tmp_path / FILE, weights_only=True)
    del content["recipe"]["tiles"]
    torch.save(content, tmp_path / FILE)
    assert load_checkpoint(tmp_path).recipe == checkpoint.recipe


@pytest.mark.parametrize("way", ["otsu-bright", "file"])
def test_masks_of_tiles(two_sizes: list[Path], tmp_path: Path, way: str) -> None:
    frames = Frames(two_sizes, FrameOptions(tiles=TILES))
    if way == "file":
        mask = np.zeros((100, 100), np.uint8)
        mask[:, 50:] = 255
        Image.fromarray(mask).save(tmp_path / "right.png")
        found = foreground_masks("files", tmp_path / "right.png", frames, 32, 64)
    else:
        found = foreground_masks(way, None, frames, 32, 64)
    kept, masks = found.usable(False)
    assert kept == [0, 1]
    assert masks is not None
    dataset = ImageDataset(frames, SPEC)
    assert dataset.windows is not None
    of_tiles = TileMasks(masks, dataset.windows, (32, 64))
    assert len(of_tiles) == len(dataset)
    for index, (image, window) in enumerate(dataset.windows):
        found_mask = of_tiles[index]
        assert found_mask.shape == (32, 64)
        if way == "file":
            wanted = np.arange(window.left, window.left + 64) >= window.width / 2
            assert (found_mask == wanted).mean() > 0.98
        else:
            assert ((dataset.load(index)[0] > 0.4) == found_mask).mean() > 0.95
        assert masks[image].shape == (window.height, window.width)
    recipe = Recipe("rd-expert", image_size=(32, 64), tiles=TILES, foreground="files")
    maker = anomaly_maker(recipe, dataset, frames, Frames([]), masks)
    for index in range(len(dataset)):
        anomalous, changed = maker(np.random.default_rng(index), dataset.load(index), index)
        assert not (changed & ~of_tiles[index]).any()
        np.testing.assert_array_equal(anomalous[:, ~changed], dataset.load(index)[:, ~changed])


def test_large_images_are_segmented_smaller(tmp_path: Path) -> None:
    y, x = np.mgrid[:700, :1200]
    part = np.where((x - 600) ** 2 + (y - 350) ** 2 < 250**2, 200, 20).astype(np.uint8)
    Image.fromarray(part).save(tmp_path / "part.png")
    frames = Frames([tmp_path / "part.png"], FrameOptions(tiles=TileSpec(128, 128)))
    _, masks = foreground_masks("otsu-bright", None, frames, 128, 128).usable(False)
    assert masks is not None
    assert masks[0].shape == part.shape
    assert (masks[0] == (part > 100)).mean() > 0.995


@pytest.mark.slow
@pytest.mark.parametrize("foreground", ["none", "otsu-bright"])
def test_anomalies_on_tiles(two_sizes: list[Path], tmp_path: Path, foreground: str) -> None:
    recipe = replace(RECIPE, method="rd-expert", foreground=foreground, batch=6, iterations=3)
    trained = train(recipe, two_sizes, tmp_path / "run", workers=0)
    assert trained.finished
    again = train(recipe, two_sizes, tmp_path / "again", image_memory_gb=0, workers=0)
    assert_same_weights(again, trained)
    save_contact_sheet(tmp_path / "sheet.png", recipe, two_sizes, count=5)
    assert read_image(tmp_path / "sheet.png").shape == (3 * 32, 5 * 32, 3)


@pytest.mark.slow
def test_export_and_evaluation(parts: Path, images: list[Path], tmp_path: Path) -> None:
    trained = train(replace(RECIPE, iterations=2), images, tmp_path / "run")
    good = list_images(parts / "calibration")[:6]
    made = tmp_path / "part.rdx"
    written = export_bundle(trained, good, made, precision="fp32", check_images=2)
    (execution,) = written.manifest.executions
    assert written.manifest.recipe.tiles == TILES
    with Detector(written.path) as detector:
        scores = [detector.score(read_image(path)).scores[0] for path in good]
        assert execution.threshold == calibrate_threshold(scores)
        assert execution.check.map_images == 2
        test = find_dataset(parts).test()
        scored = score_set(detector, test)
        assert len(scored.scores) == len(test)
        (shown,) = detector.score(read_image(test[0].path)).anomaly_maps
        assert shown.shape == (64, 56)
    with pytest.raises(DatasetError, match="tiles of 200 x 64 pixels are larger"):
        check_images(test, tiles=TileSpec(200, 64))


def test_masks_have_the_size_of_all_tiles(bundle: Bundle, tmp_path: Path) -> None:
    root = tmp_path / "part"
    frame = np.random.default_rng(0).integers(0, 256, (160, 200, 3), dtype=np.uint8)
    mask = np.zeros((160, 200), np.uint8)
    mask[100:140, 20:60] = 255
    for name, pixels in (
        ("train/good/0.png", frame),
        ("test/good/0.png", frame),
        ("test/cut/0.png", frame),
        ("ground_truth/cut/0_mask.png", mask),
    ):
        (root / name).parent.mkdir(parents=True)
        Image.fromarray(pixels).save(root / name)
    recipe = InspectionRecipe(tiles=TileSpec(80, 100, 10))
    with under(recipe, open_engine(bundle)) as detector:
        scored = score_set(detector, find_dataset(root).test())
    for shown, marked in zip(scored.maps, scored.masks, strict=True):
        assert shown.shape == marked.shape == (128, 192)
    (defect,) = (m for m in scored.masks if m.any())
    rows, columns = np.nonzero(defect)
    assert (rows.min(), rows.max() + 1) == (80, 112)
    assert np.ptp(columns) == pytest.approx(40 * 192 / 200, abs=2)


@pytest.mark.slow
def test_commands(parts: Path, tmp_path: Path) -> None:
    trained, made = tmp_path / "run", tmp_path / "part.rdx"
    tiles = ("--tile", 40, 64, "--overlap", 8)
    short = ("--backbone", "efficientnet_lite0", "--image-size", 32, 32, "--iterations", 2)
    run("train", parts, trained, *short, *tiles)
    run("export", trained, made, "--good", parts / "calibration", "--precision", "fp32")
    path = list_images(parts / "test")[0]
    with Detector(made) as detector:
        assert detector.recipe.tiles == TILES
        wanted = detector.score(read_image(path)).scores[0]
    (row,) = run("score", made, path, "--json").stdout.splitlines()
    assert json.loads(row)["score"] == pytest.approx(float(wanted))
    run("evaluate", made, parts)
    run("preview", parts, tmp_path / "preview.png", *tiles)
    done = run("preview", parts, tmp_path / "no.png", "--overlap", 8, code=2)
    assert "give --tile HEIGHT WIDTH too" in unboxed(done.stderr)
    done = run("preview", parts, tmp_path / "no.png", "--tile", 40, 64, "--overlap", 30, code=2)
    assert "wanted at most half" in unboxed(done.stderr)
