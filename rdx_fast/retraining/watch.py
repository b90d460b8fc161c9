"""What is called while a candidate is made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from rdx_fast.training.trainer import Progress


@dataclass(frozen=True, slots=True)
class Watch:
    """What is called while a candidate is made.

    Attributes:
        stage: with the name of each stage that begins, and with what is to be known
        step: after each step of the training
        images: with what is done with images, images done and in all
        plan: while a TensorRT plan is built, see ``open_engine``
    """

    stage: Callable[[str], None] = lambda stage: None
    step: Callable[[Progress], None] = lambda progress: None
    images: Callable[[str, int, int], None] = lambda what, done, total: None
    plan: Callable[[str, int, int], None] = lambda *_: None


QUIET = Watch()
