"""Export of the network as an ONNX graph: input ``image``, outputs ``teacher_s``, ``student_s``."""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Iterable, Sequence

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from rdx_fast.bundle.manifest import InputSpec
from rdx_fast.export.float16 import to_half
from rdx_fast.models.fold import fold_batch_norm


class _Flat(nn.Module):
    """Features as a flat tuple, teacher first."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        features = self.network(image)
        return (*features[0], *features[1])


def output_names(scales: int) -> list[str]:
    return [f"{part}_{s}" for part in ("teacher", "student") for s in range(scales)]


def to_onnx(
    network: nn.Module,
    spec: InputSpec,
    precision: str,
    scales: int,
    images: Iterable[NDArray[np.float32]] = (),
) -> onnx.ModelProto:
    """Export a network with batch normalisation folded and a dynamic batch size.

    Args:
        network: it is copied, and stays as it is
        spec: the network's input
        precision: "fp16" for float16 weights, activations, inputs and outputs, except where values
            are too large for it on ``images``; any other for float32 (bf16 is executed by the
            engine, int8 is quantised afterwards)
        scales: number of scales
        images: good parts ``[1, 3, H, W]`` float32 normalised, for "fp16" only

    Raises:
        ExportError: batch normalisation cannot be folded
    """
    folded = fold_batch_norm(copy.deepcopy(network).cpu())
    example = torch.zeros(2, 3, spec.height, spec.width)
    if precision == "fp16":
        with torch.no_grad():
            folded = to_half(folded, map(torch.from_numpy, images))
        example = example.half()
    flat = _Flat(folded).eval()
    for module in flat.modules():
        if isinstance(module, nn.ReLU | nn.ReLU6):
            module.inplace = False  # the exporter traces it in half the time
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # torch's exporter warns about its own internals
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
