"""Metrics of a scored test set, overall and for each defect type."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rdx_fast.datasets import find_dataset
from rdx_fast.detector import Detector
from rdx_fast.evaluation.metrics import (
    FPR_LIMIT,
    aupro,
    aupro_per_image_mean,
    auroc,
    average_precision_and_best_f1,
)
from rdx_fast.evaluation.scored import MASK_THRESHOLD, ScoredSet, score_set


@dataclass(frozen=True, slots=True)
class Figures:
    """Metrics of one defect type, or of all types, against all good images.

    Rates are in [0, 1]. The pixel metrics, ``pixel_*`` and ``aupro*``, are None where the set has
    no masks.

    Attributes:
        good: number of good images
        defective: number of defective images
        image_auroc: area under the ROC curve of the image scores
        image_ap: average precision of the image scores
        image_best_f1: largest F1 of the image scores over all thresholds
        pixel_auroc: area under the ROC curve of the map values
        pixel_ap: average precision of the map values
        pixel_best_f1: largest F1 of the map values over all thresholds
        aupro: AUPRO as MVTec AD defines it, over the whole set, up to a false-positive rate of 0.3
        aupro_per_image_mean: the RD4AD authors' different definition, up to the same rate
        escapes: defective images not above the bundle's threshold
        false_rejects: good images above the bundle's threshold
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
    aupro_per_image_mean: float | None
    escapes: int
    false_rejects: int


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Evaluation of one bundle on one test set.

    Attributes:
        bundle: name of the bundle
        engine: description of the engine
        threshold: the bundle's threshold
        mask_threshold: share of a map pixel that the mask must cover to count as defective
        aupro_fpr_limit: false-positive rate up to which AUPRO is integrated
        overall: metrics of all defect types together
        by_type: metrics of each defect type; empty if they were not computed
    """

    bundle: str
    engine: str
    threshold: float
    mask_threshold: float
    aupro_fpr_limit: float
    overall: Figures
    by_type: dict[str, Figures]

    def to_dict(self) -> dict[str, Any]:
        """The evaluation as JSON data."""
        return asdict(self)


def evaluate(
    detector: Detector, root: Path, on_image: Callable[[int, int], None] = lambda done, total: None
) -> Evaluation:
    """Score the test set of a category folder and compute all metrics.

    Args:
        detector: the opened Detector
        root: the category folder, see ``rdx_fast.datasets``
        on_image: called with the number of images done and in all

    Returns:
        The metrics, overall and by defect type.

    Raises:
        DatasetError: the layout is unknown or incomplete, or a mask cannot be used
        ImageError: an image cannot be read
    """
    return evaluate_scored(score_set(detector, find_dataset(root).test(), on_image))


def evaluate_scored(scored: ScoredSet, by_type: bool = True) -> Evaluation:
    """Compute all metrics of a scored test set.

    Args:
        scored: the scored test set
        by_type: whether to compute the metrics of each defect type too
    """
    types = sorted({image.defect_type for image in scored.images if image.is_defective})
    return Evaluation(
        bundle=scored.name,
        engine=scored.engine,
        threshold=scored.threshold,
        mask_threshold=MASK_THRESHOLD,
        aupro_fpr_limit=FPR_LIMIT,
        overall=_figures(scored, types),
        by_type={name: _figures(scored, [name]) for name in types} if by_type else {},
    )


def _figures(scored: ScoredSet, types: Sequence[str]) -> Figures:
    index = [i for i, m in enumerate(scored.images) if not m.is_defective or m.defect_type in types]
    labels, scores = scored.labels[index], scored.scores[index]
    image_ap, image_f1 = average_precision_and_best_f1(labels, scores)
    pixel: list[float | None] = [None] * 5
    if scored.maps:
        masks = [scored.masks[i] for i in index]
        maps = [scored.maps[i] for i in index]
        flat_truth, flat = np.stack(masks).ravel(), np.stack(maps).ravel()
        pixel = [
            auroc(flat_truth, flat),
            *average_precision_and_best_f1(flat_truth, flat),
            aupro(masks, maps),
            aupro_per_image_mean(masks, maps),
        ]
    rejected = scores > scored.threshold
    return Figures(
        good=int((~labels).sum()),
        defective=int(labels.sum()),
        image_auroc=auroc(labels, scores),
        image_ap=image_ap,
        image_best_f1=image_f1,
        pixel_auroc=pixel[0],
        pixel_ap=pixel[1],
        pixel_best_f1=pixel[2],
        aupro=pixel[3],
        aupro_per_image_mean=pixel[4],
        escapes=int((labels & ~rejected).sum()),
        false_rejects=int((~labels & rejected).sum()),
    )
