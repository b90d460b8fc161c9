"""Metrics: those of scikit-learn where it has them, and the per-region overlap."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from rdx_fast.errors import MissingDependencyError

try:
    from sklearn.metrics import precision_recall_curve, roc_auc_score
except ModuleNotFoundError as error:
    if error.name is None or error.name.partition(".")[0] != "sklearn":
        raise
    raise MissingDependencyError("scikit-learn", "evaluation", "evaluate") from error

FPR_LIMIT = 0.3


def auroc(labels: NDArray[np.bool_], scores: NDArray[np.float32]) -> float:
    """Area under the ROC curve.

    Args:
        labels: bool of any shape, True for defective; both classes must occur
        scores: float32 of the same shape
    """
    return float(roc_auc_score(labels.ravel(), scores.ravel()))


def average_precision_and_best_f1(
    labels: NDArray[np.bool_], scores: NDArray[np.float32]
) -> tuple[float, float]:
    """Average precision (AP), and the largest F1 over all thresholds, from one curve.

    Args:
        labels: bool of any shape, True for defective; both classes must occur
        scores: float32 of the same shape

    Returns:
        AP and best F1.
    """
    precision, recall, _ = precision_recall_curve(labels.ravel(), scores.ravel())
    ap = -np.sum(np.diff(recall) * precision[:-1])
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    return float(ap), float(f1.max())


def aupro(
    masks: Sequence[NDArray[np.bool_]],
    maps: Sequence[NDArray[np.float32]],
    fpr_limit: float = FPR_LIMIT,
) -> float:
    """Area under the per-region-overlap curve, as MVTec AD defines it.

    Over the whole test set: at each threshold, the overlap averaged over all connected regions
    (8-neighbourhood) of all masks, against the false-positive rate over all pixels outside the
    masks, integrated from 0 to ``fpr_limit`` and divided by it. Every distinct map value is a
    threshold, so the area is exact.

    Args:
        masks: bool [H, W], one for each image; all False for good images
        maps: float32 [H, W], one for each image
        fpr_limit: largest false-positive rate

    Returns:
        AUPRO, 0 to 1.

    Raises:
        ValueError: there is no defect region, or no pixel outside the regions
    """
    regions = 0
    weights = []
    for mask in masks:
        labelled, count = ndimage.label(mask, structure=np.ones((3, 3)))
        sizes = np.bincount(labelled.ravel(), minlength=count + 1)
        share = np.zeros(count + 1)
        share[1:] = 1.0 / sizes[1:]
        weights.append(share[labelled].ravel())
        regions += count
    outside = sum(int((~mask).sum()) for mask in masks)
    if regions == 0 or outside == 0:
        raise ValueError(
            f"{regions} defect regions and {outside} pixels outside: wanted at least one of both"
        )

    values = np.concatenate([m.ravel() for m in maps])
    overlap = np.concatenate(weights)
    order = np.argsort(-values)
    values, overlap = values[order], overlap[order]
    last_of_value = np.append(np.flatnonzero(np.diff(values)), len(values) - 1)
    pro = np.cumsum(overlap)[last_of_value] / regions
    fpr = np.cumsum(overlap == 0)[last_of_value] / outside
    fpr, pro = np.append(0.0, fpr), np.append(0.0, pro)
    # The curve up to the limit; its last point is interpolated.
    inside = fpr <= fpr_limit
    at_limit = np.interp(fpr_limit, fpr, pro)
    area = np.trapezoid(np.append(pro[inside], at_limit), np.append(fpr[inside], fpr_limit))
    return float(area / fpr_limit)


def aupro_per_image_mean(
    masks: Sequence[NDArray[np.bool_]],
    maps: Sequence[NDArray[np.float32]],
    fpr_limit: float = FPR_LIMIT,
    thresholds: int = 200,
) -> float:
    """The metric that the RD4AD authors' code reports as PRO, which differs from MVTec AD's.

    For each defective image separately, at ``thresholds`` evenly spaced values of its map: the
    overlap averaged over its regions against the false-positive rate in that image. The part of
    the curve below ``fpr_limit`` is stretched to end at a rate of 1, and the area under it is
    averaged over the defective images.

    Args:
        masks: as for ``aupro``
        maps: as for ``aupro``
        fpr_limit: largest false-positive rate
        thresholds: thresholds for each image

    Returns:
        The mean of the areas, 0 to 1.

    Raises:
        ValueError: no image is defective
    """
    areas = []
    for mask, values in zip(masks, maps, strict=True):
        labelled, count = ndimage.label(mask, structure=np.ones((3, 3)))
        if count == 0:
            continue
        levels = np.linspace(values.min(), values.max(), thresholds, endpoint=False)
        fpr = _share_above(values[~mask], levels)
        pro = np.mean([_share_above(values[labelled == r + 1], levels) for r in range(count)], 0)
        inside = fpr < fpr_limit
        limit = fpr[inside].max(initial=0.0)
        # No curve to stretch if every false positive of an image lies above every level.
        areas.append(np.trapezoid(pro[inside][::-1], fpr[inside][::-1]) / limit if limit else 1.0)
    if not areas:
        raise ValueError("no image is defective: the per-image mean needs at least one")
    return float(np.mean(areas))


def _share_above(values: NDArray[np.float32], levels: NDArray[np.floating]) -> NDArray[np.float64]:
    """Share of the values above each level."""
    return 1 - np.searchsorted(np.sort(values), levels, side="right") / len(values)
