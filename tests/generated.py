"""Weights and inputs that follow from names and seeds, as ``tests/data`` was recorded with."""

from __future__ import annotations

import math
import zlib

import numpy as np
import torch
from torch import Tensor

from rdx_fast.models import RD4AD

# The published code's names of our parts.
PUBLISHED_PARTS = {"teacher": "encoder", "bottleneck": "bn", "student": "decoder"}


def generated_tensor(name: str, shape: tuple[int, ...]) -> Tensor:
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    if len(shape) == 4:
        values = rng.standard_normal(shape) * math.sqrt(2 / math.prod(shape[1:]))
    elif name.endswith(("running_var", "weight")):
        values = rng.uniform(0.8, 1.2, shape)
    else:
        values = rng.standard_normal(shape) * 0.05
    return torch.from_numpy(values.astype(np.float32))


def generated_rd4ad(backbone: str) -> RD4AD:
    network = RD4AD(backbone).eval()
    for ours, published in PUBLISHED_PARTS.items():
        part = network.get_submodule(ours)
        state = {
            key: value
            if key.endswith("num_batches_tracked")
            else generated_tensor(f"{published}.{key}", tuple(value.shape))
            for key, value in part.state_dict().items()
        }
        part.load_state_dict(state)
    return network


def generated_input(seed: int) -> Tensor:
    values = np.random.default_rng(seed).standard_normal((1, 3, 256, 256))
    return torch.from_numpy(values.astype(np.float32))
