"""Additions to the training of RD4AD that were tried and are not in the product, as rows of
``convergence``: ``python -m rdx_fast.bench.tried --help``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any
from unittest.mock import patch

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import dropout

from rdx_fast.bench import convergence
from rdx_fast.models import ReverseDistillation, make_network
from rdx_fast.training.data import ImageDataset, TeacherFeatures
from rdx_fast.training.learner import Learner

TRAINING = "rdx_fast.training"


class Addition(StrEnum):
    """What is added, with the meaning of its strength.

    Attributes:
        DROPOUT: dropout of the bottleneck's embedding; its probability
        AVERAGE: the trained network has the moving average of its weights; the decay
        LIGHT: random brightness and contrast of good images; gain 1 - s to 1 + s, shift -s to s
        NOISE: white noise on good images; its standard deviation, of values in [0, 1]
    """

    DROPOUT = "dropout"
    AVERAGE = "average"
    LIGHT = "light"
    NOISE = "noise"


def main(
    dataset: Annotated[Path, typer.Argument(help="Category folder with a test set.")],
    runs: Annotated[Path, typer.Argument(help="Folder for runs and bundles.")],
    output: Annotated[Path, typer.Option(help="JSON lines to append to.")],
    addition: Annotated[Addition, typer.Option(help="What is added.")],
    strength: Annotated[float, typer.Option(min=0, help="Its strength, see the source.")],
    steps: Annotated[int, typer.Option(min=1, help="Batches.")] = 450,
    backbone: Annotated[str, typer.Option(help="Backbone.")] = "efficientnet_lite0",
    image_size: Annotated[tuple[int, int], typer.Option(help="Height and width.")] = (128, 128),
    seeds: Annotated[int, typer.Option(min=1, help="Runs, each with its own seed.")] = 3,
    first_seed: Annotated[int, typer.Option(min=0, help="First seed.")] = 111,
) -> None:
    """Train RD4AD with an addition and evaluate it, with several seeds.

    The rows' name tells the addition; compare them with those of the same recipe without it.
    """
    recipe = {"method": "rd4ad", "backbone": backbone, "image_size": list(image_size)}
    with added(addition, strength):
        convergence.main(
            dataset,
            runs,
            output=output,
            steps=[steps],
            name=f"{backbone.removeprefix('efficientnet_')} rd4ad, {addition} {strength:g}",
            recipe=json.dumps(recipe),
            seeds=seeds,
            first_seed=first_seed,
            workers=0,
        )


@contextmanager
def added(addition: Addition, strength: float) -> Iterator[None]:
    """Train with an addition inside this context."""

    def make(*options: Any) -> ReverseDistillation:
        network = make_network(*options)
        network.bottleneck.register_forward_hook(
            lambda module, _, out: dropout(out, strength, module.training)
        )
        return network

    class Averaging(Learner):
        """Learns as before, and gives the network its average weights at the end."""

        def __init__(self, objective: Any, recipe: Any, *options: Any) -> None:
            super().__init__(objective, recipe, *options)
            self._total = recipe.iterations
            self._network: nn.Module = objective.network
            self._average: dict[str, Tensor] = {}

        def learn(self, batch: Any) -> dict[str, float]:
            losses = super().learn(batch)
            for key, value in self._network.state_dict().items():
                if not value.is_floating_point():
                    continue
                self._average.setdefault(key, value.clone()).lerp_(value, 1 - strength)
            if self.step == self._total:
                self._network.load_state_dict(self._average, strict=False)
            return losses

    class Varied(ImageDataset):
        """Images with random light, or noise, each time they are used."""

        def __init__(self, *options: Any) -> None:
            super().__init__(*options)
            self._rng = np.random.default_rng(0)

        def load(self, index: int) -> NDArray[np.float32]:
            image = super().load(index)
            mean, std = (
                np.array(v, np.float32)[:, None, None] for v in (self.spec.mean, self.spec.std)
            )
            pixels = image * std + mean
            if addition is Addition.LIGHT:
                gain, shift = self._rng.uniform(-strength, strength, 2)
                pixels = pixels * (1 + gain) + shift
            else:
                pixels = pixels + strength * self._rng.standard_normal(pixels.shape)
            return ((np.clip(pixels, 0, 1) - mean) / std).astype(np.float32)

    class Unkept(TeacherFeatures):
        """Features are computed for each batch, since no image comes twice."""

        def __init__(self, *options: Any) -> None:
            super().__init__(*options)
            self.keeps = False

    varied = {"trainer.ImageDataset": Varied, "trainer.TeacherFeatures": Unkept}
    patches: dict[Addition, dict[str, Any]] = {
        Addition.DROPOUT: {"networks.make_network": make},
        Addition.AVERAGE: {"trainer.Learner": Averaging},
        Addition.LIGHT: varied,
        Addition.NOISE: varied,
    }
    torch.manual_seed(0)
    with ExitStack() as stack:
        for name, replacement in patches[addition].items():
            stack.enter_context(patch(f"{TRAINING}.{name}", replacement))
        yield


if __name__ == "__main__":
    typer.run(main)
