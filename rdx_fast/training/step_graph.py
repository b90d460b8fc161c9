"""Training steps on a GPU as CUDA graphs: a step is thousands of small kernels, and starting them
one by one takes several times as long as they run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from rdx_fast.devices.device import EXCLUSIVE
from rdx_fast.devices.graphs import recorded

Step = Callable[[list[Tensor]], dict[str, Tensor]]
"""Trains on inputs on the GPU; returns the loss of each term, a float32 scalar on the GPU."""

# Of each shape before it is recorded: optimizers and cuDNN allocate what they keep.
EAGER_STEPS = 3


class StepGraph:
    """Records a step once for each shape of its inputs, and replays it: the same kernels as without
    a graph, in the same order.

    Args:
        device: the GPU
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._eager: Counter[tuple[torch.Size, ...]] = Counter()
        self._recorded: dict[tuple[torch.Size, ...], _Recorded] = {}

    @contextmanager
    def stream(self) -> Iterator[None]:
        """The CUDA stream for each call and for the work on its inputs and losses; what was queued
        before comes first."""
        self._stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._stream):
            yield

    def __call__(self, step: Step, inputs: list[Tensor]) -> dict[str, Tensor]:
        """Train one step; the losses hold until the next one.

        Args:
            step: the same in each call. It must not wait for the GPU, and all that it changes must
                lie there
            inputs: of ``step``, of any shapes and dtypes

        Raises:
            RuntimeError: the step cannot be recorded
        """
        shapes = tuple(x.shape for x in inputs)
        if shapes not in self._recorded:
            self._eager[shapes] += 1
            if self._eager[shapes] <= EAGER_STEPS:
                return step(inputs)
            self._recorded[shapes] = _Recorded(step, inputs, self._stream, self._device)
        return self._recorded[shapes].run(inputs)


class _Recorded:
    def __init__(
        self, step: Step, inputs: list[Tensor], stream: torch.cuda.Stream, device: torch.device
    ) -> None:
        self._inputs = [x.clone() for x in inputs]
        self._losses: dict[str, Tensor] = {}
        with EXCLUSIVE:
            self._graph = recorded(lambda: self._losses.update(step(self._inputs)), stream, device)

    def run(self, inputs: list[Tensor]) -> dict[str, Tensor]:
        for own, given in zip(self._inputs, inputs, strict=True):
            own.copy_(given)
        self._graph.replay()
        return self._losses
