"""What a training reads: images, textures and masks that can be used, and held-out images."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rdx_fast.errors import DatasetError, ImageError, listed
from rdx_fast.images import find_bad_images
from rdx_fast.preprocess import Frame
from rdx_fast.training.foreground import SEGMENTATIONS, Masks, chosen_masks, foreground_masks
from rdx_fast.training.frames import Frames
from rdx_fast.training.recipe import Recipe


class TrainingInputs(NamedTuple):
    """What a run reads, all of it usable.

    Attributes:
        images: to train on
        held_out: images kept out of training
        masks: foreground of the images to train on, one for each or one for all, see
            ``Foreground``; None if anomalies may be anywhere
        textures: for synthetic anomalies
        fingerprint: SHA-256 by which a resumed run recognises the images, textures and masks that
            it trains with
    """

    images: list[Path]
    held_out: list[Path]
    masks: Masks | None
    textures: list[Path]
    fingerprint: str


def training_inputs(
    recipe: Recipe,
    images: Sequence[Path],
    textures: Sequence[Path],
    foreground: Path | None,
    skip_bad: bool,
    on_stage: Callable[[str], None],
) -> TrainingInputs:
    """Check what a run reads and make the foreground masks; see ``train``.

    Raises:
        DatasetError: images, textures or masks cannot be used
        MissingDependencyError: masks are to be made, and OpenCV is not installed
    """
    options = recipe.frame_options
    usable = _readable(images, skip_bad, "images", options.check, on_stage)
    patterns = _readable(textures, skip_bad, "textures", check_texture, on_stage)
    if recipe.foreground in SEGMENTATIONS:
        on_stage(f"making foreground masks of {len(usable)} images by {recipe.foreground}")
    found = foreground_masks(
        recipe.foreground, foreground, Frames(usable, options), *recipe.image_size
    )
    kept, masks = found.usable(skip_bad)
    if unusable := found.told():
        on_stage(f"left out for want of a foreground:{listed(unusable, len(unusable))}")
    training, held_out = split_holdout(len(kept), recipe)
    if masks is not None and len(masks) == len(kept):
        masks = chosen_masks(masks, training)
    chosen = [usable[kept[i]] for i in training]
    return TrainingInputs(
        chosen,
        [usable[kept[i]] for i in held_out],
        masks,
        patterns,
        _fingerprint([*chosen, *patterns], masks),
    )


def check_texture(frame: Frame) -> None:
    """Raises ``ValueError`` unless a texture has 8 bits per channel."""
    if frame.dtype != np.uint8:
        raise ValueError("has 16 bits per channel: save a texture with 8")


def _readable(
    paths: Sequence[Path],
    skip_bad: bool,
    what: str,
    check: Callable[[Frame], object],
    on_stage: Callable[[str], None],
) -> list[Path]:
    """The files that can be used, each of which is decoded once to find out."""
    bad = find_bad_images(paths, check)
    if bad and (not skip_bad or len(bad) == len(paths)):
        raise DatasetError(unreadable(bad, len(paths), what))
    if bad:
        on_stage(f"left out: {len(bad)} of {len(paths)} {what}, which cannot be used")
    skipped = {error.path for error in bad}
    return [path for path in paths if path not in skipped]


def unreadable(bad: Sequence[ImageError], count: int, what: str) -> str:
    """The refusal of ``count`` images, the ``what``, of which some or all are unreadable."""
    if len(bad) == count:
        return f"none of the {count} {what} can be used: give others:{listed(bad)}"
    return (
        f"{len(bad)} of {count} {what} cannot be used: repair or remove them, or leave them out "
        f"(skip_bad=True, --skip-bad):{listed(bad, len(bad))}"
    )


def split_holdout(images: int, recipe: Recipe) -> tuple[list[int], list[int]]:
    """Split images into training and held-out ones, drawn with the recipe's seed.

    Args:
        images: their number
        recipe: options of the run

    Returns:
        indices of the training images and of the held-out ones, each ascending
    """
    count = round(images * recipe.holdout)
    held = sorted(np.random.default_rng(recipe.seed).permutation(images)[:count].tolist())
    return sorted({*range(images)} - {*held}), held


def _fingerprint(paths: Sequence[Path], masks: Masks | None) -> str:
    """SHA-256 over names and contents of files, and over masks."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as stream:
            content = hashlib.file_digest(stream, "sha256").hexdigest()
        digest.update(f"{path.name}\0{content}\n".encode())
    for mask in () if masks is None else masks:
        digest.update(np.packbits(mask).tobytes())
    return digest.hexdigest()
