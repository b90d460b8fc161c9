"""What the published trainings choose by category of MVTec AD."""

from __future__ import annotations

import os
import re
from pathlib import Path

from rdx_fast.datasets import GOOD, MVTEC_AD, find_dataset

EPOCHS = 200  # RD4AD, all categories
ITERATIONS = 5000  # RD with Expert, categories that are not in ``_LONG``
_LONG = {"cable": 10_000, "transistor": 10_000}
_FOREGROUNDS = {
    **dict.fromkeys(
        ("bottle", "cable", "hazelnut", "metal_nut", "pill", "toothbrush", "zipper"), "grabcut"
    ),
    **dict.fromkeys(("capsule", "screw"), "otsu-dark"),
    **dict.fromkeys(("carpet", "grid", "leather", "tile", "transistor", "wood"), "none"),
}


def mvtec_category(folder: Path) -> str | None:
    """The category of MVTec AD whose good images a folder holds.

    Args:
        folder: the category folder, or its "train" or "train/good". Its name may have other words
            around the category, such as "mvtec_screw_256".

    Returns:
        A category such as "screw"; None where the layout or the name is another.
    """
    root = Path(os.path.abspath(folder))  # without "..", and with the names of symbolic links
    if root.parts[-2:] == ("train", GOOD):
        root = root.parents[1]
    elif root.name == "train":
        root = root.parent
    if not (root / "train" / GOOD).is_dir() or find_dataset(root).layout != MVTEC_AD:
        return None
    return next(
        (name for name in _FOREGROUNDS if re.search(f"(?<![a-z]){name}(?![a-z])", root.name)), None
    )


def published_foreground(category: str) -> str:
    """How the training of RD with Expert makes foreground masks, "grabcut", "otsu-dark" or "none".

    Args:
        category: of ``mvtec_category``
    """
    return _FOREGROUNDS[category]


def published_iterations(category: str | None) -> int:
    """Length of the training of RD with Expert in batches.

    Args:
        category: of ``mvtec_category``; None for other parts
    """
    return _LONG.get(category or "", ITERATIONS)
