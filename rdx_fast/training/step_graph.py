"""Training steps on a GPU as CUDA graphs: a step is thousands of small kernels, and starting them
one by one takes several times as long as they run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

Step = Callable[[list[Tensor]], dict[str, Tensor]]
"""Trains on inputs on the GPU; returns the loss of each term, a scalar on the GPU."""

EAGER_STEPS = 3  # before a graph is recorded: optimizers and cuDNN allocate what they keep


class StepGraph:
    """Records a step once for each shape of its inputs, and replays it. The results are those of
    the same step without a graph.

    Everything that the step uses, and its caller's work on inputs and results, belongs in
    ``stream``.

    Args:
        step: what to record. It must not wait for the GPU, and all it changes must lie there
        device: the GPU
    """

    def __init__(self, step: Step, device: torch.device) -> None:
        self._step = step
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._steps = 0
        self._recorded: dict[tuple[torch.Size, ...], _Recorded] = {}

    @contextmanager
    def stream(self) -> Iterator[None]:
        """The CUDA stream of all work; what was queued before comes first."""
        self._stream.wait_stream(torch.cuda.current_stream(self._stream.device))
        with torch.cuda.stream(self._stream):
            yield

    def __call__(self, inputs: list[Tensor]) -> dict[str, Tensor]:
        """Train one step; the losses hold until the next step.

        Args:
            inputs: of ``step``
        """
        self._steps += 1
        if self._steps <= EAGER_STEPS:
            return self._step(inputs)
        shapes = tuple(x.shape for x in inputs)
        if shapes not in self._recorded:
            self._recorded[shapes] = _Recorded(self._step, inputs, self._stream)
        return self._recorded[shapes].run(inputs)


class _Recorded:
    def __init__(self, step: Step, inputs: list[Tensor], stream: torch.cuda.Stream) -> None:
        self._inputs = [x.clone() for x in inputs]
        self._graph = torch.cuda.CUDAGraph()
        # Processes that load data have a thread here that pins memory meanwhile.
        with torch.cuda.graph(self._graph, stream=stream, capture_error_mode="thread_local"):
            self._losses = step(self._inputs)

    def run(self, inputs: list[Tensor]) -> dict[str, Tensor]:
        for own, given in zip(self._inputs, inputs, strict=True):
            own.copy_(given)
        self._graph.replay()
        return self._losses
