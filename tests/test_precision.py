"""Which of a bundle's networks runs, by what the machine has."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from rdx_fast import Detector, open_engine
from rdx_fast.bundle import Bundle, open_bundle
from rdx_fast.cpu import cpu_features
from rdx_fast.doctor import examine
from rdx_fast.engines import openvino
from rdx_fast.errors import EngineError
from rdx_fast.images import list_images, read_image
from rdx_fast.manifest import PRECISIONS, STORED, Manifest
from rdx_fast.precision import FASTEST_FIRST, choose

AVX2 = {"FP32", "INT8"}
ZEN4 = {*AVX2, "BF16"}
GRANITE_RAPIDS = {*ZEN4, "FP16"}


def holding(manifest: Manifest, *labels: str) -> Manifest:
    kept = tuple(e for e in manifest.executions if e.label in labels)
    assert len(kept) == len(labels)
    return replace(manifest, executions=kept)


@pytest.mark.parametrize("capabilities", [AVX2, ZEN4, GRANITE_RAPIDS])
def test_the_default_bundle_runs_in_int8_on_every_cpu(
    whole_bundle: Bundle, capabilities: set[str]
) -> None:
    choice = choose(whole_bundle.manifest, "openvino", capabilities)
    assert choice.execution.label == "int8"
    others = ["bf16 of network fp32"] * ("BF16" in capabilities) + ["fp32"]
    others += ["fp16"] * ("FP16" in capabilities)
    assert choice.reason == f"fastest here of {', '.join(['int8', *others])}"


@pytest.mark.parametrize(
    ("labels", "capabilities", "wanted"),
    [
        (("fp32", "bf16 of network fp32"), AVX2, "fp32"),
        (("fp32", "bf16 of network fp32"), ZEN4, "bf16 of network fp32"),
        (("fp32", "fp16"), GRANITE_RAPIDS, "fp32"),
        (("fp16",), GRANITE_RAPIDS, "fp16"),
        (("fp32",), set(), "fp32"),
    ],
)
def test_the_fastest_that_the_cpu_has(
    whole_bundle: Bundle, labels: tuple[str, ...], capabilities: set[str], wanted: str
) -> None:
    manifest = holding(whole_bundle.manifest, *labels)
    assert choose(manifest, "openvino", capabilities).execution.label == wanted


def test_float16_is_never_run_as_bfloat16(exported_as: Callable[..., Bundle]) -> None:
    half = exported_as("fp16").manifest
    for capabilities in (AVX2, ZEN4):
        assert choose(half, "openvino", capabilities).execution.label == "fp32 of network fp16"
        with pytest.raises(EngineError, match="nothing to run as fp16 with openvino"):
            choose(half, "openvino", capabilities, "fp16")
        with pytest.raises(EngineError, match="nothing to run as bf16 with openvino"):
            choose(half, "openvino", capabilities, "bf16")
    assert choose(half, "openvino", GRANITE_RAPIDS, "fp16").execution.label == "fp16"


def test_gpus(whole_bundle: Bundle) -> None:
    manifest = whole_bundle.manifest
    assert choose(manifest, "tensorrt").execution.label == "fp16"
    assert choose(manifest, "tensorrt", (), "int8").execution.stored == "int8_symmetric"
    assert choose(manifest, "torch").execution.label == "fp16"
    assert choose(manifest, "torch", (), "bf16").execution.label == "bf16 of network fp32"
    with pytest.raises(EngineError, match="nothing to run as int8 with torch"):
        choose(manifest, "torch", (), "int8")


def test_the_table_is_of_what_there_is() -> None:
    for options in FASTEST_FIRST.values():
        assert len({(o.stored, o.executed) for o in options}) == len(options)
        assert {o.stored for o in options} <= set(STORED)
        assert {o.executed for o in options} <= set(PRECISIONS)


def test_named_precisions(whole_bundle: Bundle, parts: Path) -> None:
    images = [read_image(p) for p in list_images(parts / "test")]
    able = openvino.capabilities()
    by_precision = {e.executed: e for e in whole_bundle.manifest.executions if e.stored != "fp16"}
    for precision, needs in (("fp32", "FP32"), ("bf16", "BF16"), ("int8", "INT8")):
        if needs not in able:
            with pytest.raises(EngineError, match=f"nothing to run as {precision}"):
                Detector(whole_bundle.path, "openvino", precision=precision)
            continue
        with Detector(whole_bundle.path, "openvino", precision=precision) as detector:
            result = detector.score(images)
        assert detector.engine.execution.executed == precision
        if precision != "int8":
            assert result.threshold == by_precision[precision].threshold.value
        assert f"{detector.engine.execution.label} (as asked for)" in result.engine
        assert all(feature in result.engine for feature in cpu_features())
    with pytest.raises(ValueError, match="precision is 'fp8', wanted one of fp32"):
        Detector(whole_bundle.path, "openvino", precision="fp8")
    with (
        Detector(open_engine(whole_bundle, "openvino")) as detector,
        pytest.raises(ValueError, match="precision are the opened engine's own"),
    ):
        Detector(detector.engine, precision="fp32")


def test_an_engine_that_would_execute_something_else_is_refused(
    whole_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if the CPU had what it has not, or OpenVINO did as it likes."""
    manifest = holding(whole_bundle.manifest, "fp32", "bf16 of network fp32")
    bundle = Bundle(whole_bundle.path, manifest)
    other = "BF16" in openvino.capabilities()
    monkeypatch.setattr(openvino, "capabilities", lambda: frozenset(AVX2 if other else ZEN4))
    if other:
        with Detector(open_engine(bundle, "openvino")) as detector:
            assert detector.engine.execution.label == "fp32"
    else:
        with pytest.raises(EngineError, match=r"asked for bf16, OpenVINO .* would execute f32"):
            open_engine(bundle, "openvino")


def test_doctor_says_what_runs_here(whole_bundle: Bundle, exported_as) -> None:
    found = {f.part: f for f in examine(open_bundle(whole_bundle.path))}
    assert found["part.rdx"].present
    assert found["part.rdx"].found.startswith("runs as int8 on the CPU (fastest here of int8, ")
    assert all(feature in found["CPU"].found for feature in cpu_features())
