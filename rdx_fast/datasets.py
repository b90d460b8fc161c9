"""Data sets in the folder layouts in which they are published. The layout is detected
automatically.

======================  =============================================================
MVTec AD                ``train/good``, ``test/<type>``, ``ground_truth/<type>/<name>_mask.png``
MVTec AD 2              ``train/good``, ``validation/good``, ``test_public/{good,bad}``,
                        ``test_public/ground_truth/bad/<name>_mask.png``
VisA                    ``<category>/Data/Images`` with ``split_csv/1cls.csv`` beside the category
plain folder            images; or ``good`` and a folder for each defect type
======================  =============================================================

Files are only listed: ``rdx_fast.evaluation.check_images`` checks images and masks of a test set.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rdx_fast.errors import DatasetError
from rdx_fast.images import list_images

GOOD = "good"
MVTEC_AD = "MVTec AD"


@dataclass(frozen=True, slots=True)
class LabelledImage:
    """One test image.

    Attributes:
        path: the image file
        defect_type: type of the defect; "good" for a good part
        mask: mask file of the defect, which may be missing; None for a good part, or where the set
            names no mask
        mask_above: mask values above this mark the defect
    """

    path: Path
    defect_type: str
    mask: Path | None
    mask_above: int = 127

    @property
    def is_defective(self) -> bool:
        """Whether the part has a defect."""
        return self.defect_type != GOOD


@dataclass(frozen=True, slots=True)
class Dataset:
    """A category of a data set. Each split is read when its function is called.

    Each function raises ``DatasetError`` if its part of the layout is missing or incomplete.

    Attributes:
        layout: name of the layout
        train: returns the good images to train on
        validation: returns good images that are used neither for training nor for the test; empty
            where the layout has none
        test: returns the labelled images of the test set
    """

    layout: str
    train: Callable[[], list[Path]]
    validation: Callable[[], list[Path]]
    test: Callable[[], list[LabelledImage]]


def find_dataset(root: Path, need_defects: bool = True) -> Dataset:
    """Detect the layout of a category folder.

    Args:
        root: the category folder
        need_defects: whether a test set without defective images is an error

    Returns:
        The category with its splits, which are not read yet.

    Raises:
        DatasetError: ``root`` is not a folder, or is a whole data set instead of one category
    """
    if not root.is_dir():
        raise DatasetError(f"{root} is not a folder: give a folder of images or a category")
    if (root / "test_public").is_dir() or (root / "validation").is_dir():
        return Dataset(
            "MVTec AD 2",
            lambda: list_images(root / "train" / GOOD),
            lambda: list_images(root / "validation" / GOOD),
            lambda: _typed_folders(
                root / "test_public", root / "test_public" / "ground_truth", need_defects
            ),
        )
    if (root / "Data" / "Images").is_dir():
        return Dataset(
            "VisA",
            lambda: [image.path for image in _visa(root, "train")],
            list,
            lambda: _visa(root, "test", need_defects),
        )
    if (root / "split_csv").is_dir():
        categories = sorted(p.name for p in root.iterdir() if (p / "Data").is_dir())
        raise DatasetError(
            f"{root} is all of VisA: give one category, such as "
            f"{root / (categories[0] if categories else 'candle')}"
        )
    if any((root / name).is_dir() for name in ("train", "test", "ground_truth")):
        return Dataset(
            MVTEC_AD,
            lambda: list_images(root / "train" / GOOD),
            list,
            lambda: _typed_folders(root / "test", root / "ground_truth", need_defects),
        )
    return Dataset(
        "plain folder",
        lambda: list_images(root / GOOD if (root / GOOD).is_dir() else root),
        list,
        lambda: _typed_folders(root, root / "ground_truth", need_defects),
    )


def has_masks(images: Sequence[LabelledImage]) -> bool:
    """Whether any of the images has a mask."""
    return any(image.mask is not None for image in images)


def _typed_folders(folder: Path, truth: Path, need_defects: bool) -> list[LabelledImage]:
    """``folder/<type>/<image>``, masks ``truth/<type>/<stem>_mask.png`` or ``<stem>.png``."""
    if not folder.is_dir():
        raise DatasetError(
            f"{folder} is not a folder: a test set holds {folder / GOOD} and "
            f"{folder / '<defect type>'}, with masks, if any, in {truth}"
        )
    types = sorted(
        p.name for p in folder.iterdir() if p.is_dir() and p != truth and not p.name.startswith(".")
    )
    if GOOD not in types or (need_defects and len(types) < 2):
        wanted = "'good' and at least one defect type" if need_defects else "'good'"
        raise DatasetError(
            f"{folder} holds {', '.join(types) or 'no folders'}: a test set needs {wanted}"
        )
    masked = truth.is_dir()
    images = []
    for defect_type in types:
        for path in list_images(folder / defect_type):
            mask = None
            if defect_type != GOOD and masked:
                names = (f"{path.stem}_mask.png", f"{path.stem}.png")
                named = [truth / defect_type / name for name in names]
                mask = next((p for p in named if p.is_file()), named[0])
            images.append(LabelledImage(path, defect_type, mask))
    return images


def _visa(root: Path, split: str, need_defects: bool = True) -> list[LabelledImage]:
    """The images of a category and split in VisA's table; its paths start at the table's parent."""
    table = root.parent / "split_csv" / "1cls.csv"
    if not table.is_file():
        raise DatasetError(
            f"{root} looks like a category of VisA, whose split is in {table}: that file is missing"
        )
    wanted = {"object", "split", "label", "image", "mask"}
    with table.open(encoding="utf-8", newline="") as stream:
        reader = csv.DictReader(stream)
        if not wanted <= set(reader.fieldnames or ()):
            raise DatasetError(
                f"{table} has the columns {', '.join(reader.fieldnames or ['none'])}: wanted "
                f"{', '.join(sorted(wanted))}"
            )
        rows = [r for r in reader if r["object"] == root.name and r["split"] == split]
    if not rows:
        raise DatasetError(f"{table} lists no {split} images of {root.name}")
    base = root.parent
    images = [
        LabelledImage(
            base / row["image"],
            GOOD if row["label"] == "normal" else row["label"],
            base / row["mask"] if row["mask"] and row["label"] != "normal" else None,
            mask_above=0,  # VisA's mask values are defect numbers
        )
        for row in rows
    ]
    kinds = {image.is_defective for image in images}
    if split == "test" and not kinds >= ({False, True} if need_defects else {False}):
        raise DatasetError(
            f"{table} lists only {'defective' if True in kinds else 'good'} test images of "
            f"{root.name}: wanted {'both' if need_defects else 'good ones'}"
        )
    return images
