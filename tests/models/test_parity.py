"""Both methods against recordings of the authors' code."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from rdx_fast.bundle.manifest import MapSpec, ScaleSpec
from rdx_fast.kernels.cosine_map import cosine_map
from rdx_fast.models import from_published
from rdx_fast.postprocess import AnomalyMapper
from support.checkout import DATA
from support.generated import generated_input, generated_parts

TOLERANCE = 1e-4
RECORDED = {
    "rd4ad_resnet18": ("rd4ad", "resnet18", "guided"),
    "rd4ad_wide_resnet50_2": ("rd4ad", "wide_resnet50_2", "guided"),
    "urd_guided": ("rd-expert", "wide_resnet50_2", "guided"),
    "urd_plain": ("rd-expert", "wide_resnet50_2", "plain"),
}


@pytest.mark.parametrize("batch", [1, pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "recording",
    [
        pytest.param(name, marks=[pytest.mark.slow] if name == "urd_plain" else [])
        for name in RECORDED
    ],
)
def test_maps_are_the_published_ones(recording: str, batch: int) -> None:
    method, backbone, injection = RECORDED[recording]
    keys = "urd" if method == "rd-expert" else "rd4ad"
    parts = generated_parts(json.loads((DATA / f"{keys}_{backbone}.json").read_text()))
    network = from_published(parts, method, backbone=backbone, injection=injection)
    recorded = np.load(DATA / f"{recording}.npz")
    with torch.no_grad():
        features = network(generated_input(int(recorded["input_seed"]), batch))
    # The recorded image is the first of any batch.
    teacher = [m.numpy() for m in features.teacher]
    student = [m.numpy() for m in features.student]
    assert {len(m) for m in (*teacher, *student)} == {batch}
    for t, s, name in zip(teacher, student, ("d64", "d32", "d16"), strict=True):
        np.testing.assert_allclose(cosine_map(t, s)[:1], recorded[name], rtol=0, atol=TOLERANCE)
    scales = [ScaleSpec(*m.shape[1:]) for m in teacher]
    for fusion in ("add", "mul"):
        mapper = AnomalyMapper(MapSpec(256, 256, fusion, 4.0, 4.0, "reflect"), scales)
        finished = mapper.maps(teacher, student)[:1]
        np.testing.assert_allclose(finished, recorded[f"map_{fusion}"], rtol=0, atol=TOLERANCE)
        np.testing.assert_allclose(
            finished.max(axis=(1, 2)), recorded[f"score_{fusion}"], rtol=0, atol=TOLERANCE
        )


@pytest.mark.slow
def test_recordings_tell_the_gate_apart() -> None:
    # Otherwise a network without it could pass for one with it.
    guided, plain = (np.load(DATA / f"urd_{injection}.npz") for injection in ("guided", "plain"))
    parts = generated_parts(json.loads((DATA / "urd_wide_resnet50_2.json").read_text()))
    network = from_published(parts, "rd-expert", injection="plain")
    with torch.no_grad():
        features = network(generated_input(int(guided["input_seed"])))
    found = cosine_map(features.teacher[0].numpy(), features.student[0].numpy())
    assert np.abs(found - guided["d64"]).max() > 100 * TOLERANCE
    assert guided["d64"].shape == plain["d64"].shape
