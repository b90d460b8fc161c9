"""Training of reverse distillation, in torch."""

from rdx_fast.training.checkpoint import Checkpoint, load_checkpoint
from rdx_fast.training.published_checkpoint import import_published
from rdx_fast.training.recipe import Recipe
from rdx_fast.training.trainer import Progress, train

__all__ = ["Checkpoint", "Progress", "Recipe", "import_published", "load_checkpoint", "train"]
