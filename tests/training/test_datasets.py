"""Data sets as they are published, each built in small."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rdx_fast.datasets import find_dataset
from rdx_fast.errors import DatasetError
from rdx_fast.evaluation.scored import read_mask


def put(path: Path, value: int = 90) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((16, 24), 0 if "mask" in str(path).lower() else value, np.uint8)
    pixels[4:8, 6:12] = value
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def mvtec(tmp_path: Path) -> Path:
    root = tmp_path / "bottle"
    for name in ("train/good/000", "train/good/001", "test/good/000", "test/crack/000"):
        put(root / f"{name}.png")
    put(root / "ground_truth" / "crack" / "000_mask.png", 255)
    return root


@pytest.fixture
def mvtec2(tmp_path: Path) -> Path:
    root = tmp_path / "can"
    for name in ("train/good/0", "validation/good/1", "test_public/good/2", "test_public/bad/3"):
        put(root / f"{name}.png")
    put(root / "test_private" / "9.png")
    put(root / "test_public" / "ground_truth" / "bad" / "3_mask.png", 255)
    return root


@pytest.fixture
def visa(tmp_path: Path) -> Path:
    base = tmp_path / "VisA"
    rows = [["object", "split", "label", "image", "mask"]]
    for category in ("candle", "pcb1"):
        images = f"{category}/Data/Images"
        for split, number in (("train", 0), ("train", 1), ("test", 2)):
            # A table may name a mask for a good image too: it marks nothing that is wrong.
            mask = f"{category}/Data/Masks/Normal/{number}.png" if split == "test" else ""
            rows.append([category, split, "normal", f"{images}/Normal/{number}.JPG", mask])
        mask = f"{category}/Data/Masks/Anomaly/0.png"
        rows.append([category, "test", "anomaly", f"{images}/Anomaly/0.JPG", mask])
    for row in rows[1:]:
        put(base / row[3])
        if row[4]:
            put(base / row[4], 2)  # VisA numbers the kinds of defect
    (base / "split_csv").mkdir()
    with (base / "split_csv" / "1cls.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows(rows)
    return base


def names(paths: list[Path], root: Path) -> list[str]:
    return [p.relative_to(root).as_posix() for p in paths]


def test_mvtec(mvtec: Path) -> None:
    found = find_dataset(mvtec)
    assert found.layout == "MVTec AD"
    assert names(found.train(), mvtec) == ["train/good/000.png", "train/good/001.png"]
    assert found.validation() == []
    crack, good = found.test()
    assert (crack.defect_type, crack.is_defective) == ("crack", True)
    assert crack.mask == mvtec / "ground_truth" / "crack" / "000_mask.png"
    assert (good.defect_type, good.mask) == ("good", None)


def test_masks_may_bear_the_images_own_name(mvtec: Path) -> None:
    truth = mvtec / "ground_truth" / "crack"
    (truth / "000_mask.png").rename(truth / "000.png")
    assert find_dataset(mvtec).test()[0].mask == truth / "000.png"


def test_mvtec_half_there(mvtec: Path) -> None:
    mask = mvtec / "ground_truth" / "crack" / "000_mask.png"
    mask.unlink()
    assert find_dataset(mvtec).test()[0].mask == mask  # ``check_images`` finds it missing
    shutil.rmtree(mvtec / "test" / "crack")
    with pytest.raises(DatasetError, match="holds good: a test set needs 'good' and at least one"):
        find_dataset(mvtec).test()
    shutil.rmtree(mvtec / "test")
    with pytest.raises(DatasetError, match=r"test is not a folder: a test set holds"):
        find_dataset(mvtec).test()
    shutil.rmtree(mvtec / "train")
    with pytest.raises(DatasetError, match=r"train/good is not a folder"):
        find_dataset(mvtec).train()


def test_mvtec2(mvtec2: Path) -> None:
    found = find_dataset(mvtec2)
    assert found.layout == "MVTec AD 2"
    assert names(found.train(), mvtec2) == ["train/good/0.png"]
    assert names(found.validation(), mvtec2) == ["validation/good/1.png"]
    assert [(i.path.name, i.defect_type) for i in found.test()] == [
        ("3.png", "bad"),
        ("2.png", "good"),
    ]
    assert found.test()[0].mask == mvtec2 / "test_public" / "ground_truth" / "bad" / "3_mask.png"


def test_mvtec2_half_there(mvtec2: Path) -> None:
    shutil.rmtree(mvtec2 / "test_public")  # the private test sets have no labels
    found = find_dataset(mvtec2)
    assert found.layout == "MVTec AD 2"
    with pytest.raises(DatasetError, match=r"test_public is not a folder"):
        found.test()
    shutil.rmtree(mvtec2 / "train")
    with pytest.raises(DatasetError, match=r"train/good is not a folder"):
        found.train()


def test_visa(visa: Path) -> None:
    found = find_dataset(visa / "candle")
    assert found.layout == "VisA"
    images = "candle/Data/Images"
    assert names(found.train(), visa) == [f"{images}/Normal/0.JPG", f"{images}/Normal/1.JPG"]
    good, bad = found.test()
    assert (good.path.name, good.defect_type, good.mask) == ("2.JPG", "good", None)
    assert (bad.defect_type, bad.mask) == ("anomaly", visa / "candle/Data/Masks/Anomaly/0.png")
    mask = read_mask(bad.mask, 16, 24, bad.mask_above)
    assert mask.sum() == 4 * 6


def test_visa_half_there(visa: Path) -> None:
    with pytest.raises(DatasetError, match=r"is all of VisA: give one category, such as .*candle"):
        find_dataset(visa)
    table = visa / "split_csv" / "1cls.csv"
    table.write_text(table.read_text().replace("pcb1,train", "pcb9,train"))
    with pytest.raises(DatasetError, match="lists no train images of pcb1"):
        find_dataset(visa / "pcb1").train()
    table.write_text(table.read_text().replace("object,", "thing,"))
    with pytest.raises(DatasetError, match="has the columns thing, split"):
        find_dataset(visa / "candle").train()
    table.unlink()
    with pytest.raises(DatasetError, match=r"looks like a category of VisA.*1cls\.csv: that file"):
        find_dataset(visa / "candle").train()


def test_plain_folder(tmp_path: Path) -> None:
    for name in ("a.png", "sub/b.jpg"):
        put(tmp_path / "photos" / name)
    found = find_dataset(tmp_path / "photos")
    assert found.layout == "plain folder"
    assert names(found.train(), tmp_path / "photos") == ["a.png", "sub/b.jpg"]
    with pytest.raises(DatasetError, match="holds sub: a test set needs 'good'"):
        found.test()


def test_plain_folder_with_defects(tmp_path: Path) -> None:
    for name in ("good/1.png", "good/2.png", "dent/3.png", "scratch/4.png"):
        put(tmp_path / "photos" / name)
    found = find_dataset(tmp_path / "photos")
    assert names(found.train(), tmp_path / "photos") == ["good/1.png", "good/2.png"]
    assert [i.defect_type for i in found.test()] == ["dent", "good", "good", "scratch"]
    assert all(i.mask is None for i in found.test())
    put(tmp_path / "photos" / "ground_truth" / "dent" / "3_mask.png", 255)
    truth = tmp_path / "photos" / "ground_truth"
    expected = [truth / "dent" / "3_mask.png", None, None, truth / "scratch" / "4_mask.png"]
    assert [i.mask for i in found.test()] == expected


def test_a_set_of_good_images_alone_may_do(mvtec: Path, visa: Path) -> None:
    shutil.rmtree(mvtec / "test" / "crack")
    (good,) = find_dataset(mvtec, need_defects=False).test()
    assert not good.is_defective
    (mvtec / "test" / "good").rename(mvtec / "test" / "crack")
    with pytest.raises(DatasetError, match=r"holds crack: a test set needs 'good'$"):
        find_dataset(mvtec, need_defects=False).test()
    table = visa / "split_csv" / "1cls.csv"
    rows = table.read_text().splitlines()
    table.write_text("\n".join(row for row in rows if "anomaly" not in row))
    assert len(find_dataset(visa / "candle", need_defects=False).test()) == 1
    with pytest.raises(DatasetError, match="lists only good test images of candle: wanted both"):
        find_dataset(visa / "candle").test()
    table.write_text("\n".join(row for row in rows if "test,normal" not in row))
    with pytest.raises(DatasetError, match=r"lists only defective .*: wanted good ones"):
        find_dataset(visa / "candle", need_defects=False).test()


def test_folders_that_will_not_do(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="is not a folder"):
        find_dataset(tmp_path / "none")
    (tmp_path / "notes.txt").touch()
    (tmp_path / ".hidden.png").touch()
    with pytest.raises(DatasetError, match="holds no images"):
        find_dataset(tmp_path).train()
