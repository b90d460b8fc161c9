"""Distances and operators for the smoothing kernels."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from rdx_fast.kernels.operators import Band, gaussian_matrix, upsample_matrix

RELATIVE_TOLERANCE = 2e-6  # of the map's range


def upsampled(distance: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float64]:
    tensor = torch.from_numpy(distance).double()[:, None]
    return torch.nn.functional.interpolate(
        tensor, size=size, mode="bilinear", align_corners=True
    ).numpy()[:, 0]


def operators(sizes: list[int], out: int, sigma: float) -> list[Band]:
    blur = gaussian_matrix(out, sigma, truncate=4.0)
    return [Band.of(blur @ upsample_matrix(size, out)) for size in sizes]


def generated(
    batch: int, scales: list[tuple[int, int]], size: tuple[int, int], sigma: float = 4.0
) -> tuple[list[NDArray[np.float32]], list[Band], list[Band]]:
    """Distances in [0, 2], and the operators that make maps of ``size`` of them."""
    rng = np.random.default_rng(0)
    distances = [rng.uniform(0, 2, (batch, *scale)).astype(np.float32) for scale in scales]
    rows = operators([h for h, _ in scales], size[0], sigma)
    columns = operators([w for _, w in scales], size[1], sigma)
    return distances, rows, columns
