"""RD4AD: batches and losses of training (paper, section 3.1; recipe of the authors' code)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from torch import Tensor, nn

from rdx_fast.models import ReverseDistillation
from rdx_fast.training.data import TeacherFeatures
from rdx_fast.training.loss import distillation_loss
from rdx_fast.training.recipe import Recipe

MINING_STEPS = 100  # over which hard mining sets in: at first nothing is reconstructed yet


class Batch(NamedTuple):
    """Features of a batch of good images.

    Attributes:
        step: number of batches before this one
        maps: three maps ``[B, C_s, h_s, w_s]`` float32, finest scale first
    """

    step: int
    maps: list[Tensor]


class Distillation:
    """Trains bottleneck and student to reproduce the frozen teacher's maps of good images.

    Args:
        network: to train
        features: of the good images
        hard_mining: see ``Recipe``
    """

    def __init__(
        self, network: ReverseDistillation, features: TeacherFeatures, hard_mining: float
    ) -> None:
        self.network = network
        self.features = features
        self.hard_mining = hard_mining

    def parameters(self, recipe: Recipe) -> dict[str, tuple[list[nn.Parameter], float]]:
        """Parameters and learning rate of the term's optimizer."""
        return {"student": (self.network.decoding_parameters(), recipe.learning_rate)}

    def batches(self, steps: Sequence[tuple[int, list[int]]]) -> Iterator[Batch]:
        """Batches for ``losses``, one for each (step, indices of images)."""
        maps = self.features.batches([indices for _, indices in steps])
        return map(Batch, (step for step, _ in steps), maps)

    def losses(self, batch: Batch) -> Iterator[tuple[str, Tensor]]:
        """The loss of the only term; the caller takes its optimizer step."""
        easy = self.hard_mining * min(batch.step / MINING_STEPS, 1)
        with self.features.autocast():
            loss = distillation_loss(batch.maps, self.network.decode(batch.maps), easy)
        yield "student", loss
