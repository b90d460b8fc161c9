"""Test sets in the MVTec AD layout.

Images are ``test/<type>/<name>.*``, masks ``ground_truth/<type>/<name>_mask.png``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rdx_fast.errors import DatasetError, ImageError, listed
from rdx_fast.images import list_images, read_image

GOOD = "good"


@dataclass(frozen=True, slots=True)
class LabelledImage:
    """One test image; ``mask`` is None for a good part, or where the set has no masks."""

    path: Path
    defect_type: str
    mask: Path | None

    @property
    def is_defective(self) -> bool:
        return self.defect_type != GOOD


def labelled_images(root: Path) -> tuple[list[LabelledImage], bool]:
    """The test images of a category folder, and whether defects have masks.

    Raises ``DatasetError``: no ``test`` folder, no good or no defective images, or masks missing
    for some of the defective images.
    """
    folder = root / "test"
    if not folder.is_dir():
        raise DatasetError(
            f"{folder} is not a folder: wanted the MVTec AD layout, {root}/test/good and "
            f"{root}/test/<defect type>, with masks in {root}/ground_truth"
        )
    types = sorted(p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    if GOOD not in types or len(types) < 2:
        raise DatasetError(
            f"{folder} holds {', '.join(types) or 'no folders'}: wanted 'good' and at least one "
            f"defect type"
        )
    truth = root / "ground_truth"
    has_masks = truth.is_dir()
    images, missing = [], []
    for defect_type in types:
        for path in list_images(folder / defect_type):
            mask = None
            if defect_type != GOOD and has_masks:
                mask = truth / defect_type / f"{path.stem}_mask.png"
                if not mask.is_file():
                    missing.append(mask)
            images.append(LabelledImage(path, defect_type, mask))
    if missing:
        raise DatasetError(
            f"{len(missing)} masks are missing (remove {truth} to evaluate images only):"
            f"{listed(missing)}"
        )
    return images, has_masks


def read_mask(path: Path | None, height: int, width: int) -> NDArray[np.bool_]:
    """A mask at the map's size: ``[height, width]`` bool; bilinear, then above half of full white,
    as the published protocol does. None gives an empty mask.

    Raises ``DatasetError`` for a mask without a defect pixel.
    """
    if path is None:
        return np.zeros((height, width), bool)
    try:
        grey = read_image(path)
    except ImageError as error:
        raise DatasetError(f"mask {error}") from error
    if grey.ndim == 3:
        grey = grey.max(axis=2)
    if not (grey > 127).any():
        raise DatasetError(f"mask {path} marks no pixel: white (255) marks the defect")
    resized = Image.fromarray(grey).resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(resized) > 127
