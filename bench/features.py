"""Features like those of networks, and the published postprocessing to compare with."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from torch import Tensor
from torch.nn import functional

from rdx_fast.bundle.manifest import MapSpec, ScaleSpec

SIZE = 256
# Of wide_resnet50_2 at 256 x 256.
SCALES = (ScaleSpec(256, 64, 64), ScaleSpec(512, 32, 32), ScaleSpec(1024, 16, 16))


def map_spec(fusion: str) -> MapSpec:
    return MapSpec(SIZE, SIZE, fusion, sigma=4.0, truncate=4.0, border="reflect")


def features(batch: int, channels_last: bool = False) -> tuple[list[Tensor], list[Tensor]]:
    """Teacher and student maps, float32, whose difference grows along the width."""
    generator = torch.Generator().manual_seed(0)
    teacher, student = [], []
    for scale in SCALES:
        shape = (batch, scale.channels, scale.height, scale.width)
        t = torch.randn(shape, generator=generator)
        s = t + torch.randn(shape, generator=generator) * torch.linspace(0, 2, scale.width)
        layout = torch.channels_last if channels_last else torch.contiguous_format
        teacher.append(t.contiguous(memory_format=layout))
        student.append(s.contiguous(memory_format=layout))
    return teacher, student


def published_distances(teacher: Sequence[Tensor], student: Sequence[Tensor]) -> list[Tensor]:
    return [1 - functional.cosine_similarity(t, s) for t, s in zip(teacher, student, strict=True)]


def published_upsampled(distances: Sequence[Tensor]) -> list[Tensor]:
    return [
        functional.interpolate(d[:, None], size=SIZE, mode="bilinear", align_corners=True)[:, 0]
        for d in distances
    ]


def published_blur(maps: Tensor) -> NDArray[np.float32]:
    return np.stack([gaussian_filter(m, sigma=4) for m in maps.cpu().numpy()])


def published_scores(teacher: Sequence[Tensor], student: Sequence[Tensor]) -> NDArray[np.float32]:
    """Scores as in the published code: torch up to the sum, scipy's Gaussian, the maximum."""
    upsampled = published_upsampled(published_distances(teacher, student))
    return published_blur(torch.stack(upsampled).sum(0)).max(axis=(1, 2))
