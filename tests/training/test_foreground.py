"""Foreground masks: given as files, or made by segmentation."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from rdx_fast.errors import CheckpointError, DatasetError
from rdx_fast.images import list_images, read_image
from rdx_fast.preprocess import to_input, unit_spec
from rdx_fast.training import Recipe, segment, train
from rdx_fast.training.contact_sheet import save_contact_sheet
from rdx_fast.training.foreground import (
    SEGMENTATIONS,
    foreground_masks,
    mask_files,
)
from rdx_fast.training.frames import Frames
from rdx_fast.training.published import (
    mvtec_category,
    published_foreground,
    published_iterations,
)
from rdx_fast.training.synthetic import AnomalyMaker

SPEC = unit_spec(64, 96)
GREEN, RED = (0, 255, 0), (255, 0, 0)
SHORT = Recipe(
    method="rd-expert",
    backbone="efficientnet_lite0",
    image_size=(32, 32),
    iterations=2,
    batch=4,
    foreground="otsu-dark",
)


def make_masks(method: str, frames: Frames, height: int, width: int) -> NDArray[np.bool_]:
    kept, masks = foreground_masks(method, None, frames, height, width).usable(False)
    assert kept == list(range(len(frames)))
    assert masks is not None
    return masks


def draw_discs(folder: Path, part: int, ground: int, count: int = 6) -> list[Path]:
    """Images of a disc at a random place, of these grey levels with noise; ``disc`` of a file's
    number is where the disc is."""
    folder.mkdir()
    paths = [folder / f"{i}.png" for i in range(count)]
    for i, path in enumerate(paths):
        noise = np.random.default_rng(i).normal(0, 6, (96, 128, 3))
        grey = np.where(disc(i, 96, 128)[..., None], part, ground) + noise
        Image.fromarray(grey.clip(0, 255).astype(np.uint8)).save(path)
    return paths


def disc(seed: int, height: int, width: int) -> NDArray[np.bool_]:
    """Where the disc is: ``[height, width]`` bool."""
    y, x = np.mgrid[:height, :width] + 0.5
    down, right = np.random.default_rng([seed, 1]).uniform(0.4, 0.6, 2)
    return np.hypot(y / height - down, (x / width - right) * 4 / 3) < 0.3


@pytest.mark.parametrize(
    ("method", "part", "ground"),
    [
        ("grabcut", 50, 200),
        ("grabcut", 200, 50),
        ("otsu-dark", 50, 200),
        ("otsu-bright", 200, 50),
    ],
)
def test_parts_are_found(method: str, part: int, ground: int, tmp_path: Path) -> None:
    frames = Frames(draw_discs(tmp_path / "discs", part, ground))
    masks = make_masks(method, frames, 64, 96)
    assert masks.shape == (6, 64, 96)
    assert masks.dtype == np.bool_
    for i, mask in enumerate(masks):
        wanted = disc(i, 64, 96)
        assert (mask & wanted).sum() / (mask | wanted).sum() > 0.95


def test_masks_are_always_the_same(tmp_path: Path) -> None:
    # Blurred patches: GrabCut's result depends on the random numbers that it draws.
    y, x = np.mgrid[:12, :16]
    bright = (abs(y - 5.5) < 3.5) & (abs(x - 7.5) < 5)
    for i in range(8):
        patches = np.random.default_rng(i).integers(0, 128, (12, 16, 3)) + 110 * bright[..., None]
        image = Image.fromarray(patches.astype(np.uint8))
        image.resize((96, 64), Image.Resampling.BICUBIC).save(tmp_path / f"{i}.png")
    frames = Frames(list_images(tmp_path))
    masks = make_masks("grabcut", frames, 64, 96)
    before = cv2.getNumThreads()
    try:
        for threads in (1, 4):
            cv2.setNumThreads(threads)
            np.testing.assert_array_equal(make_masks("grabcut", frames, 64, 96), masks)
    finally:
        cv2.setNumThreads(before)
    alone = [make_masks("grabcut", Frames([path]), 64, 96)[0] for path in frames.paths]
    np.testing.assert_array_equal(np.stack(alone), masks)


def test_grabcut_is_the_published_call(tmp_path: Path) -> None:
    """On a part that is cut off by the lower and the right border."""
    part = np.zeros((64, 96), np.bool_)
    part[24:, 40:] = True
    noise = np.random.default_rng(0).normal(0, 20, (64, 96, 3))
    frame = (np.where(part[..., None], 90, 150) + noise).clip(0, 255).astype(np.uint8)
    Image.fromarray(frame).save(tmp_path / "part.png")
    (found,) = make_masks("grabcut", Frames([tmp_path / "part.png"]), 64, 96)

    cv2.setRNGSeed(0)
    labels, models = np.zeros((64, 96), np.uint8), (np.zeros((1, 65)), np.zeros((1, 65)))
    cv2.grabCut(frame, labels, (1, 1, 95, 63), *models, 11, mode=cv2.GC_INIT_WITH_RECT)
    np.testing.assert_array_equal(found, np.isin(labels, (cv2.GC_FGD, cv2.GC_PR_FGD)))
    assert found[-1].any()


def test_published_categories(tmp_path: Path) -> None:
    for name in ("mvtec_screw_256", "metal_nut", "transistor", "woodscrews"):
        (tmp_path / name / "train" / "good").mkdir(parents=True)
    (tmp_path / "capsule").mkdir()
    screw = tmp_path / "mvtec_screw_256"
    for folder in (screw, screw / "train", screw / "train" / "good"):
        assert mvtec_category(folder) == "screw"
    assert mvtec_category(screw / "test" / ".." / "train" / "good") == "screw"
    assert mvtec_category(tmp_path / "metal_nut") == "metal_nut"
    assert mvtec_category(tmp_path / "woodscrews") is None
    assert mvtec_category(tmp_path / "capsule") is None  # of another layout
    ways = {
        "grabcut": "bottle cable hazelnut metal_nut pill toothbrush zipper",
        "otsu-dark": "capsule screw",
        "none": "carpet grid leather tile transistor wood",
    }
    for way, names in ways.items():
        assert {published_foreground(name) for name in names.split()} == {way}
    lengths = {"transistor": 10_000, "cable": 10_000, "screw": 5000, None: 5000}
    assert {name: published_iterations(name) for name in lengths} == lengths
    expert = Recipe(method="rd-expert")
    assert expert.at_length_of("cable") == replace(expert, iterations=10_000)
    for recipe in (expert, replace(expert, epochs=3), replace(expert, iterations=5), Recipe()):
        category = "screw" if recipe == expert else "cable"
        assert recipe.at_length_of(category) == recipe


def test_a_part_that_is_not_found(tmp_path: Path) -> None:
    discs = draw_discs(tmp_path / "discs", 50, 200)
    flat = tmp_path / "flat.png"
    Image.fromarray(np.full((96, 128), 128, np.uint8)).save(flat)
    for method in SEGMENTATIONS:
        with pytest.raises(DatasetError) as caught:
            make_masks(method, Frames([flat, *discs]), 64, 96)
        message = str(caught.value)
        assert message.startswith(f"1 of 7 foreground masks cannot be used ({method} does not find")
        assert all(other in message for other in SEGMENTATIONS)
        assert message.count("\n") == 1
        assert str(flat) in message
        found = foreground_masks(method, None, Frames([flat, *discs]), 64, 96)
        kept, masks = found.usable(True)
        assert kept == [1, 2, 3, 4, 5, 6]
        np.testing.assert_array_equal(masks, make_masks(method, Frames(discs), 64, 96))
        with pytest.raises(DatasetError, match=r"1 of 1 foreground masks cannot") as caught:
            foreground_masks(method, None, Frames([flat]), 64, 96).usable(True)
        assert "--skip-bad" not in str(caught.value)


def test_masks_from_files(parts: Path, tmp_path: Path) -> None:
    good = list_images(parts / "train" / "good")
    left = np.zeros((80, 112), np.uint8)
    left[:, :56] = 255
    one = tmp_path / "one.png"
    Image.fromarray(left).save(one)
    each = tmp_path / "each"
    each.mkdir()
    for i, path in enumerate(good):
        Image.fromarray(left if i % 2 else left[:, ::-1]).save(each / f"{path.stem}.png")
    image = to_input([read_image(good[0])], SPEC)[0]
    frames, none = Frames(good), Frames([])

    def files(given: Path, skip_bad: bool = False) -> tuple[list[int], NDArray[np.bool_] | None]:
        return foreground_masks("files", given, frames, 64, 96).usable(skip_bad)

    everything = list(range(len(good)))
    (kept_for_all, for_all), (kept_for_each, for_each) = files(one), files(each)
    assert kept_for_all == kept_for_each == everything
    for index in range(6):
        rng = np.random.default_rng(index)
        _, mask = AnomalyMaker(SPEC, frames, none, for_all)(rng, image, index)
        assert not mask[:, 49:].any()
        _, mask = AnomalyMaker(SPEC, frames, none, for_each)(rng, image, index)
        assert not (mask[:, 49:] if index % 2 else mask[:, :47]).any()

    masks = [each / f"{path.stem}.png" for path in good]
    masks[3].unlink()
    masks[5].write_text("no image")
    Image.fromarray(left * 0).save(masks[7])
    with pytest.raises(DatasetError, match=f"3 of {len(good)} foreground masks cannot") as caught:
        files(each)
    lines = str(caught.value).splitlines()[1:]
    wanted = {3: "no such file", 5: "not an image", 7: "black"}
    for line, (index, reason) in zip(lines, wanted.items(), strict=True):
        assert str(masks[index]) in line
        assert reason in line
    kept, rest = files(each, skip_bad=True)
    assert kept == [i for i in everything if i not in (3, 5, 7)]
    np.testing.assert_array_equal(rest, for_each[kept])

    with pytest.raises(
        DatasetError, match=r"where there is nothing: .* \(auto, grabcut, otsu-dark"
    ):
        files(tmp_path / "otsu")
    Image.fromarray(left * 0).save(one)
    for skip_bad in (False, True):  # there is no image that it belongs to
        with pytest.raises(DatasetError, match=r"one\.png is black") as caught:
            files(one, skip_bad)
        assert "--skip-bad" not in str(caught.value)
    with pytest.raises(DatasetError, match=r"1 names belong to several images"):
        mask_files(each, [good[0], tmp_path / good[0].name])
    for method, given in (("files", None), ("none", one), ("grabcut", one)):
        with pytest.raises(ValueError, match=f"is '{method}', and the mask files are {given}"):
            foreground_masks(method, given, frames, 64, 96)
    assert foreground_masks("none", None, frames, 64, 96).usable(False) == (everything, None)


def test_the_contact_sheet_shows_a_part_that_is_not_found(tmp_path: Path) -> None:
    discs = draw_discs(tmp_path / "discs", 50, 200)
    flat = tmp_path / "discs" / "flat.png"
    Image.fromarray(np.full((96, 128), 128, np.uint8)).save(flat)
    picture = tmp_path / "sheet.png"
    recipe = Recipe(method="rd-expert", image_size=(64, 96), foreground="grabcut")
    (line,) = save_contact_sheet(picture, recipe, [*discs, flat], count=14).told()
    assert line.startswith(f"{flat}: grabcut takes ")
    red, green = ((read_image(picture) == color).all(2).any() for color in (RED, GREEN))
    assert red
    assert green


@pytest.mark.slow
def test_training_with_masks_and_its_resume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    discs = draw_discs(tmp_path / "discs", 50, 200)
    said: list[str] = []
    run = tmp_path / "run"
    unbroken = train(SHORT, discs, tmp_path / "unbroken", on_stage=said.append)
    assert said == [
        "making foreground masks of 6 images by otsu-dark",
        "computing the teacher's features of 6 images",
        "training",
    ]
    assert not train(SHORT, discs, run, max_minutes=0).finished
    for other in ("grabcut", "none"):
        with pytest.raises(CheckpointError, match=f"foreground: otsu-dark before, {other} now"):
            train(replace(SHORT, foreground=other), discs, run, resume=True)
    with monkeypatch.context() as other_version:
        other_version.setattr(
            segment, "segment", lambda frame, _: np.tri(*frame.shape[:2], dtype=bool)
        )
        with pytest.raises(CheckpointError, match="textures or foreground masks have changed"):
            train(SHORT, discs, run, resume=True)
    assert train(SHORT, discs, run, resume=True).losses == unbroken.losses
    without = train(replace(SHORT, foreground="none"), discs, tmp_path / "without")
    assert without.losses != unbroken.losses


def test_training_tells_what_it_leaves_out(tmp_path: Path) -> None:
    discs = draw_discs(tmp_path / "discs", 50, 200)
    flat, broken = (tmp_path / "discs" / f"{name}.png" for name in ("flat", "broken"))
    Image.fromarray(np.full((96, 128), 128, np.uint8)).save(flat)
    broken.write_text("no image")
    said: list[str] = []
    images = [*discs, flat, broken]
    train(SHORT, images, tmp_path / "run", skip_bad=True, on_stage=said.append, max_minutes=0)
    assert said[0] == "left out: 1 of 8 images, which cannot be used"
    assert said[2].startswith(f"left out for want of a foreground:\n  {flat}: otsu-dark takes ")


def test_masks_by_segmentation_and_from_files(tmp_path: Path) -> None:
    discs = draw_discs(tmp_path / "discs", 50, 200)
    with pytest.raises(ValueError, match="makes masks by otsu-dark: give only one of them"):
        train(SHORT, discs, tmp_path / "run", foreground=discs[0])


@pytest.mark.slow
@pytest.mark.real
def test_photographs(real_images: Path) -> None:
    brushes = list_images(real_images / "data" / "mvtec_toothbrush_256" / "train" / "good")[:6]
    for path, mask in zip(brushes, make_masks("grabcut", Frames(brushes), 256, 256), strict=True):
        # The background is almost black.
        bright = read_image(path).max(axis=2) > 100
        assert (mask & bright).sum() > 0.99 * bright.sum()
        assert mask[-1].sum() > 30  # the neck
        assert mask[:, :64].sum() + mask[:, -64:].sum() < 10
    surfaces = list_images(real_images / "data" / "kolektorsdd_sample" / "train" / "good")[:4]
    with pytest.raises(DatasetError, match="train without, which is right where the part fills"):
        make_masks("grabcut", Frames(surfaces), 256, 128)
