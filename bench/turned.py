"""A data set whose images are turned at random, for parts that lie at every angle:
``python -m rdx_fast.bench.turned --help``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from PIL import Image
from scipy import ndimage

from rdx_fast.datasets import find_dataset
from rdx_fast.images import read_grey, read_image
from rdx_fast.kernels.resize_normalize import Pixels


def main(
    dataset: Annotated[Path, typer.Argument(help="Category folder of a data set.")],
    output: Annotated[Path, typer.Argument(help="Folder to write, in MVTec AD's layout.")],
    seed: Annotated[int, typer.Option(min=0, help="Seed of the angles.")] = 0,
) -> None:
    """Turn each image of a data set, and its mask, about its centre by an angle of its own.

    What comes in at the corners is the image mirrored at its borders.
    """
    if output.exists():
        raise typer.BadParameter(f"{output} exists: remove it, or choose another folder")
    found = find_dataset(dataset)
    rng = np.random.default_rng(seed)
    for path in found.train():
        _save(_turned(read_image(path), rng.uniform(0, 360)), output / "train/good" / path.stem)
    for image in found.test():
        angle = rng.uniform(0, 360)
        name = Path(image.defect_type) / image.path.stem
        _save(_turned(read_image(image.path), angle), output / "test" / name)
        if image.mask is not None:
            white = np.where(read_grey(image.mask) > image.mask_above, 255, 0).astype(np.uint8)
            mask = output / "ground_truth" / f"{name}_mask"
            _save(np.where(_turned(white, angle) > 127, 255, 0).astype(np.uint8), mask)


def _turned(image: Pixels, degrees: float) -> Pixels:
    """Turn ``[H, W]`` or ``[H, W, C]``, interpolated bilinearly."""
    turned: Pixels = ndimage.rotate(
        image, degrees, axes=(1, 0), reshape=False, order=1, mode="mirror"
    )
    return turned


def _save(image: Pixels, name: Path) -> None:
    name.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(f"{name}.png")


if __name__ == "__main__":
    typer.run(main)
