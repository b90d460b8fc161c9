"""A test set scored by one Detector."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rdx_fast.datasets import LabelledImage, has_masks
from rdx_fast.detector import Detector
from rdx_fast.errors import DatasetError, ImageError
from rdx_fast.evaluation.checked import BadImage, CheckedSet, check_images
from rdx_fast.evaluation.pixels import PixelFigures, pixel_figures
from rdx_fast.images import read_grey, read_image, resize_mask
from rdx_fast.kernels.resize_normalize import Crop, Levels, check_crop
from rdx_fast.limits.limits import WHOLE
from rdx_fast.limits.relative import common_ng, map_on_common_scale, to_common_scale
from rdx_fast.preprocess import FrameOptions

# Share of a map pixel that the resized mask must cover for the pixel to count as defective.
MASK_THRESHOLD = 0.5


@dataclass(frozen=True)
class ScoredSet:
    """A test set with its scores and, where it has masks, its anomaly maps.

    Attributes:
        name: name of the bundle
        engine: description of the engine
        threshold: the bundle's limit of OK; 1 with several regions
        ng_above: the bundle's limit of NG; with several regions, see ``relative.common_ng``
        images: the n images
        scores: float32 [n]; with several regions, the largest of theirs on one scale, see
            ``relative.to_common_scale``
        verdicts: "OK", "REVIEW" or "NG" for each image
        maps: float32 [H, W] for each image, with several regions on that scale; 0 where nothing is
            inspected. Empty where the set has no masks
        masks: bool [H, W] for each image; empty where the set has no masks
        left_out: test images that could not be used
        types_left_out: defect types without an image that could be used
        timings_ms: by stage, float64 [n], wall time of scoring each image in ms, as in
            ``Result.timings_ms``; empty if it was not measured
        regions: names of the regions that have limits of their own
        region_of: index of the region that each score is of, int64 [n]; None with one region
    """

    name: str
    engine: str
    threshold: float
    images: Sequence[LabelledImage]
    scores: NDArray[np.float32]
    verdicts: Sequence[str]
    maps: Sequence[NDArray[np.float32]]
    masks: Sequence[NDArray[np.bool_]]
    left_out: Sequence[BadImage] = ()
    types_left_out: Sequence[str] = ()
    timings_ms: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    ng_above: float | None = None
    regions: Sequence[str] = (WHOLE,)
    region_of: NDArray[np.int64] | None = None

    @property
    def labels(self) -> NDArray[np.bool_]:
        """bool [n], True for a defective part."""
        return np.array([image.is_defective for image in self.images])

    @cached_property
    def pixel_figures(self) -> tuple[PixelFigures | None, dict[str, PixelFigures | None]]:
        """The metrics of the maps, overall and by defect type, computed once."""
        types = [image.defect_type if image.is_defective else None for image in self.images]
        if not self.maps:
            return None, dict.fromkeys(t for t in types if t is not None)
        return pixel_figures(self.masks, self.maps, types)


def score_set(
    detector: Detector,
    images: Sequence[LabelledImage],
    on_image: Callable[[int, int], None] = lambda done, total: None,
    skip_bad: bool = False,
    pixel_format: str | None = None,
    crop: Crop | None = None,
    levels: Levels | None = None,
) -> ScoredSet:
    """Check a test set (see ``check_images``), then score it.

    Args:
        detector: the opened Detector
        images: the labelled images
        on_image: called with the number of images scored and in all
        skip_bad: leave out images that cannot be used instead of raising
        pixel_format: as for ``Detector.score``
        crop: top, left, height and width in pixels of what is scored, likewise
        levels: of images with 16 bits per channel, likewise

    Returns:
        The scored test set.

    Raises:
        DatasetError: images cannot be used, all of which the message lists; with ``skip_bad``, only
            if no good or no defective image is left
    """
    options = FrameOptions.of_recipe(detector.recipe, pixel_format, crop, levels)
    checked = check_images(images, skip_bad, **options._asdict())
    return score_checked(detector, checked, on_image)


def score_checked(
    detector: Detector,
    checked: CheckedSet,
    on_image: Callable[[int, int], None] = lambda done, total: None,
) -> ScoredSet:
    """Score every image of a test set, and resize its masks to its anomaly map's size.

    Args:
        detector: the opened Detector
        checked: the test set, from ``check_images``
        on_image: called with the number of images done and in all

    Returns:
        The scored test set.

    Raises:
        ImageError: an image cannot be read any more
        DatasetError: a mask cannot be read any more
        ValueError: the set was checked for another pixel format, crop or levels than the recipe's
    """
    images = checked.images
    masked = has_masks(images)
    given = (checked.pixel_format, checked.crop, checked.levels)
    crop = FrameOptions.of_recipe(detector.recipe, *given).crop
    scores = np.empty(len(images), np.float32)
    limits, several = detector.limits, len(detector.limits) > 1
    threshold, ng_above = limits[0].ok_below.value, limits[0].ng_above.value
    if several:
        threshold, ng_above = 1.0, common_ng(limits)
    region_of = np.zeros(len(images), np.int64)
    verdicts, maps, masks, timings = [], [], [], []
    for i, image in enumerate(images):
        frame = read_image(image.path)
        result = detector.score(frame, masked, *given)
        found = result.region_scores[0]
        if several:
            pairs = zip(found, limits, strict=True)
            found = np.array([to_common_scale(score, of, ng_above) for score, of in pairs])
        region_of[i], scores[i] = result.deciding[0], found.max()
        verdicts += result.verdicts
        timings.append(result.timings_ms)
        if result.anomaly_maps is not None:
            (shown,) = result.anomaly_maps
            maps.append(map_on_common_scale(shown, limits, detector.labels))
            mask = image.mask if image.is_defective else None
            height, width = shown.shape
            masks.append(read_mask(mask, height, width, image.mask_above, crop))
        on_image(i + 1, len(images))
    return ScoredSet(
        name=detector.manifest.name,
        engine=detector.description,
        threshold=threshold,
        ng_above=ng_above,
        images=images,
        scores=scores,
        verdicts=verdicts,
        maps=maps,
        masks=masks,
        left_out=checked.left_out,
        types_left_out=checked.types_left_out,
        timings_ms={name: np.array([t[name] for t in timings]) for name in timings[0]},
        regions=[of.region for of in limits],
        region_of=region_of if several else None,
    )


def read_mask(
    path: Path | None, height: int, width: int, above: int = 127, crop: Crop | None = None
) -> NDArray[np.bool_]:
    """Read a mask and resize what the map shows of it to the map's size.

    The mask is resized bilinearly, and a pixel counts as defective where more than
    ``MASK_THRESHOLD`` of it is defective, as in the published protocol.

    Args:
        path: the mask file; None for an empty mask
        height: height of the map in pixels
        width: width of the map in pixels
        above: values above this mark the defect
        crop: top, left, height and width in pixels of what the map shows; None for all

    Returns:
        bool [height, width], True where defective.

    Raises:
        DatasetError: the mask cannot be read
    """
    if path is None:
        return np.zeros((height, width), bool)
    try:
        grey = read_grey(path)
    except ImageError as error:
        raise DatasetError(f"mask {error}") from error
    top, left, rows, columns = check_crop(grey.shape, crop)
    shown = grey[top : top + rows, left : left + columns]
    white = np.where(shown > above, 255, 0).astype(np.uint8)
    return resize_mask(white, height, width, MASK_THRESHOLD)
