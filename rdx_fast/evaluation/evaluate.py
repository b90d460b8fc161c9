"""A Detector over a test set."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rdx_fast.detector import Detector
from rdx_fast.evaluation.metrics import aupro, auroc, average_precision_and_best_f1
from rdx_fast.evaluation.mvtec import LabelledImage, labelled_images, read_mask
from rdx_fast.images import read_image


@dataclass(frozen=True, slots=True)
class Figures:
    """Figures of one defect type against all good images, or of all types.

    Rates in [0, 1]. ``escapes`` are defective images below the bundle's threshold,
    ``false_rejects`` good ones above. The pixel figures are None where the set has no masks.
    """

    good: int
    defective: int
    image_auroc: float
    image_ap: float
    image_best_f1: float
    pixel_auroc: float | None
    pixel_ap: float | None
    pixel_best_f1: float | None
    aupro: float | None
    escapes: int
    false_rejects: int


@dataclass(frozen=True, slots=True)
class Evaluation:
    """``by_type``: figures of each defect type; ``overall``: of all together."""

    bundle: str
    engine: str
    threshold: float
    overall: Figures
    by_type: dict[str, Figures]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def evaluate(
    detector: Detector, root: Path, on_image: Callable[[int, int], None] = lambda done, total: None
) -> Evaluation:
    """Score the test set of ``root`` (MVTec AD layout) and compute all figures.

    Masks are compared at the anomaly map's size. ``on_image`` is told images done and in all.
    Raises ``DatasetError`` (layout, masks), ``ImageError`` (unreadable image).
    """
    images, has_masks = labelled_images(root)
    spec = detector.manifest.map
    scores = np.empty(len(images), np.float32)
    maps, masks = [], []
    for i, image in enumerate(images):
        result = detector.score(read_image(image.path), maps=has_masks)
        scores[i] = result.scores[0]
        if result.anomaly_maps is not None:
            maps.append(result.anomaly_maps[0])
            masks.append(read_mask(image.mask, spec.height, spec.width))
        on_image(i + 1, len(images))

    threshold = detector.manifest.threshold.value
    types = sorted({image.defect_type for image in images if image.is_defective})

    def figures(chosen: Sequence[str]) -> Figures:
        index = [i for i, m in enumerate(images) if not m.is_defective or m.defect_type in chosen]
        return _figures(images, scores, maps, masks, index, threshold)

    return Evaluation(
        bundle=detector.manifest.name,
        engine=detector.description,
        threshold=threshold,
        overall=figures(types),
        by_type={name: figures([name]) for name in types},
    )


def _figures(
    images: Sequence[LabelledImage],
    scores: NDArray[np.float32],
    maps: Sequence[NDArray[np.float32]],
    masks: Sequence[NDArray[np.bool_]],
    index: Sequence[int],
    threshold: float,
) -> Figures:
    labels = np.array([images[i].is_defective for i in index])
    chosen = scores[list(index)]
    image_ap, image_f1 = average_precision_and_best_f1(labels, chosen)
    pixel: list[float | None] = [None] * 4
    if maps:
        truth = [masks[i] for i in index]
        values = [maps[i] for i in index]
        flat_truth, flat = np.stack(truth).ravel(), np.stack(values).ravel()
        pixel = [
            auroc(flat_truth, flat),
            *average_precision_and_best_f1(flat_truth, flat),
            aupro(truth, values),
        ]
    rejected = chosen > threshold
    return Figures(
        good=int((~labels).sum()),
        defective=int(labels.sum()),
        image_auroc=auroc(labels, chosen),
        image_ap=image_ap,
        image_best_f1=image_f1,
        pixel_auroc=pixel[0],
        pixel_ap=pixel[1],
        pixel_best_f1=pixel[2],
        aupro=pixel[3],
        escapes=int((labels & ~rejected).sum()),
        false_rejects=int((~labels & rejected).sum()),
    )
