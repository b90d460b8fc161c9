"""RD4AD against recordings of the authors' code."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from generated import PUBLISHED_PARTS, generated_input, generated_rd4ad

from rdx_fast.kernels.cosine_map import cosine_map
from rdx_fast.manifest import MapSpec, ScaleSpec
from rdx_fast.models import RD4AD
from rdx_fast.postprocess import AnomalyMapper

DATA = Path(__file__).parent / "data"
TOLERANCE = 1e-4
# In published state dicts, but not on the way from image to features.
UNUSED = {"encoder": ("layer4.", "fc."), "bn": ("conv4.", "bn4."), "decoder": ()}


@pytest.mark.parametrize("backbone", ["resnet18", "wide_resnet50_2"])
def test_maps_are_the_published_ones(backbone: str) -> None:
    recorded = np.load(DATA / f"rd4ad_{backbone}.npz")
    with torch.no_grad():
        features = generated_rd4ad(backbone)(generated_input(int(recorded["input_seed"])))
    teacher = [m.numpy() for m in features.teacher]
    student = [m.numpy() for m in features.student]
    for t, s, name in zip(teacher, student, ("d64", "d32", "d16"), strict=True):
        np.testing.assert_allclose(cosine_map(t, s), recorded[name], rtol=0, atol=TOLERANCE)
    scales = [ScaleSpec(*m.shape[1:]) for m in teacher]
    for fusion in ("add", "mul"):
        mapper = AnomalyMapper(MapSpec(256, 256, fusion, 4.0, 4.0, "reflect"), scales)
        finished = mapper(teacher, student)
        np.testing.assert_allclose(finished, recorded[f"map_{fusion}"], rtol=0, atol=TOLERANCE)
        np.testing.assert_allclose(
            finished.max(axis=(1, 2)), recorded[f"score_{fusion}"], rtol=0, atol=TOLERANCE
        )


@pytest.mark.parametrize("backbone", ["resnet18", "resnet34", "resnet50", "wide_resnet50_2"])
def test_keys_are_the_published_ones(backbone: str) -> None:
    published = json.loads((DATA / f"rd4ad_{backbone}.json").read_text())
    network = RD4AD(backbone)
    for ours, theirs in PUBLISHED_PARTS.items():
        wanted = {
            key: tuple(shape)
            for key, shape in published[theirs].items()
            if not key.startswith(UNUSED[theirs])
        }
        state = network.get_submodule(ours).state_dict()
        assert {key: tuple(value.shape) for key, value in state.items()} == wanted
