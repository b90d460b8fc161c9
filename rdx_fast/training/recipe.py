"""What a training run is made of. The defaults are the published RD4AD recipe."""

from __future__ import annotations

import math
from dataclasses import dataclass

from rdx_fast.models import backbone


@dataclass(frozen=True, slots=True)
class Recipe:
    """Every option the trained weights depend on.

    ``image_size``: (height, width) of the network's input in pixels, multiples of 32.
    ``amp``: mixed precision, on CUDA only. ``holdout``: share of the images kept out of training
    for the threshold. Raises ``ValueError`` for a value out of range.
    """

    backbone: str = "wide_resnet50_2"
    image_size: tuple[int, int] = (256, 256)
    epochs: int = 200
    batch: int = 16
    learning_rate: float = 0.005
    betas: tuple[float, float] = (0.5, 0.999)
    seed: int = 111
    amp: bool = True
    holdout: float = 0.0

    def __post_init__(self) -> None:
        backbone(self.backbone)
        if min(self.image_size) < 32 or any(side % 32 for side in self.image_size):
            raise ValueError(f"image size is {self.image_size}: both sides must be multiples of 32")
        if self.epochs < 1 or self.batch < 1:
            raise ValueError(
                f"epochs is {self.epochs}, batch {self.batch}: both must be at least 1"
            )
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise ValueError(f"learning rate is {self.learning_rate}: it must be above 0")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas are {self.betas}: each must be in [0, 1)")
        if not 0 <= self.holdout <= 0.5:
            raise ValueError(f"holdout is {self.holdout}: it must be between 0 and 0.5")
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"seed is {self.seed}: it must be between 0 and 2^63 - 1")
