"""A picture of synthetic anomalies, to check before training whether they look like defects."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from rdx_fast.preprocess import FrameWindow, unit_spec
from rdx_fast.training.data import ImageDataset
from rdx_fast.training.foreground import Foreground, foreground_masks
from rdx_fast.training.frames import Frames
from rdx_fast.training.recipe import Recipe
from rdx_fast.training.synthetic import anomaly_maker

GREEN, RED = (0.0, 1.0, 0.0), (1.0, 0.0, 0.0)  # outline of the foreground


def save_contact_sheet(
    picture: Path,
    recipe: Recipe,
    good: Sequence[Path],
    textures: Sequence[Path] = (),
    foreground: Path | None = None,
    count: int = 8,
) -> Foreground:
    """Write an image with a good part, or a tile of it, its synthetic anomaly and the mask in each
    column.

    Where anomalies are kept on a foreground, its outline is drawn on the good part in green. Where
    the mask cannot be used in training, it is red, and so is the image's border.

    Args:
        picture: file to write; its suffix gives the format
        recipe: of the training; its seed also decides which parts are shown
        good: images of good parts
        textures: see ``AnomalyMaker``
        foreground: mask files, see ``mask_files``, for the recipe's foreground "files"
        count: number of columns; no part is shown twice unless there are fewer parts

    Returns:
        The foregrounds that are shown.

    Raises:
        DatasetError: foreground masks are missing
        ImageError: an image cannot be read
        MissingDependencyError: masks are to be made, and OpenCV is not installed
    """
    rng = np.random.default_rng(recipe.seed)
    shown = [good[i] for i in np.resize(rng.permutation(len(good)), count).tolist()]
    spec = unit_spec(*recipe.image_size)
    options = recipe.frame_options
    images = ImageDataset(Frames(shown, options), spec)
    found = foreground_masks(recipe.foreground, foreground, images.frames, *recipe.image_size)
    maker = anomaly_maker(recipe, images, Frames(good, options), Frames(textures), found.masks)
    columns: list[NDArray[np.float32]] = []
    for index in range(count):
        item = index if images.windows is None else _any_tile(rng, images.windows, index)
        image = images.load(item)
        anomalous, mask = maker(rng, image, item)
        white = np.broadcast_to(mask, image.shape).astype(np.float32)
        if found.masks is not None:
            its = index if len(found.masks) > 1 else 0
            image = _outlined(image, maker.foreground_of(item), its not in found.faults)
        columns.append(np.concatenate([image, anomalous, white], axis=1))
    pixels = np.concatenate(columns, axis=2).transpose(1, 2, 0)
    picture.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((pixels * 255).round().astype(np.uint8)).save(picture)
    return found


def _any_tile(rng: np.random.Generator, windows: Sequence[FrameWindow], image: int) -> int:
    """The index of a tile of an image."""
    return int(rng.choice([i for i, (its, _) in enumerate(windows) if its == image]))


def _outlined(
    image: NDArray[np.float32], mask: NDArray[np.bool_], usable: bool
) -> NDArray[np.float32]:
    edge = mask & ~ndimage.binary_erosion(mask, border_value=1)
    if not usable:
        edge |= ~ndimage.binary_erosion(np.ones_like(mask))
    color = np.array(GREEN if usable else RED, np.float32)[:, None, None]
    return np.where(edge, color, image)
