"""Training steps of both methods, and the time spent waiting for batches."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor

from rdx_fast.training.checkpoint import Checkpoint
from rdx_fast.training.distillation import Distillation
from rdx_fast.training.expert import ExpertDistillation
from rdx_fast.training.recipe import Recipe
from rdx_fast.training.step_graph import Step, StepGraph

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
        # With a scaler, recording was not tried.
        in_graphs = device.type == "cuda" and not self.scaler.is_enabled()
        self._graph = StepGraph(device) if in_graphs else None
        self._set_capturable()
        self.step = 0
        self.losses: Losses = {}
        self.partial_losses: Losses = {}

    def restore(self, old: Checkpoint) -> None:
        """Go on from the optimizers, losses and number of batches of a checkpoint."""
        for term, optimizer in self.optimizers.items():
            optimizer.load_state_dict(old.optimizers[term])
        self._set_capturable()
        self.scaler.load_state_dict(old.scaler)
        self.step = old.step
        self.losses = {term: list(values) for term, values in old.losses.items()}
        self.partial_losses = {term: list(values) for term, values in old.partial_losses.items()}

    def learn(self, batch: Any) -> dict[str, float]:
        """Train one step and return its loss by term, which may not be finite."""
        if self._graph is None:
            return self._learn(self._train, batch)
        with self._graph.stream():
            return self._learn(partial(self._graph, self._train), batch)

    def _learn(self, step: Step, batch: Any) -> dict[str, float]:
        losses = step(self.objective.inputs(batch))
        self.step += 1
        return {term: loss.item() for term, loss in losses.items()}

    def _train(self, inputs: list[Tensor]) -> dict[str, Tensor]:
        losses = {}
        for term, loss in self.objective.losses(inputs):
            optimizer = self.optimizers[term]
            optimizer.zero_grad(set_to_none=True)
            self.scaler.scale(loss).backward()
            self.scaler.step(optimizer)
            losses[term] = loss.detach()
        self.scaler.update()
        return losses

    def _set_capturable(self) -> None:
        """Let the optimizers be recorded, or not; a checkpoint may say what another device did."""
        for optimizer in self.optimizers.values():
            for group in optimizer.param_groups:
                group["capturable"] = self._graph is not None

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
