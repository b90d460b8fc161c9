"""Images and masks of a test set that cannot be evaluated."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rdx_fast.datasets import LabelledImage, find_dataset
from rdx_fast.deep_images import write_png
from rdx_fast.errors import DatasetError
from rdx_fast.evaluation import check_images
from rdx_fast.evaluation.inputs import check_inputs
from rdx_fast.evaluation.scored import read_mask
from rdx_fast.images import list_images, read_image
from rdx_fast.training import Recipe


def put(path: Path, height: int = 16, width: int = 24, value: int = 255) -> Path:
    """An image with one rectangle of a value on black."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.zeros((height, width), np.uint8)
    pixels[4:8, 6:12] = value
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def category(tmp_path: Path) -> Path:
    """Six good test images, and six of each of two types with their masks."""
    root = tmp_path / "part"
    for i in range(6):
        put(root / "test" / "good" / f"{i}.png")
        for name in ("crack", "dent"):
            put(root / "test" / name / f"{i}.png")
            put(root / "ground_truth" / name / f"{i}_mask.png")
    return root


def spoil(root: Path) -> dict[Path, str]:
    """Spoil an image or mask in each way; returns the images that are bad by then, and why."""
    cracks, truth = root / "test" / "crack", root / "ground_truth" / "crack"
    put(truth / "0_mask.png", value=0)
    put(truth / "1_mask.png", value=1)  # marked with 1 instead of 255
    put(truth / "2_mask.png", width=32)
    (truth / "3_mask.png").unlink()
    (truth / "4_mask.png").write_bytes((truth / "5_mask.png").read_bytes()[:60])
    (root / "test" / "good" / "0.png").write_text("no image")
    return {
        cracks / "0.png": "0_mask.png: marks no pixel: wanted values above 127",
        cracks / "1.png": "1_mask.png: marks no pixel",
        cracks / "2.png": "2_mask.png: has 32 x 16 pixels, but the image 24 x 16",
        cracks / "3.png": "3_mask.png: no such file",
        cracks / "4.png": "4_mask.png: cannot be decoded",
        root / "test" / "good" / "0.png": "not an image",
    }


def test_every_bad_image_is_listed(category: Path) -> None:
    bad = spoil(category)
    with pytest.raises(DatasetError, match=r"6 of 18 test images cannot be used.*--skip-bad") as e:
        check_images(find_dataset(category).test())
    lines = str(e.value).splitlines()[1:]
    assert len(lines) == len(bad)
    for line, (path, reason) in zip(lines, bad.items(), strict=True):
        assert line.strip().startswith(f"{path}: ")
        assert reason in line


def test_the_list_is_not_cut(category: Path) -> None:
    for path in (category / "ground_truth").rglob("*.png"):
        path.unlink()
    with pytest.raises(DatasetError) as error:
        check_images(find_dataset(category).test())
    assert str(error.value).count("no such file") == 12


def test_bad_images_are_left_out_on_request(category: Path) -> None:
    bad = spoil(category)
    images = find_dataset(category).test()
    calls: list[tuple[int, int]] = []
    found = check_images(images, True, lambda done, total: calls.append((done, total)))
    assert [Path(b.path) for b in found.left_out] == list(bad)
    assert all(reason in b.reason for b, reason in zip(found.left_out, bad.values(), strict=True))
    assert list(found.images) == [image for image in images if image.path not in bad]
    assert calls == [(i, 18) for i in range(1, 19)]


def test_a_type_may_vanish_but_not_all(category: Path) -> None:
    spoil(category)
    test = category / "test"
    (test / "crack" / "5.png").write_text("no image")
    found = check_images(find_dataset(category).test(), skip_bad=True)
    assert {image.defect_type for image in found.images} == {"good", "dent"}
    for path in (test / "dent").iterdir():
        path.write_text("no image")
    with pytest.raises(DatasetError, match="and without them no defective image is left") as error:
        check_images(find_dataset(category).test(), skip_bad=True)
    assert str(error.value).count("\n  ") == 13


def test_good_images_that_would_vanish(category: Path) -> None:
    for path in (category / "test" / "good").iterdir():
        path.write_text("no image")
    with pytest.raises(DatasetError, match=r"and without them no good image is left"):
        check_images(find_dataset(category).test(), skip_bad=True)


def test_what_was_not_given_does_not_vanish(category: Path) -> None:
    bad, *good = (image for image in find_dataset(category).test() if not image.is_defective)
    bad.path.write_text("no image")
    assert list(check_images([bad, *good], skip_bad=True).images) == good
    with pytest.raises(DatasetError, match="and without them no good image is left"):
        check_images([bad], skip_bad=True)


def test_defects_outside_of_a_crop(category: Path) -> None:
    """Masks mark rows 4 to 7 and columns 6 to 11 of 16 x 24."""
    images = find_dataset(category).test()
    assert check_images(images, crop=(0, 0, 5, 24)).left_out == []
    with pytest.raises(DatasetError, match="12 of 18 test images cannot be used") as error:
        check_images(images, crop=(8, 0, 8, 24))
    assert str(error.value).count("marks no pixel inside the crop: the defect is not sco") == 12
    with pytest.raises(DatasetError, match="reaches beyond the frame of 16 x 24 pixels"):
        check_images(images, crop=(8, 0, 9, 24))
    with pytest.raises(DatasetError, match="is not rgb, which is"):
        check_images(images, pixel_format="rgb")
    with pytest.raises(
        DatasetError, match=r"levels .* are for uint16 frames, and this one is uint8"
    ):
        check_images(images, levels=(0, 4095))
    mask = category / "ground_truth" / "crack" / "0_mask.png"
    shown = read_mask(mask, 16, 24, crop=(4, 6, 8, 12))
    np.testing.assert_array_equal(shown, np.repeat(np.repeat(shown[::2, ::2], 2, 0), 2, 1))
    assert shown[:8, :12].all()
    assert shown.sum() == 96


def test_tiny_defects_are_not_bad(tmp_path: Path) -> None:
    image, good, mask = (put(tmp_path / f"{name}.png") for name in ("a", "b", "a_mask"))
    pixels = np.zeros((16, 24), np.uint8)
    pixels[3, 3] = 255
    Image.fromarray(pixels).save(mask)
    images = [LabelledImage(image, "dent", mask), LabelledImage(good, "good", None)]
    assert check_images(images).images == images


def test_sets_without_masks(tmp_path: Path) -> None:
    paths = [put(tmp_path / f"{i}.png") for i in range(3)]
    dents = [LabelledImage(path, "dent", None) for path in paths[:2]]
    images = [*dents, LabelledImage(paths[2], "good", None)]
    assert check_images(images).images == images
    # One mask makes it a set with masks.
    images[0] = LabelledImage(paths[0], "dent", put(tmp_path / "0_mask.png"))
    with pytest.raises(DatasetError, match=r"1 of 3 .*\n.*1\.png: has no mask, unlike other"):
        check_images(images)


def test_everything_is_checked_before_the_first_run(parts: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(parts, tmp_path / "parts"))
    textures, masks = tmp_path / "textures", tmp_path / "masks"
    good = list_images(root / "train" / "good")
    for folder in (textures, masks):
        folder.mkdir()
    for path in good[1:]:
        Image.fromarray(np.full((8, 8), 255, np.uint8)).save(masks / f"{path.stem}.png")
    bad = good[3], list_images(root / "test" / "good")[0], textures / "a.png"
    for path in bad:
        path.write_text("no image")
    shutil.copy(good[0], textures / "b.png")
    dataset, found = find_dataset(root), list_images(textures)
    drawn = Recipe("rd-expert", image_size=(32, 32), foreground="files")
    with pytest.raises(DatasetError) as caught:
        check_inputs(dataset, [drawn], found, masks, skip_bad=False)
    for wanted in (*bad, masks / f"{good[0].stem}.png"):
        assert str(wanted) in str(caught.value)
    recipes = [drawn, Recipe("rd4ad")]
    given = check_inputs(dataset, recipes, found, masks, skip_bad=True)
    assert not {good[0], good[3]} & {*given.images}
    assert str(given.left_out[-1]).startswith(f"{good[0]}: foreground: mask ")
    given = check_inputs(dataset, [Recipe("rd4ad")], found, None, skip_bad=True)
    assert given.textures == [textures / "b.png"]
    assert good[3] not in given.images
    assert [left.path for left in given.left_out] == [str(bad[0]), str(bad[2])]
    assert [left.path for left in given.test.left_out] == [str(bad[1])]
    # Without any texture, the runs would make other anomalies.
    with pytest.raises(DatasetError, match="none of the 1 textures can be used"):
        check_inputs(dataset, [Recipe("rd-expert")], [bad[2]], None, skip_bad=True)


def test_16_bits_are_checked_by_their_levels(parts: Path, tmp_path: Path) -> None:
    for path in list_images(parts):
        (tmp_path / path.relative_to(parts)).parent.mkdir(parents=True, exist_ok=True)
        write_png(tmp_path / path.relative_to(parts), read_image(path).astype(np.uint16) * 16)
    dataset, options = find_dataset(tmp_path), {"crop": (0, 0, 60, 60), "levels": (0, 4080)}
    given = check_inputs(dataset, [Recipe(**options)], [], None, skip_bad=False)
    assert (given.test.crop, given.test.levels) == ((0, 0, 60, 60), (0, 4080))
    with pytest.raises(DatasetError, match="none of the 24 training images") as caught:
        check_inputs(dataset, [Recipe()], [], None, skip_bad=True)
    assert "good/000.png: a uint16 frame's range is unknown" in str(caught.value)
    textures = list_images(tmp_path / "train")[:1]
    with pytest.raises(DatasetError, match=r"has 16 bits per channel: save a texture with 8"):
        check_inputs(dataset, [Recipe("rd-expert", **options)], textures, None, skip_bad=True)
    with pytest.raises(ValueError, match="the recipes differ in pixel format, crop or levels"):
        check_inputs(dataset, [Recipe(), Recipe(**options)], [], None, skip_bad=True)


def test_training_images_are_no_test_images(tmp_path: Path) -> None:
    for name in ("good/0", "good/1", "dent/0"):
        put(tmp_path / f"{name}.png")
    plain = find_dataset(tmp_path)
    with pytest.raises(DatasetError, match="2 of the test images are training images too"):
        check_inputs(plain, [Recipe("rd4ad")], [], None, skip_bad=False)
