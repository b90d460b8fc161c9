"""Weights and inputs that follow from names and seeds, as ``tests/data`` was recorded with."""

from __future__ import annotations

import math
import zlib

import numpy as np
import torch
from torch import Tensor


def generated_tensor(name: str, shape: tuple[int, ...]) -> Tensor:
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    if len(shape) == 4:
        values = rng.standard_normal(shape) * math.sqrt(2 / math.prod(shape[1:]))
    elif name.endswith(("running_var", "weight")):
        values = rng.uniform(0.8, 1.2, shape)
    else:
        values = rng.standard_normal(shape) * 0.05
    return torch.from_numpy(values.astype(np.float32))


def generated_parts(keys: dict[str, dict[str, list[int]]]) -> dict[str, dict[str, Tensor]]:
    """State dicts under their published names, as a file of ``tests/data`` lists them."""
    return {
        part: {
            key: torch.zeros((), dtype=torch.int64)
            if key.endswith("num_batches_tracked")
            else generated_tensor(f"{part}.{key}", tuple(shape))
            for key, shape in shapes.items()
        }
        for part, shapes in keys.items()
    }


def generated_input(seed: int, batch: int = 1) -> Tensor:
    """The first image does not depend on the batch."""
    values = np.random.default_rng(seed).standard_normal((batch, 3, 256, 256))
    return torch.from_numpy(values.astype(np.float32))
