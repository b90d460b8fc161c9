"""How well an engine separates good parts from defective ones."""

from rdx_fast.evaluation.evaluate import Evaluation, Figures, evaluate
from rdx_fast.evaluation.mvtec import LabelledImage, labelled_images

__all__ = ["Evaluation", "Figures", "LabelledImage", "evaluate", "labelled_images"]
