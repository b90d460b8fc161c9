"""Figures of merit: scikit-learn's where it has them, and the per-region overlap."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rdx_fast.errors import MissingDependencyError

try:
    from scipy import ndimage
    from sklearn.metrics import precision_recall_curve, roc_auc_score
except ModuleNotFoundError as error:
    if error.name is None or error.name.partition(".")[0] not in ("scipy", "sklearn"):
        raise
    raise MissingDependencyError("scikit-learn", "evaluation", "evaluate") from error

FPR_LIMIT = 0.3


def auroc(labels: NDArray[np.bool_], scores: NDArray[np.float32]) -> float:
    """Area under the ROC curve. ``labels``, ``scores``: ``[n]``; both classes must be there."""
    return float(roc_auc_score(labels.ravel(), scores.ravel()))


def average_precision_and_best_f1(
    labels: NDArray[np.bool_], scores: NDArray[np.float32]
) -> tuple[float, float]:
    """Average precision (AP), and the largest F1 that any threshold gives, from one curve.

    ``labels``, ``scores``: ``[n]``; both classes must be there.
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

    ``masks``: ``[H, W]`` bool, one for each image, good ones all False; ``maps``: ``[H, W]``
    float32. Raises ``ValueError`` if there is no region or no pixel outside.
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
        raise ValueError(f"{regions} defect regions and {outside} pixels outside: both are needed")

    values = np.concatenate([m.ravel() for m in maps])
    overlap = np.concatenate(weights)
    order = np.argsort(-values)
    values, overlap = values[order], overlap[order]
    last_of_value = np.append(np.flatnonzero(np.diff(values)), len(values) - 1)
    pro = np.cumsum(overlap)[last_of_value] / regions
    fpr = np.cumsum(overlap == 0)[last_of_value] / outside
    fpr, pro = np.append(0.0, fpr), np.append(0.0, pro)
    # The curve up to the limit, its last point interpolated.
    inside = fpr <= fpr_limit
    at_limit = np.interp(fpr_limit, fpr, pro)
    area = np.trapezoid(np.append(pro[inside], at_limit), np.append(fpr[inside], fpr_limit))
    return float(area / fpr_limit)
