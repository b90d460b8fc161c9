"""RD4AD: batches and losses of training (paper, section 3.1; recipe of the authors' code)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import Tensor, nn

from rdx_fast.models import ReverseDistillation
from rdx_fast.training.data import TeacherFeatures
from rdx_fast.training.loss import distillation_loss
from rdx_fast.training.recipe import Recipe


class Distillation:
    """Trains bottleneck and student to reproduce the frozen teacher's maps of good images.

    Args:
        network: to train
        features: of the good images
    """

    def __init__(self, network: ReverseDistillation, features: TeacherFeatures) -> None:
        self.network = network
        self.features = features

    def parameters(self, recipe: Recipe) -> dict[str, tuple[list[nn.Parameter], float]]:
        """Parameters and learning rate of the term's optimizer."""
        return {"student": (self.network.decoding_parameters(), recipe.learning_rate)}

    def batches(self, steps: Sequence[tuple[int, list[int]]]) -> Iterator[list[Tensor]]:
        """The teacher's maps, finest scale first, for each (step, indices of images)."""
        return self.features.batches([indices for _, indices in steps])

    def inputs(self, maps: list[Tensor]) -> list[Tensor]:
        """What ``losses`` takes of a batch, on the device."""
        return maps

    def losses(self, maps: list[Tensor]) -> Iterator[tuple[str, Tensor]]:
        """The loss of the only term; the caller takes its optimizer step."""
        with self.features.autocast():
            loss = distillation_loss(maps, self.network.decode(maps))
        yield "student", loss
