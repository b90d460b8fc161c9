"""What a retraining works with, checked before minutes or hours of training."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from hashlib import file_digest
from pathlib import Path
from typing import Any

from rdx_fast.bundle.bundle import Bundle
from rdx_fast.bundle.versions import COMPARISON
from rdx_fast.cpu import usable_cores
from rdx_fast.datasets import find_dataset
from rdx_fast.errors import DatasetError, listed
from rdx_fast.images import find_bad_images, image_size, list_images
from rdx_fast.kernels.resize_normalize import Pixels
from rdx_fast.preprocess import FrameOptions
from rdx_fast.retraining.confirmed import (
    Confirmed,
    RetrainError,
    confirmed_frames,
    no_longer_good,
)
from rdx_fast.retraining.own_frames import keep_frame
from rdx_fast.retraining.training import original_images, told_of_originals
from rdx_fast.station.config import StationFile
from rdx_fast.station.hmi_config import RetrainConfig
from rdx_fast.training.checkpoint import Checkpoint


@dataclass(frozen=True, slots=True)
class Material:
    """What a retraining works with.

    Attributes:
        originals: images that the run was trained on
        confirmed: the labelled parts; their frames were decoded, can be used, and stay
        calibration: images of the calibration folder
        trained_before: inspections that the released network was trained on
        calibrated_before: inspections of parts that the released limits come from
        notes: what is to be known of it, in words
    """

    originals: Sequence[Path]
    confirmed: Confirmed
    calibration: Sequence[Path]
    trained_before: frozenset[int]
    calibrated_before: frozenset[int]
    notes: Sequence[str]


def gather(
    station: StationFile,
    job: int,
    config: RetrainConfig,
    released: Bundle,
    start: Checkpoint,
    options: FrameOptions,
    frames: Path,
    on_stage: Callable[[str], None],
) -> Material:
    """Collect and check it.

    Args:
        station: the station's configuration
        job: id of the job
        config: its table
        released: the released bundle
        start: the checkpoint that it was exported from
        options: how frames are read
        frames: folder in which the labelled parts' frames are kept, see ``own_frames``
        on_stage: called with what is being done

    Raises:
        RetrainError: images are used for two things, frames cannot be kept, or no confirmed good
            part can be trained on
        DatasetError: images cannot be used
        RecordError: the records cannot be read
    """
    originals = original_images(config, start)
    calibration = list_images(config.calibration)
    frozen = [image.path for image in find_dataset(config.frozen).test()]
    on_stage("checking images and labelled parts")
    known = _kept_apart(
        {
            "the images that the run was trained on": originals,
            "the calibration folder": calibration,
            "the frozen set": frozen,
        }
    )
    size = released.manifest.recipe.frame.size
    _check_usable([*calibration, *frozen], _check(options, size))
    found = confirmed_frames(
        station.records.path,
        station.records.pictures,
        job,
        released.manifest.name,
        partial(keep_frame, folder=frames),
    )
    found = found.checked(_check(options, size, None if size else _size_of(originals)))
    found = found.without(_also_elsewhere(found, known))
    if not found.to_train_on:
        raise RetrainError(
            f"job {job} has no confirmed good parts to train on ({len(found.frames)} labelled "
            f"parts can be used): label parts first{''.join(f'; {said}' for said in found.told())}"
        )
    stated = _comparison_of(released)
    before = frozenset(start.inspections).union(stated.get("trained_on", ()))
    notes = [*told_of_originals(config, start), *found.told()]
    if wrong := no_longer_good(found, before):
        notes.append(
            f"the released network was trained on {len(wrong)} parts that are not labelled good "
            f"any more, and the candidate starts from it: a run that is trained from the start "
            f"forgets them, inspection{listed(wrong)}"
        )
    return Material(
        originals, found, calibration, before, frozenset(stated.get("calibrated_on", ())), notes
    )


def _check(
    options: FrameOptions, size: tuple[int, int] | None, like: tuple[int, int] | None = None
) -> Callable[[Pixels], None]:
    """A check of frames: that the options fit; that they have a size, if it is given; else that
    they have the same shape as images of another size, which are resized as they are, if that is
    given. With a crop or tiles, that is the same size."""
    exact = size is not None or options.crop is not None or options.tiles is not None
    wanted = size or like

    def check(frame: Pixels) -> None:
        options.check(frame)
        if wanted is None:
            return
        (height, width), (rows, columns) = frame.shape[:2], wanted
        fits = (height, width) == wanted if exact else abs(height * columns / rows - width) <= 1
        if not fits:
            of = "the recipe is for" if size else "the images of the run have"
            raise ValueError(f"is {height} x {width} pixels, {of} {rows} x {columns}")

    return check


def _check_usable(images: Sequence[Path], check: Callable[[Pixels], None]) -> None:
    if bad := find_bad_images(images, check):
        raise DatasetError(
            f"{len(bad)} images of the calibration folder and the frozen set cannot be used: "
            f"repair or remove them:{listed(bad)}"
        )


def _size_of(images: Sequence[Path]) -> tuple[int, int] | None:
    """Height and width of images that all have the same."""
    sizes = {image_size(path) for path in images}
    return sizes.pop() if len(sizes) == 1 else None


def _kept_apart(sets: dict[str, Sequence[Path]]) -> dict[str, str]:
    """By SHA-256 of a file, the set that it is of. Raises ``RetrainError`` if sets share files."""
    known: dict[str, str] = {}
    for name, paths in sets.items():
        own = dict(zip(_digests(paths), paths, strict=True))
        if shared := known.keys() & own.keys():
            first = min(shared, key=lambda digest: own[digest])
            raise RetrainError(
                f"{name} and {known[first]} share {len(shared)} images, such as {own[first]}: what "
                f"is trained on, or what limits come from, tells nothing about new parts. Remove "
                f"them from one of the two"
            )
        known |= dict.fromkeys(own, name)
    return known


def _also_elsewhere(confirmed: Confirmed, known: dict[str, str]) -> dict[int, str]:
    """Why frames are not used whose files somebody has copied to other sets, by inspection."""
    digests = _digests([frame.path for frame in confirmed.frames])
    return {
        frame.inspection_id: f"its frame is also one of {known[digest]}"
        for frame, digest in zip(confirmed.frames, digests, strict=True)
        if digest in known
    }


def _digests(paths: Sequence[Path]) -> list[str]:
    """SHA-256 of the contents of each file."""

    def digest(path: Path) -> str:
        with path.open("rb") as stream:
            return file_digest(stream, "sha256").hexdigest()

    with ThreadPoolExecutor(usable_cores()) as pool:
        return list(pool.map(digest, paths))


def _comparison_of(released: Bundle) -> dict[str, Any]:
    """The comparison of the released bundle's own retraining; empty without one."""
    if COMPARISON not in released.manifest.files:
        return {}
    return dict(json.loads((released.path / COMPARISON).read_text()))
