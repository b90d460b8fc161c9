"""Metrics of image scores, those of scikit-learn."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rdx_fast.errors import MissingDependencyError

try:
    from sklearn.metrics import precision_recall_curve, roc_auc_score, roc_curve
except ModuleNotFoundError as error:
    if error.name is None or error.name.partition(".")[0] != "sklearn":
        raise
    raise MissingDependencyError("scikit-learn", "evaluation", "evaluate") from error


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


def roc_points(
    labels: NDArray[np.bool_], scores: NDArray[np.float32]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The corners of the ROC curve.

    Args:
        labels: bool of any shape, True for defective; both classes must occur
        scores: float32 of the same shape

    Returns:
        Share of the good and of the defective that is above a threshold, float64 [k] each, both
        from 0 to 1.
    """
    good, defective, _ = roc_curve(labels.ravel(), scores.ravel())
    return good, defective
