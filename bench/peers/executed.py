"""What OpenVINO executes a compiled network in. For environments without rdx_fast."""

from __future__ import annotations

from collections import Counter
from typing import Any


def executed(compiled: Any) -> str:
    """The type of most convolutions, read off the names of their primitives: f32, bf16, f16, i8."""
    facts = [op.get_rt_info() for op in compiled.get_runtime_model().get_ops()]
    primitives = [
        fact["primitiveType"].astype(str)
        for fact in facts
        if fact["layerType"].astype(str) == "Convolution"
    ]
    if not primitives:
        raise ValueError("the network has no convolutions")
    (most, _), *_ = Counter(name.rpartition("_")[2].lower() for name in primitives).most_common(1)
    return most
