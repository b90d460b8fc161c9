"""Bundles of untrained networks, which are as fast as trained ones:
``python -m rdx_fast.bench.generated --help``.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

import torch
import typer
from PIL import Image
from torch import nn

from rdx_fast.bench.measure import drawn_frame
from rdx_fast.bundle.bundle import Bundle
from rdx_fast.export import export_bundle
from rdx_fast.export.check import CONTENTS, TOLERANCE
from rdx_fast.models import make_network
from rdx_fast.preprocess import to_input
from rdx_fast.training import Checkpoint, Recipe
from rdx_fast.training.data import input_spec

FRAMES = 4
# For networks that are only timed. Quantisation errors of an untrained network mean nothing, but
# float32 must still match the network. Finite, since JSON has no infinity.
TIMED_ONLY = TOLERANCE | dict.fromkeys(("fp16", "bf16", "int8"), (1e3, 1e3))


def generated_checkpoint(backbone: str, size: int = 256, method: str = "rd4ad") -> Checkpoint:
    """An untrained network with batch statistics measured on frames as they are drawn for it, so
    that all values are small enough for float16."""
    recipe = Recipe(method=method, backbone=backbone, image_size=(size, size), epochs=1, batch=1)
    frames = [drawn_frame(size, size, seed) for seed in range(FRAMES)]
    torch.manual_seed(0)
    network = make_network(method, backbone)
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:
        norm.train()
        norm.momentum = None
    with torch.no_grad():
        network(torch.from_numpy(to_input(frames, input_spec(recipe))))
    return Checkpoint.of_network(recipe, network, ["generated"])


def generated_bundle(
    backbone: str, precision: str, folder: Path, size: int = 256, method: str = "rd4ad"
) -> Bundle:
    """Export the bundle of an untrained network; ``precision`` as for ``export_bundle``."""
    checkpoint = generated_checkpoint(backbone, size, method)
    with tempfile.TemporaryDirectory() as images:
        paths = [Path(images) / f"{i}.png" for i in range(FRAMES)]
        for seed, path in enumerate(paths):
            Image.fromarray(drawn_frame(size, size, seed)).save(path)
        return export_bundle(
            checkpoint,
            paths,
            folder / f"{method}_{backbone}_{precision}.rdx",
            precision=precision,
            tolerance=TIMED_ONLY,
        )


def main(
    folder: Path,
    backbone: Annotated[str, typer.Option()] = "wide_resnet50_2",
    precision: Annotated[str, typer.Option(help=f"One of {', '.join(CONTENTS)}.")] = "fp32",
    method: Annotated[str, typer.Option()] = "rd4ad",
    size: Annotated[int, typer.Option(min=64, help="Height and width of the input.")] = 256,
) -> None:
    """Export the bundle of an untrained network into a folder, for timing."""
    folder.mkdir(parents=True, exist_ok=True)
    print(generated_bundle(backbone, precision, folder, size, method).path)


if __name__ == "__main__":
    typer.run(main)
