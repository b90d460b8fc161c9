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
from rdx_fast.kernels import driver
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
        for precision in ("fp16", "bf16", "int8"):
            with pytest.raises(EngineError, match="of which fp32 of network fp16 can run here"):
                choose(half, "openvino", capabilities, precision)
    assert choose(half, "openvino", GRANITE_RAPIDS, "fp16").execution.label == "fp16"


def test_gpus(whole_bundle: Bundle) -> None:
    manifest = whole_bundle.manifest
    assert choose(manifest, "tensorrt").execution.label == "fp16"
    assert choose(manifest, "tensorrt", (), "int8").execution.stored == "int8_symmetric"
    assert choose(manifest, "torch").execution.label == "fp16"
    assert choose(manifest, "torch", (), "bf16").execution.label == "bf16 of network fp32"


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
            with pytest.raises(EngineError, match=f"this processor lacks {needs}"):
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


def test_auto_leaves_to_the_cpu_what_tensorrt_does_not_run(
    whole_bundle: Bundle, exported_as: Callable[..., Bundle], monkeypatch: pytest.MonkeyPatch
) -> None:
    class SomeGpu:
        architecture = 86

        def __init__(self, _: int) -> None: ...
        def __enter__(self) -> SomeGpu:
            return self

        def __exit__(self, *_: object) -> None: ...

    monkeypatch.setattr(driver, "Gpu", SomeGpu)
    whole = exported_as("int8")
    without_twin = Bundle(whole.path, holding(whole.manifest, "int8"))
    with pytest.warns(UserWarning, match="the CPU is used, though there is a GPU: bundle part"):
        engine = open_engine(without_twin)
    assert engine.description.startswith("openvino")
    engine.close()


def test_words_of_what_cannot_be_run(whole_bundle: Bundle) -> None:
    manifest = whole_bundle.manifest
    for backend, capabilities, precision, words in (
        ("openvino", AVX2, "bf16", r"this processor lacks BF16\. The bundle holds fp32, bf16 of"),
        ("openvino", AVX2, "fp16", r"this processor lacks FP16"),
        ("tensorrt", (), "bf16", r"it runs no bf16 \(openvino, torch may\)"),
        ("torch", (), "int8", r"it runs no int8 \(openvino, tensorrt may\)"),
    ):
        with pytest.raises(EngineError, match=words):
            choose(manifest, backend, capabilities, precision)
    small = holding(manifest, "fp32")
    with pytest.raises(EngineError, match=r"the bundle holds no int8 for it\. .* --precision auto"):
        choose(small, "openvino", AVX2, "int8")


def test_doctor_says_what_runs_here(whole_bundle: Bundle, exported_as) -> None:
    found = {f.part: f for f in examine(open_bundle(whole_bundle.path))}
    assert found["part.rdx"].present
    assert found["part.rdx"].found.startswith("runs as int8 on the CPU (fastest here of int8, ")
    assert all(feature in found["CPU"].found for feature in cpu_features())
