"""Evaluation: how well an engine separates good parts from defective ones.

Only ``rdx_fast.evaluation.experiment`` needs torch, because it trains.
"""

from rdx_fast.evaluation.compare import Difference, compare
from rdx_fast.evaluation.evaluate import Evaluation, Figures, evaluate, evaluate_scored
from rdx_fast.evaluation.scored import ScoredSet, score_set

__all__ = [
    "Difference",
    "Evaluation",
    "Figures",
    "ScoredSet",
    "compare",
    "evaluate",
    "evaluate_scored",
    "score_set",
]
