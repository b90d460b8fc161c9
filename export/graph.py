"""The network as an ONNX graph: input ``image``, outputs ``teacher_s`` and ``student_s``."""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Sequence

import onnx
import torch
from torch import Tensor, nn

from rdx_fast.export.fold import fold_batch_norm
from rdx_fast.manifest import InputSpec


class _Flat(nn.Module):
    """Features as a flat tuple, teacher first; computed in ``dtype``, float32 outside."""

    def __init__(self, network: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.network = network
        self.dtype = dtype

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        features = self.network(image.to(self.dtype))
        return tuple(m.float() for m in (*features[0], *features[1]))


def output_names(scales: int) -> list[str]:
    return [f"{part}_{s}" for part in ("teacher", "student") for s in range(scales)]


def to_onnx(network: nn.Module, spec: InputSpec, precision: str, scales: int) -> onnx.ModelProto:
    """Export with batch normalisation folded and the batch left open.

    ``precision`` "fp16" gives float16 weights and activations; every other one float32 (bf16 is
    the engine's to execute, int8 is quantised afterwards). Inputs and outputs are float32.
    """
    dtype = torch.float16 if precision == "fp16" else torch.float32
    folded = fold_batch_norm(copy.deepcopy(network).cpu()).to(dtype)
    flat = _Flat(folded, dtype).eval()
    example = torch.zeros(2, 3, spec.height, spec.width)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # torch's exporter warns of its own internals
        program = torch.onnx.export(
            flat,
            (example,),
            dynamo=True,
            input_names=["image"],
            output_names=output_names(scales),
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    onnx.checker.check_model(model)
    return model


def output_shapes(network: nn.Module, spec: InputSpec) -> Sequence[tuple[int, int, int]]:
    """``(channels, height, width)`` of each scale, finest first."""
    with torch.no_grad():
        features = network(torch.zeros(1, 3, spec.height, spec.width))
    return [tuple(m.shape[1:]) for m in features.teacher]
