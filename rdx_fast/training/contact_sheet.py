"""A picture of synthetic anomalies, to check before training whether they look like defects."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rdx_fast.manifest import RESIZE, InputSpec
from rdx_fast.training.data import ImageDataset
from rdx_fast.training.synthetic import AnomalyMaker, foreground_masks


def save_contact_sheet(
    picture: Path,
    good: Sequence[Path],
    textures: Sequence[Path],
    foreground: Path | None,
    image_size: tuple[int, int],
    count: int,
    seed: int,
    cuts: bool = False,
    colors: bool = False,
) -> None:
    """Write an image with a good part, its synthetic anomaly and the mask in each column.

    Args:
        picture: file to write; its suffix gives the format
        good: images of good parts
        textures: see ``AnomalyMaker``
        foreground: see ``foreground_masks``
        image_size: height and width of each image in pixels
        count: number of columns
        seed: of the choice of images and of the anomalies
        cuts: see ``AnomalyMaker``
        colors: likewise

    Raises:
        DatasetError: a foreground mask is missing or empty
        ImageError: an image cannot be read
    """
    # Values in [0, 1], so that they can be shown.
    spec = InputSpec(*image_size, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), RESIZE)
    images = ImageDataset(good, spec)
    maker = AnomalyMaker(spec, good, textures, foreground_masks(foreground, good), cuts, colors)
    rng = np.random.default_rng(seed)
    columns: list[NDArray[np.float32]] = []
    for index in rng.integers(len(good), size=count):
        image = images.load(int(index))
        anomalous, mask = maker(rng, image, int(index))
        white = np.broadcast_to(mask, image.shape).astype(np.float32)
        columns.append(np.concatenate([image, anomalous, white], axis=1))
    pixels = np.concatenate(columns, axis=2).transpose(1, 2, 0)
    picture.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((pixels * 255).round().astype(np.uint8)).save(picture)
