"""What tests of networks and of their weights share."""

from __future__ import annotations

from pathlib import Path

import torch

from rdx_fast.models import BACKBONES, ReverseDistillation
from rdx_fast.training import Checkpoint


class Intruder:
    """Would leave a mark if anyone unpickled it."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.mark,))


def assert_same_weights(a: Checkpoint, b: Checkpoint) -> None:
    for ours, theirs in ((a.network, b.network), (a.expert, b.expert)):
        assert ours.keys() == theirs.keys()
        for key, value in ours.items():
            assert torch.equal(value, theirs[key]), key


def assert_student_mirrors_teacher(network: ReverseDistillation, backbone: str) -> None:
    with torch.no_grad():
        teacher, student = network.eval()(torch.zeros(2, 3, 64, 96))
    channels = BACKBONES[backbone].channels
    shapes = [(2, c, 64 // s, 96 // s) for c, s in zip(channels, (4, 8, 16), strict=True)]
    assert [tuple(m.shape) for m in teacher] == shapes
    assert [tuple(m.shape) for m in student] == shapes
