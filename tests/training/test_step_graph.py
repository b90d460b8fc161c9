"""When a training step is recorded, and what a learner holds; on a GPU: tests/gpu."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rdx_fast.training import Recipe, step_graph
from rdx_fast.training.learner import Learner
from rdx_fast.training.step_graph import EAGER_STEPS, StepGraph

CPU = torch.device("cpu")


class FakeStream:
    def __init__(self, device: torch.device) -> None:
        self.device = device

    def wait_stream(self, other: Any) -> None: ...


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Streams that do nothing, and recordings that are noted and replayed by running the step."""
    made: list[Any] = []

    class Recorded:
        def __init__(self, step: Any, inputs: list[Tensor], *_: Any) -> None:
            made.append([x.shape for x in inputs])
            self.run = step

    @contextmanager
    def current(stream: Any) -> Iterator[None]:
        yield

    monkeypatch.setattr(torch.cuda, "Stream", FakeStream)
    monkeypatch.setattr(torch.cuda, "stream", current)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: None)
    monkeypatch.setattr(step_graph, "_Recorded", Recorded)
    return made


def test_each_shape_is_recorded_after_its_own_first_steps(no_gpu: list[Any]) -> None:
    graph = StepGraph(CPU)
    given: list[int] = []

    def step(inputs: list[Tensor]) -> dict[str, Tensor]:
        given.append(len(inputs[0]))
        return {"loss": inputs[0].sum()}

    for images in (4, 4, 2, 4, 4, 2, 4, 2, 2):
        with graph.stream():
            assert graph(step, [torch.ones(images)])["loss"] == images
    assert given == [4, 4, 2, 4, 4, 2, 4, 2, 2]
    assert no_gpu == [[(4,)], [(2,)]]  # after as many eager steps each
    assert EAGER_STEPS == 3


class Objective:
    """The weight's square, to be made small."""

    def __init__(self) -> None:
        self.layer = nn.Linear(1, 1, bias=False)

    def parameters(self, recipe: Recipe) -> dict[str, Any]:
        return {"student": (list(self.layer.parameters()), recipe.learning_rate)}

    def inputs(self, batch: Tensor) -> list[Tensor]:
        return [batch]

    def losses(self, inputs: list[Tensor]) -> Iterator[tuple[str, Tensor]]:
        yield "student", (self.layer(inputs[0]) ** 2).sum()


def learner(precision: str = "fp32", device: torch.device = CPU) -> Learner:
    objective: Any = Objective()
    return Learner(objective, Recipe(), device, precision)


def test_a_learner_frees_what_it_holds_at_once() -> None:
    tried = learner()
    tried.learn(torch.ones(1, 1))
    held = weakref.ref(tried.objective)
    gc.disable()
    try:
        del tried
        assert held() is None
    finally:
        gc.enable()


@pytest.mark.usefixtures("no_gpu")
def test_only_what_is_recorded_is_capturable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever the checkpoint comes from."""
    saved = learner()
    cuda = torch.device("cuda", 0)
    for precision, recorded in (("fp32", True), ("bf16", True), ("fp16", False)):
        with monkeypatch.context() as patched:
            patched.setattr(torch.amp, "GradScaler", scaler)
            tried = learner(precision, cuda)
        state: Any = SimpleNamespace(
            optimizers={t: o.state_dict() for t, o in saved.optimizers.items()},
            scaler={},
            step=0,
            losses={},
            partial_losses={},
        )
        tried.restore(state)
        for optimizer in tried.optimizers.values():
            assert optimizer.param_groups[0]["capturable"] is recorded
            optimizer.param_groups[0]["capturable"] = True
        state.optimizers = {t: o.state_dict() for t, o in tried.optimizers.items()}
        back = learner()
        back.restore(state)
        back.learn(torch.ones(1, 1))  # a CPU takes no capturable optimizer
        assert back.optimizers["student"].param_groups[0]["capturable"] is False


def scaler(device: str, enabled: bool) -> Any:
    return SimpleNamespace(is_enabled=lambda: enabled, load_state_dict=lambda state: None)
