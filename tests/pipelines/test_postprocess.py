"""Features to score and map, against the whole published chain in float64."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from rdx_fast.bundle.manifest import MapSpec, ScaleSpec
from rdx_fast.postprocess import AnomalyMapper
from support.kernel_runs import (
    COMPILED,
    IMPLEMENTATIONS,
    cosine_maps,
    fuse_mul,
    running,
    smooth_map,
)

RELATIVE_TOLERANCE = 2e-6  # of the map's range
PUBLISHED = ([(16, 64, 64), (32, 32, 32), (64, 16, 16)], (256, 256))
ODD = ([(24, 37, 53), (40, 19, 27)], (255, 317))
SMALL = ([(24, 37, 53), (40, 19, 27)], (41, 67))


def features(batch, scales, dtype=np.float32, channels_last=False) -> list[list[NDArray]]:
    rng = np.random.default_rng(0)
    teacher, student = [], []
    for channels, height, width in scales:
        shape = (batch, height, width, channels)
        t = rng.standard_normal(shape)
        # Alike on the left and unlike on the right, as a part with a defect is.
        s = t + rng.standard_normal(shape) * np.linspace(0, 2, width)[:, None]
        for maps, x in ((teacher, t), (student, s)):
            last = x.astype(dtype).transpose(0, 3, 1, 2)
            maps.append(last if channels_last else np.ascontiguousarray(last))
    return [teacher, student]


def published(
    teacher: Sequence[NDArray],
    student: Sequence[NDArray],
    size: tuple[int, int],
    fusion: str = "add",
    dtype: torch.dtype = torch.float64,
) -> NDArray:
    """``F.cosine_similarity``, ``F.interpolate``, ``gaussian_filter``; SciPy takes no float16."""
    maps = []
    for t, s in zip(teacher, student, strict=True):
        pair = (torch.from_numpy(x.copy()).to(dtype) for x in (t, s))
        distance = 1 - torch.nn.functional.cosine_similarity(*pair)
        maps.append(
            torch.nn.functional.interpolate(
                distance[:, None], size=size, mode="bilinear", align_corners=True
            )[:, 0]
        )
    stacked = torch.stack(maps)
    fused = stacked.sum(0) if fusion == "add" else stacked.prod(0)
    return np.stack([gaussian_filter(m, sigma=4) for m in fused.double().numpy()])


def finished(implementation, teacher, student, size, fusion) -> NDArray[np.float32]:
    """The maps by one implementation."""
    scales = [ScaleSpec(*m.shape[1:]) for m in teacher]
    mapper = AnomalyMapper(MapSpec(*size, fusion, 4.0, 4.0, "reflect"), scales)
    if implementation != "triton":
        with running(implementation):
            return mapper.maps(teacher, student)
    distances = cosine_maps("triton", teacher, student)
    columns = [b.transposed for b in mapper.columns]  # the runs transpose them themselves
    if fusion == "mul":
        blur = (mapper.blur[0], mapper.blur[1].transposed)
        return fuse_mul("triton", distances, mapper.rows, columns, blur)[0]
    maps, _ = smooth_map("triton", distances, mapper.rows, columns)
    assert maps is not None
    return maps


def cases(implementation: str) -> list:
    if implementation == "triton":
        return [(SMALL, 1), (SMALL, 3)]
    return [(PUBLISHED, 1), (ODD, 1), (ODD, 3), (ODD, 32)]


ALL = [(i, given, batch) for i in IMPLEMENTATIONS for given, batch in cases(i)]


@pytest.mark.parametrize("fusion", ["add", "mul"])
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize(("implementation", "given", "batch"), ALL)
def test_float32(implementation, given, batch, channels_last, fusion) -> None:
    scales, size = given
    teacher, student = features(batch, scales, channels_last=channels_last)
    expected = published(teacher, student, size, fusion)
    found = finished(implementation, teacher, student, size, fusion)
    np.testing.assert_allclose(found, expected, rtol=0, atol=RELATIVE_TOLERANCE * np.ptp(expected))


@pytest.mark.parametrize("fusion", ["add", "mul"])
@pytest.mark.parametrize(("implementation", "given", "batch"), [a for a in ALL if a[2] < 32])
def test_float16(implementation, given, batch, fusion) -> None:
    scales, size = given
    teacher, student = features(batch, scales, np.float16)
    expected = published(teacher, student, size, fusion)
    naive = published(teacher, student, size, fusion, torch.float16)
    found = finished(implementation, teacher, student, size, fusion)
    assert np.abs(found - expected).max() <= 2 * np.abs(naive - expected).max()


@pytest.mark.parametrize("implementation", COMPILED)
def test_views(implementation: str) -> None:
    teacher, student = features(2, ODD[0])
    wide = [[np.repeat(m, 2, axis=3)[..., ::2] for m in maps] for maps in (teacher, student)]
    assert not any(m.flags.c_contiguous for maps in wide for m in maps)
    expected = finished(implementation, teacher, student, ODD[1], "add")
    found = finished(implementation, *wide, ODD[1], "add")
    np.testing.assert_allclose(found, expected, rtol=0, atol=RELATIVE_TOLERANCE)


def test_other_features_than_the_manifests() -> None:
    mapper = AnomalyMapper(MapSpec(16, 16, "add", 4.0, 4.0, "reflect"), [ScaleSpec(8, 4, 4)])
    teacher = [np.zeros((1, 8, 4, 5), np.float32)]
    with pytest.raises(ValueError, match="the manifest says"):
        mapper(teacher, teacher)
