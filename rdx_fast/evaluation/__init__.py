"""Evaluation: how well an engine separates good parts from defective ones.

Only ``experiment`` and ``demo`` need torch, because they train.
"""

from rdx_fast.evaluation.checked import BadImage, CheckedSet, check_images
from rdx_fast.evaluation.compare import Difference, compare
from rdx_fast.evaluation.evaluate import Evaluation, Figures, evaluate, evaluate_scored
from rdx_fast.evaluation.scored import ScoredSet, score_checked, score_set

__all__ = [
    "BadImage",
    "CheckedSet",
    "Difference",
    "Evaluation",
    "Figures",
    "ScoredSet",
    "check_images",
    "compare",
    "evaluate",
    "evaluate_scored",
    "score_checked",
    "score_set",
]
