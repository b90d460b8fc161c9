"""Training steps of both methods, and the time spent waiting for batches."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import Any

import torch

from rdx_fast.training.checkpoint import Checkpoint
from rdx_fast.training.distillation import Distillation
from rdx_fast.training.expert import ExpertDistillation
from rdx_fast.training.recipe import Recipe

Losses = dict[str, list[float]]


class Learner:
    """Objective, optimizers and losses of a run; a checkpoint restores them.

    Args:
        objective: batches and losses of the method
        recipe: options of the run
        device: to train on
        precision: a key of ``PRECISIONS``

    Attributes:
        step: number of batches trained
        losses: by term, the mean of each finished epoch
        partial_losses: by term, the losses of the batches since the last finished epoch
    """

    def __init__(
        self,
        objective: Distillation | ExpertDistillation,
        recipe: Recipe,
        device: torch.device,
        precision: str,
    ) -> None:
        self.objective: Any = objective  # each takes its own kind of batches
        self.optimizers = {
            term: torch.optim.Adam(parameters, rate, recipe.betas, fused=True)
            for term, (parameters, rate) in objective.parameters(recipe).items()
        }
        # Only float16's gradients underflow.
        self.scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")
        self.step = 0
        self.losses: Losses = {}
        self.partial_losses: Losses = {}

    def restore(self, old: Checkpoint) -> None:
        """Go on from the optimizers, losses and number of batches of a checkpoint."""
        for term, optimizer in self.optimizers.items():
            optimizer.load_state_dict(old.optimizers[term])
        self.scaler.load_state_dict(old.scaler)
        self.step = old.step
        self.losses = {term: list(values) for term, values in old.losses.items()}
        self.partial_losses = {term: list(values) for term, values in old.partial_losses.items()}

    def learn(self, batch: Any) -> dict[str, float]:
        """Train one step and return its loss by term, which may not be finite."""
        losses = {}
        for term, loss in self.objective.losses(batch):
            optimizer = self.optimizers[term]
            optimizer.zero_grad(set_to_none=True)
            self.scaler.scale(loss).backward()
            self.scaler.step(optimizer)
            losses[term] = loss.detach()
        self.scaler.update()
        self.step += 1
        return {term: loss.item() for term, loss in losses.items()}

    def note(self, losses: dict[str, float], steps_per_epoch: int) -> None:
        """Record the losses of a step."""
        for term, loss in losses.items():
            begun = self.partial_losses.setdefault(term, [])
            begun.append(loss)
            if len(begun) == steps_per_epoch:
                self.losses.setdefault(term, []).append(sum(begun) / steps_per_epoch)
                begun.clear()


class WaitClock:
    """Measures the share of the time that is spent waiting for the next batch."""

    def __init__(self) -> None:
        self.started = time.monotonic()
        self.waited = 0.0

    @property
    def share(self) -> float:
        """Share of the time so far, 0 to 1."""
        return self.waited / max(time.monotonic() - self.started, 1e-9)

    def timed(self, batches: Iterable[Any]) -> Iterator[Any]:
        """The batches; the time until each of them is there is counted."""
        iterator = iter(batches)
        while True:
            before = time.monotonic()
            batch = next(iterator, None)
            self.waited += time.monotonic() - before
            if batch is None:
                return
            yield batch
