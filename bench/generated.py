"""Bundles of untrained networks: speed does not depend on what was learned."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

from rdx_fast.bundle import Bundle
from rdx_fast.export import export_bundle
from rdx_fast.models import make_network
from rdx_fast.training import Checkpoint, Recipe


def generated_bundle(
    backbone: str, precision: str, folder: Path, size: int = 256, method: str = "rd4ad"
) -> Bundle:
    """Export an untrained network whose batch norms have seen noise, so that nothing overflows."""
    torch.manual_seed(0)
    network = make_network(method, backbone)
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:
        norm.train()
        norm.momentum = None
    with torch.no_grad():
        network(torch.randn(2, 3, size, size))
    recipe = Recipe(method=method, backbone=backbone, image_size=(size, size), epochs=1, batch=1)
    checkpoint = Checkpoint.of_network(recipe, network, ["generated"])
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as images:
        paths = [Path(images) / f"{i}.png" for i in range(4)]
        for path in paths:
            coarse = Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8))
            coarse.resize((size, size), Image.Resampling.BICUBIC).save(path)
        return export_bundle(
            checkpoint, paths, folder / f"{method}_{backbone}_{precision}.rdx", precision=precision
        )
