"""The main path on photographs that the repository does not hold (see ``real_images``)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from rdx_fast import Detector
from rdx_fast.bundle.bundle import Bundle
from rdx_fast.evaluation import Evaluation, evaluate
from rdx_fast.images import list_images, read_image
from rdx_fast.models import RD4AD, load_teacher
from rdx_fast.models.weights import has_batch_statistics
from rdx_fast.preprocess import to_input
from rdx_fast.training import Recipe
from rdx_fast.training.data import input_spec

pytestmark = [pytest.mark.real, pytest.mark.slow]


@pytest.fixture(scope="module")
def evaluations(transistor: Path, transistor_bundles: tuple[Bundle, Bundle]) -> list[Evaluation]:
    found = []
    for bundle in transistor_bundles:
        with Detector(bundle.path) as detector:
            found.append(evaluate(detector, transistor))
    return found


def test_defects_are_found_after_a_few_epochs(evaluations: list[Evaluation]) -> None:
    figures = evaluations[0].overall
    assert (figures.good, figures.defective) == (60, 40)
    assert figures.image_auroc > 0.9
    assert figures.pixel_auroc is not None
    assert figures.pixel_auroc > 0.75


def test_int8_separates_as_well(evaluations: list[Evaluation]) -> None:
    exact, quantised = (e.overall for e in evaluations)
    assert quantised.image_auroc > exact.image_auroc - 0.02


def test_camera_frames_score_as_their_resized_copies(
    real_images: Path, transistor: Path, transistor_bundles: tuple[Bundle, Bundle]
) -> None:
    sample = real_images / "data" / "mvtec_transistor_1024_sample"
    frames = list_images(sample / "test")
    copies = [transistor / path.relative_to(sample) for path in frames]
    with Detector(transistor_bundles[0].path) as detector:
        spec = replace(detector.manifest.input, mean=(0.0,) * 3, std=(1 / 255,) * 3)
        levels, expected = (
            to_input([read_image(p) for p in paths], spec) for paths in (frames, copies)
        )
        assert np.abs(levels - expected).max() <= 1.0
        scores, resized = (
            detector.score([read_image(p) for p in paths]).scores for paths in (frames, copies)
        )
    np.testing.assert_allclose(scores, resized, rtol=0.02)


def test_photographs_of_12_bits_score_as_those_of_8(
    transistor: Path, transistor_bundles: tuple[Bundle, Bundle]
) -> None:
    """4095 is no multiple of 255: each pixel is rounded to a level, by 1/8190 of white at most."""
    frames = [read_image(path) for path in list_images(transistor / "test")[:12]]
    deep = [(frame * (4095 / 255)).round().astype(np.uint16) for frame in frames]
    with Detector(transistor_bundles[0].path) as detector:
        expected = detector.score(frames).scores
        found = detector.score(deep, levels=(0, 4095)).scores
    np.testing.assert_allclose(found, expected, rtol=1e-3)


def test_tall_mono_frames(real_images: Path, transistor_bundles: tuple[Bundle, Bundle]) -> None:
    frames = [
        read_image(p) for p in list_images(real_images / "data" / "kolektorsdd_sample" / "test")
    ]
    assert {frame.ndim for frame in frames} == {2}
    with Detector(transistor_bundles[0].path, check_frames=False) as detector:
        result = detector.score(frames)
    assert len(result) == len(frames)
    assert np.isfinite(result.scores).all()


def test_resnet18_teacher(real_images: Path) -> None:
    """Weights with batch statistics and the same weights with them folded."""
    x = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    found = []
    for part, has_statistics in (("", False), ("batchnorm_", True)):
        teacher = RD4AD("resnet18").teacher.eval()
        weights = real_images / "weights" / f"resnet18_{part}stem_layer1-3.safetensors"
        assert load_teacher(teacher, "resnet18", weights) == weights.name
        assert has_batch_statistics(teacher) == has_statistics
        with torch.no_grad():
            found.append(teacher(x))
    for folded, whole in zip(*found, strict=True):
        assert (whole - folded).abs().max() <= 1e-6 * folded.abs().max()
    spec = input_spec(Recipe(backbone="resnet18"))
    assert (spec.height, spec.width) == (256, 256)
