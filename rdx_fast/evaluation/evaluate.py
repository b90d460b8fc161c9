"""Metrics of a scored test set, overall and for each defect type."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from rdx_fast.datasets import find_dataset
from rdx_fast.detector import Detector
from rdx_fast.evaluation.checked import BadImage
from rdx_fast.evaluation.curves import FPR_LIMIT
from rdx_fast.evaluation.metrics import auroc, average_precision_and_best_f1
from rdx_fast.evaluation.pixels import PixelFigures
from rdx_fast.evaluation.scored import MASK_THRESHOLD, ScoredSet, score_set
from rdx_fast.limits.limits import WHOLE


@dataclass(frozen=True, slots=True)
class Figures:
    """Metrics of one defect type, or of all types, against all good images.

    Rates are in [0, 1]. The pixel metrics, ``pixel_*`` and ``aupro*``, are None where the set has
    no masks, and where no mask marks a pixel of the map, because all defects are smaller.

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
        escapes: defective images whose verdict is OK
        false_rejects: good images whose verdict is NG
        good_reviews: good images whose verdict is REVIEW
        defective_reviews: defective images whose verdict is REVIEW
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
    good_reviews: int
    defective_reviews: int


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Evaluation of one bundle on one test set.

    Attributes:
        bundle: name of the bundle
        engine: description of the engine
        threshold: the bundle's limit of OK; 1 with several regions, whose scores are relative to
            their own
        mask_threshold: share of a map pixel that the mask must cover to count as defective
        aupro_fpr_limit: false-positive rate up to which AUPRO is integrated
        overall: metrics of all defect types together
        by_type: metrics of each defect type; empty if they were not computed
        left_out: test images that could not be used, and why
        types_left_out: defect types without an image that could be used
        regions: names of the regions that have limits of their own
    """

    bundle: str
    engine: str
    threshold: float
    mask_threshold: float
    aupro_fpr_limit: float
    overall: Figures
    by_type: dict[str, Figures]
    left_out: Sequence[BadImage] = ()
    types_left_out: Sequence[str] = ()
    regions: Sequence[str] = (WHOLE,)

    def to_dict(self) -> dict[str, Any]:
        """The evaluation as JSON data."""
        return asdict(self)


def evaluate(
    detector: Detector,
    root: Path,
    on_image: Callable[[int, int], None] = lambda done, total: None,
    skip_bad: bool = False,
) -> Evaluation:
    """Check and score the test set of a category folder, and compute all metrics.

    Args:
        detector: the opened Detector
        root: the category folder, see ``rdx_fast.datasets``
        on_image: called with the number of images scored and in all
        skip_bad: leave out images that cannot be used instead of raising

    Returns:
        The metrics, overall and by defect type.

    Raises:
        DatasetError: the layout is unknown or incomplete, or images or masks cannot be used, all of
            which the message lists
    """
    return evaluate_scored(score_set(detector, find_dataset(root).test(), on_image, skip_bad))


def evaluate_scored(scored: ScoredSet, by_type: bool = True) -> Evaluation:
    """Compute all metrics of a scored test set.

    Args:
        scored: the scored test set
        by_type: whether to give the metrics of each defect type too
    """
    overall, of_type = scored.pixel_figures
    return Evaluation(
        bundle=scored.name,
        engine=scored.engine,
        threshold=scored.threshold,
        mask_threshold=MASK_THRESHOLD,
        aupro_fpr_limit=FPR_LIMIT,
        overall=_figures(scored, list(of_type), overall),
        by_type={t: _figures(scored, [t], of_type[t]) for t in sorted(of_type)} if by_type else {},
        left_out=scored.left_out,
        types_left_out=scored.types_left_out,
        regions=scored.regions,
    )


def _figures(scored: ScoredSet, types: Sequence[str], pixels: PixelFigures | None) -> Figures:
    index = [i for i, m in enumerate(scored.images) if not m.is_defective or m.defect_type in types]
    labels, scores = scored.labels[index], scored.scores[index]
    image_ap, image_f1 = average_precision_and_best_f1(labels, scores)
    verdicts = np.array(scored.verdicts)[index]
    names = [field.name for field in fields(PixelFigures)]
    of_pixels = dict.fromkeys(names) if pixels is None else asdict(pixels)
    return Figures(
        good=int((~labels).sum()),
        defective=int(labels.sum()),
        image_auroc=auroc(labels, scores),
        image_ap=image_ap,
        image_best_f1=image_f1,
        escapes=int((labels & (verdicts == "OK")).sum()),
        false_rejects=int((~labels & (verdicts == "NG")).sum()),
        good_reviews=int((~labels & (verdicts == "REVIEW")).sum()),
        defective_reviews=int((labels & (verdicts == "REVIEW")).sum()),
        **of_pixels,
    )
