"""Checks all images that an experiment reads: training images, textures, masks and test set."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from rdx_fast.datasets import Dataset
from rdx_fast.errors import DatasetError
from rdx_fast.evaluation.checked import BadImage, CheckedSet, check_images
from rdx_fast.images import find_bad_images
from rdx_fast.preprocess import Frame
from rdx_fast.recipe.tiling import largest_tiles
from rdx_fast.training import Recipe
from rdx_fast.training.foreground import foreground_masks
from rdx_fast.training.frames import Frames
from rdx_fast.training.inputs import check_texture, unreadable


class Inputs(NamedTuple):
    """What the runs of an experiment read, all of it usable.

    Attributes:
        images: to train on
        textures: for synthetic anomalies
        test: the test set
        left_out: training images that cannot be read or have no usable foreground mask, and
            textures that cannot be read
    """

    images: list[Path]
    textures: list[Path]
    test: CheckedSet
    left_out: list[BadImage]


def check_inputs(
    dataset: Dataset,
    recipes: Sequence[Recipe],
    textures: Sequence[Path],
    foreground: Path | None,
    skip_bad: bool,
) -> Inputs:
    """Check everything that the runs read before the first one, which may take hours.

    Args:
        dataset: the category
        recipes: options of the runs
        textures: texture images
        foreground: mask files for recipes with the foreground "files"
        skip_bad: leave out images that cannot be used instead of raising, for all runs alike

    Raises:
        ValueError: the recipes read frames in different ways
        DatasetError: images, textures or masks cannot be used; the message lists them all
    """
    ways = {recipe.frame_options._replace(tiles=None) for recipe in recipes}
    if len(ways) > 1:
        raise ValueError(
            "the recipes differ in pixel format, crop or levels, and there is one test set: give "
            "them the same"
        )
    (options,) = ways
    options = options._replace(tiles=largest_tiles([recipe.tiles for recipe in recipes]))
    training = dataset.train()
    faults: list[str] = []
    usable: list[list[Path]] = []
    left_out: list[BadImage] = []
    test = CheckedSet((), ())
    given: Sequence[tuple[str, Sequence[Path], Callable[[Frame], object]]] = (
        ("training images", training, options.check),
        ("textures", textures, check_texture),
    )
    for what, paths, check in given:
        bad = find_bad_images(paths, check)
        left_out += [BadImage(str(error.path), error.reason) for error in bad]
        skipped = {error.path for error in bad}
        usable.append([path for path in paths if path not in skipped])
        if bad and (not skip_bad or len(bad) == len(paths)):
            faults.append(unreadable(bad, len(paths), what))
    try:
        test = check_images(dataset.test(), skip_bad, **options._asdict())
    except DatasetError as error:
        faults.append(str(error))
    images, found = usable
    both = {*training} & {image.path for image in test.images}
    if both:
        faults.append(
            f"{len(both)} of the test images are training images too: give a data set that keeps "
            f"them apart, such as folders train/good, test/good and test/<defect type>"
        )
    if not images:
        raise DatasetError("\n".join([*faults, "no training image is left: add images"]))
    without_mask: dict[Path, BadImage] = {}
    ways_of_masks = ((r.foreground, r.image_size, r.frame_options) for r in recipes)
    for method, size, of in dict.fromkeys(ways_of_masks):
        try:
            files = foreground if method == "files" else None
            masks = foreground_masks(method, files, Frames(images, of), *size)
            masks.usable(skip_bad)
        except DatasetError as error:
            faults.append(str(error))
        else:
            for i, reason in masks.faults.items():
                without_mask[images[i]] = BadImage(str(images[i]), f"foreground: {reason}")
    if faults:
        raise DatasetError("\n".join(faults))
    images = [path for path in images if path not in without_mask]
    return Inputs(images, found, test, [*left_out, *without_mask.values()])
