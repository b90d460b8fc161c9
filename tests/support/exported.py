"""Networks of every backbone and method, exported once for the tests of all engines."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from rdx_fast.bundle.bundle import Bundle, describe_file
from rdx_fast.bundle.manifest import InputSpec, Manifest, ScaleSpec
from rdx_fast.export.exporter import network_file
from rdx_fast.export.gpu import quantize_for_gpus
from rdx_fast.export.graph import to_onnx
from rdx_fast.export.quantize import quantize
from rdx_fast.models import BACKBONES, METHODS, make_network
from rdx_fast.models.efficientnet import InvertedResidual

QUICK = [("rd4ad", "efficientnet_lite0")]
NETWORKS = [
    pytest.param(*which, marks=[] if which in QUICK else [pytest.mark.slow])
    for which in product(METHODS, BACKBONES)
]
SIZE = (64, 96)
_EXECUTIONS = {
    "fp32": (("fp32", "fp32"),),
    "fp16": (("fp16", "fp16"),),
    "int8": (("int8", "int8"), ("int8_symmetric", "int8")),
    "fp8": (("fp8", "fp8"),),
}


def as_bundle(folder: Path, method: str, backbone: str, precision: str, like: Manifest) -> Bundle:
    """What ``export`` wrote, as if it were a bundle opened."""
    path = folder / f"{method}-{backbone}-{precision}"
    spec = replace(like.input, height=SIZE[0], width=SIZE[1])
    channels = BACKBONES[backbone].channels
    scales = tuple(
        ScaleSpec(c, SIZE[0] // s, SIZE[1] // s) for c, s in zip(channels, (4, 8, 16), strict=True)
    )
    files = {file.name: describe_file(file) for file in path.iterdir() if file.is_file()}
    executions = _EXECUTIONS[precision]
    manifest = replace(
        like,
        method=method,
        backbone=backbone,
        networks={stored: network_file(stored) for stored, _ in executions},
        executions=tuple(
            replace(like.executions[0], stored=stored, executed=executed)
            for stored, executed in executions
        ),
        input=spec,
        scales=scales,
        files=files,
        calibration=None,
        history=None,
    )
    return Bundle(path, manifest)


def operators(bundle: Bundle, stored: str) -> list[str]:
    """Of a network's graph, in its order."""
    return [node.op_type for node in onnx.load(bundle.network(stored)).graph.node]


def recorded(folder: Path, method: str, backbone: str) -> tuple[np.ndarray, list[np.ndarray]]:
    """An input ``[2, 3, H, W]``, and the network's own maps of it, teacher first."""
    with np.load(folder / f"{method}-{backbone}.npz") as file:
        return file["image"], [file[f"map{i}"] for i in range(6)]


def export(method: str, backbone: str, folder: Path) -> None:
    """The network in every precision, as trained enough to have numbers of ordinary size."""
    torch.manual_seed(0)
    network = make_network(method, backbone)
    image = torch.randn(2, 3, *SIZE)
    alone = {
        f"{name}.bn2"
        for name, block in network.named_modules()
        if isinstance(block, InvertedResidual) and not block.has_shortcut
    }
    for name, module in network.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            module.train()
            module.momentum = None  # statistics of what follows
            if name.endswith(("bn2", "bn3")) and name not in alone:
                # As trained: residuals are small beside what they are added to, and rounding does
                # not grow from block to block.
                nn.init.constant_(module.weight, 0.1)
    with torch.no_grad():
        network(image)
        features = network.eval()(image)
    maps = {f"map{i}": m.numpy() for i, m in enumerate((*features.teacher, *features.student))}
    np.savez(folder / f"{method}-{backbone}.npz", image=image.numpy(), **maps)

    spec = InputSpec(*SIZE, (0.0,) * 3, (1.0,) * 3, "bilinear-antialiased")
    inputs = [image[i : i + 1].numpy() for i in range(2)]
    plain = to_onnx(network, spec, "fp32", 3)
    half = to_onnx(network, spec, "fp16", 3, inputs)
    int8 = quantize(plain, inputs, correct_bias=False)
    symmetric, float8 = (quantize_for_gpus(half, int8, s) for s in ("int8_symmetric", "fp8"))
    graphs = {
        "fp32": {"fp32": plain},
        "fp16": {"fp16": half},
        "int8": {"int8": int8, "int8_symmetric": symmetric},
        "fp8": {"fp8": float8},
    }
    for precision, files in graphs.items():
        target = folder / f"{method}-{backbone}-{precision}"
        target.mkdir()
        for stored, graph in files.items():
            onnx.save(graph, target / network_file(stored))
