"""A test set as one Detector scores it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rdx_fast.datasets import LabelledImage, has_masks
from rdx_fast.detector import Detector
from rdx_fast.errors import DatasetError, ImageError
from rdx_fast.images import read_grey, read_image, resize_mask

# Share of a map pixel that the resized mask must cover for the pixel to count as defective.
MASK_THRESHOLD = 0.5


@dataclass(frozen=True, slots=True)
class ScoredSet:
    """``scores: [n] float32``; ``maps``, ``masks``: ``[H, W]`` float32 and bool for each image, or
    empty where the set has no masks; ``threshold``: the bundle's."""

    name: str
    engine: str
    threshold: float
    images: Sequence[LabelledImage]
    scores: NDArray[np.float32]
    maps: Sequence[NDArray[np.float32]]
    masks: Sequence[NDArray[np.bool_]]

    @property
    def labels(self) -> NDArray[np.bool_]:
        """``[n]`` bool, True for a defective part."""
        return np.array([image.is_defective for image in self.images])


def score_set(
    detector: Detector,
    images: Sequence[LabelledImage],
    on_image: Callable[[int, int], None] = lambda done, total: None,
) -> ScoredSet:
    """Score every image; masks are brought to the anomaly map's size.

    ``on_image`` is told images done and in all. Raises ``ImageError`` (unreadable image) and
    ``DatasetError`` (masks).
    """
    masked = has_masks(images)
    spec = detector.manifest.map
    scores = np.empty(len(images), np.float32)
    maps, masks = [], []
    for i, image in enumerate(images):
        result = detector.score(read_image(image.path), maps=masked)
        scores[i] = result.scores[0]
        if result.anomaly_maps is not None:
            maps.append(result.anomaly_maps[0])
            masks.append(read_mask(image.mask, spec.height, spec.width, image.mask_above))
        on_image(i + 1, len(images))
    return ScoredSet(
        name=detector.manifest.name,
        engine=detector.description,
        threshold=detector.threshold.value,
        images=images,
        scores=scores,
        maps=maps,
        masks=masks,
    )


def read_mask(path: Path | None, height: int, width: int, above: int = 127) -> NDArray[np.bool_]:
    """A mask at the map's size: ``[height, width]`` bool. None gives an empty one.

    Values over ``above`` are defect; the mask is then resized bilinearly, and a pixel counts where
    more than ``MASK_THRESHOLD`` of it is defect, as in the published protocol. Raises
    ``DatasetError`` for a mask without a defect pixel.
    """
    if path is None:
        return np.zeros((height, width), bool)
    try:
        grey = read_grey(path)
    except ImageError as error:
        raise DatasetError(f"mask {error}") from error
    defect = grey > above
    if not defect.any():
        raise DatasetError(f"mask {path} marks no pixel: values over {above} mark the defect")
    return resize_mask(defect.astype(np.uint8) * 255, height, width, MASK_THRESHOLD)
