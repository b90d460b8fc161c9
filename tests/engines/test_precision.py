"""Which of a bundle's networks runs, by what the machine has."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rdx_fast import Detector, engines, open_engine
from rdx_fast.bundle.bundle import Bundle
from rdx_fast.bundle.manifest import PRECISIONS, STORED, LeftOut, Manifest
from rdx_fast.cpu import cpu_features
from rdx_fast.doctor import examine
from rdx_fast.engines.openvino import compilation
from rdx_fast.engines.openvino import engine as engine_module
from rdx_fast.engines.openvino import network as network_module
from rdx_fast.engines.openvino.network import OpenVINONetwork
from rdx_fast.errors import DeviceLostError, EngineError
from rdx_fast.export.check import TOLERANCE
from rdx_fast.images import list_images, read_image
from rdx_fast.kernels.gpu import driver
from rdx_fast.precision import FASTEST_FIRST, FLOAT8, choose, gpu_capabilities

AVX2 = {"FP32", "INT8"}
COOPER_LAKE = {*AVX2, "BF16"}
ZEN4 = {*COOPER_LAKE, "FAST_BF16"}
GRANITE_RAPIDS = {*ZEN4, "FP16"}


def holding(manifest: Manifest, *labels: str) -> Manifest:
    kept = tuple(e for e in manifest.executions if e.label in labels)
    assert len(kept) == len(labels)
    networks = {stored: manifest.networks[stored] for stored in {e.stored for e in kept}}
    return replace(manifest, executions=kept, networks=networks)


@pytest.mark.parametrize("capabilities", [AVX2, ZEN4, GRANITE_RAPIDS])
def test_the_default_bundle_runs_in_int8_on_every_cpu(
    whole_bundle: Bundle, capabilities: set[str]
) -> None:
    choice = choose(whole_bundle.manifest, "openvino", capabilities)
    assert choice.execution.label == "int8"
    others = ["bf16 of network fp32"] * ("BF16" in capabilities) + ["fp32"]
    assert choice.reason == f"fastest here of {', '.join(['int8', *others])}"


@pytest.mark.parametrize(
    ("labels", "capabilities", "wanted"),
    [
        (("fp32", "bf16 of network fp32"), AVX2, "fp32"),
        (("fp32", "bf16 of network fp32"), ZEN4, "bf16 of network fp32"),
        (("fp32", "bf16 of network fp32"), COOPER_LAKE, "fp32"),
        (("bf16 of network fp32",), COOPER_LAKE, "bf16 of network fp32"),
        (("fp32", "fp16"), GRANITE_RAPIDS, "fp32"),
        (("fp32",), set(), "fp32"),
    ],
)
def test_the_fastest_that_the_cpu_has(
    whole_bundle: Bundle, labels: tuple[str, ...], capabilities: set[str], wanted: str
) -> None:
    manifest = holding(whole_bundle.manifest, *labels)
    assert choose(manifest, "openvino", capabilities).execution.label == wanted


@pytest.mark.slow
def test_float16_runs_in_float32_on_cpus(exported_as: Callable[..., Bundle]) -> None:
    half = exported_as("fp16").manifest
    for capabilities in (AVX2, ZEN4, GRANITE_RAPIDS):
        assert choose(half, "openvino", capabilities).execution.label == "fp32 of network fp16"
        for precision in ("fp16", "bf16", "int8"):
            with pytest.raises(EngineError, match="Choose precision fp32, which"):
                choose(half, "openvino", capabilities, precision)


def test_gpus(whole_bundle: Bundle) -> None:
    manifest = whole_bundle.manifest
    assert choose(manifest, "tensorrt").execution.label == "fp16"
    assert choose(manifest, "tensorrt", (), "int8").execution.stored == "int8_symmetric"
    assert choose(manifest, "torch").execution.label == "fp16"
    assert choose(manifest, "torch", (), "bf16").execution.label == "bf16 of network fp32"


def test_float8_runs_if_it_is_requested_or_alone(whole_bundle: Bundle) -> None:
    held = whole_bundle.manifest
    float8 = replace(held.executions[0], stored="fp8", executed="fp8")
    files = {**held.files, "network_fp8.onnx": next(iter(held.files.values()))}
    networks = {**held.networks, "fp8": "network_fp8.onnx"}
    manifest = replace(held, executions=(*held.executions, float8), networks=networks, files=files)
    ada, ampere = map(gpu_capabilities, (89, 86))
    assert choose(manifest, "tensorrt", ada).execution.label == "fp16"
    assert choose(manifest, "tensorrt", ada, "fp8").execution.label == "fp8"
    alone = holding(manifest, "fp8")
    assert choose(alone, "tensorrt", gpu_capabilities(120)).execution.label == "fp8"
    for held_here in (manifest, alone):
        words = r"fp8 needs compute capability 8\.9, which this processor lacks"
        with pytest.raises(EngineError, match=words):
            choose(held_here, "tensorrt", ampere, "fp8")
    with pytest.raises(EngineError, match=r"does not execute fp8 \(backend tensorrt does\)"):
        choose(alone, "openvino", GRANITE_RAPIDS, "fp8")
    for backend, capabilities in (
        ("openvino", GRANITE_RAPIDS),
        ("tensorrt", ampere),
        ("torch", ()),
    ):
        for precision in (None, "fp8", "fp32"):
            words = r"\(fp8 runs on GPUs of compute capability 8\.9 or later, with TensorRT\): exp"
            with pytest.raises(EngineError, match=words):
                choose(alone, backend, capabilities, precision)
    with pytest.raises(EngineError, match=r"it holds fp8\. No network of the bundle runs here"):
        choose(alone, "tensorrt", ampere)


def test_the_table_is_of_what_there_is() -> None:
    for options in FASTEST_FIRST.values():
        assert len(set(options)) == len(options)
        assert {o.stored for o in options} <= set(STORED)
        assert {o.executed for o in options} <= set(PRECISIONS)
        assert {o.needs for o in options} <= {None, "INT8", "BF16", "FAST_BF16", FLOAT8}


@pytest.mark.parametrize("hidden", [(), ("BF16", "FAST_BF16")])
def test_named_precisions(
    whole_bundle: Bundle, parts: Path, hidden: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    images = [read_image(p) for p in list_images(parts / "test")]
    able = compilation.capabilities() - set(hidden)
    monkeypatch.setattr(engine_module, "capabilities", lambda: able)
    by_precision = {e.executed: e for e in whole_bundle.manifest.executions if e.stored != "fp16"}
    for precision, needs in (("fp32", "FP32"), ("bf16", "BF16"), ("int8", "INT8")):
        if needs not in able:
            with pytest.raises(EngineError, match=f"needs {needs}, which this processor lacks"):
                Detector(whole_bundle.path, "openvino", precision=precision)
            continue
        with Detector(whole_bundle.path, "openvino", precision=precision) as detector:
            result = detector.score(images)
        assert detector.engine.execution.executed == result.executed == precision
        if precision != "int8":
            assert result.threshold == by_precision[precision].threshold.value
        assert f"{detector.engine.execution.label} (as requested)" in result.engine
        assert all(feature in result.engine for feature in cpu_features())
    with pytest.raises(ValueError, match="precision is 'fp4', wanted one of fp32"):
        Detector(whole_bundle.path, "openvino", precision="fp4")
    with (
        Detector(open_engine(whole_bundle, "openvino")) as detector,
        pytest.raises(ValueError, match="an opened engine was given"),
    ):
        Detector(detector.engine, precision="fp32")


def test_auto_leaves_to_the_cpu_what_tensorrt_does_not_run(
    whole_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    class SomeGpu:
        architecture = 86

        def __init__(self, _: int) -> None: ...
        def __enter__(self) -> SomeGpu:
            return self

        def __exit__(self, *_: object) -> None: ...

    monkeypatch.setattr(driver, "Gpu", SomeGpu)
    monkeypatch.setattr(engines, "find_spec", lambda name: name)  # whatever is installed
    without_twin = Bundle(whole_bundle.path, holding(whole_bundle.manifest, "int8"))
    with pytest.warns(UserWarning, match="the CPU is used although there is a GPU: bundle part"):
        engine = open_engine(without_twin)
    assert engine.description.startswith("openvino")
    engine.close()


def test_auto_is_no_way_around_a_lost_gpu(
    whole_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(_: int) -> None:
        raise DeviceLostError("start a new process")

    monkeypatch.setattr(driver, "Gpu", refused)
    monkeypatch.setattr(engines, "find_spec", lambda name: name)
    with pytest.raises(DeviceLostError, match="start a new process"):
        open_engine(whole_bundle)


def test_words_of_what_cannot_be_run(whole_bundle: Bundle) -> None:
    manifest = whole_bundle.manifest
    for backend, capabilities, precision, words in (
        (
            "openvino",
            AVX2,
            "bf16",
            r"bf16 of network fp32 needs BF16, which this processor lacks\. Choose precision int8 ",
        ),
        ("tensorrt", (), "bf16", r"does not execute bf16 \(backend openvino or torch does\)"),
        ("torch", (), "int8", r"does not execute int8 \(backend openvino or tensorrt does\)"),
    ):
        with pytest.raises(EngineError, match=words):
            choose(manifest, backend, capabilities, precision)
    small = holding(manifest, "fp32")
    left = LeftOut("int8", "int8", "it scored otherwise")
    with pytest.raises(EngineError, match=r"int8 is not in the bundle\. .* --precision\), or"):
        choose(small, "openvino", AVX2, "int8")
    with pytest.raises(EngineError, match=r"int8 was left out at export \(it scored otherwise\)"):
        choose(replace(small, left_out=(left,)), "openvino", AVX2, "int8")
    with pytest.raises(EngineError, match=r"it holds bf16 of network fp32\. No network"):
        choose(holding(manifest, "bf16 of network fp32"), "tensorrt")


def executing(counts: dict[str, int]) -> Callable[[object], Counter[str]]:
    return lambda _: Counter(counts)


@pytest.mark.parametrize(
    ("executed", "counts", "opens"),
    [
        ("fp32", {"f32": 20}, True),
        ("fp32", {"f32": 19, "i8": 1}, False),
        ("fp32", {"f32": 19, "bf16": 1}, False),
        ("fp32", {}, True),
        ("int8", {"f32": 3, "i8": 17}, True),
        ("int8", {"f32": 19, "i8": 1}, False),
        ("int8", {"f32": 20}, False),
        ("int8", {}, False),
    ],
)
def test_what_is_executed_is_what_was_asked_for(
    executed: str,
    counts: dict[str, int],
    opens: bool,
    whole_bundle: Bundle,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whatever this CPU has: as if OpenVINO had compiled so many convolutions so."""
    monkeypatch.setattr(network_module, "executed_convolutions", executing(counts))
    file = whole_bundle.network(executed)
    if opens:
        OpenVINONetwork(file, executed, 1)
        return
    with pytest.raises(EngineError, match=f"asked for {executed}, OpenVINO .* would execute"):
        OpenVINONetwork(file, executed, 1)
    with pytest.raises(EngineError, match=f"{executed}: asked for .*: choose another precision"):
        open_engine(whole_bundle, "openvino", 1, precision=executed)


def test_bfloat16_is_not_executed_otherwise() -> None:
    """No CPU has to have it for that."""
    compilation.check_executed(Counter({"bf16": 17, "f32": 3}), "bf16")
    for counts in ({"f32": 20}, {"bf16": 3, "f32": 17}, {"f16": 20}):
        with pytest.raises(EngineError, match=r"asked for bf16, OpenVINO .* would"):
            compilation.check_executed(Counter(counts), "bf16")


def test_the_next_runs_if_the_fastest_is_not_executed(
    whole_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network_module, "executed_convolutions", executing({"f32": 20}))
    monkeypatch.setattr(engine_module, "capabilities", lambda: AVX2)
    with pytest.warns(UserWarning, match="fp32 is executed instead of int8: asked for int8, Open"):
        engine = open_engine(whole_bundle, "openvino", 1)
    assert engine.execution.label == "fp32"
    assert ", fp32 (fastest here of fp32, 1 rejected by OpenVINO)" in engine.description
    engine.close()
    monkeypatch.setattr(network_module, "executed_convolutions", executing({"f16": 20}))
    with pytest.raises(EngineError, match=r"int8: asked for .*; fp32: asked for .*: choose"):
        open_engine(whole_bundle, "openvino", 1)


@pytest.mark.parametrize("isa", ["AVX2", "AVX512_CORE", "AVX512_CORE_VNNI"])
def test_a_bundle_runs_on_other_cpus(isa: str, whole_bundle: Bundle, parts: Path) -> None:
    """Instructions of a newer CPU than ``isa`` hidden from OpenVINO, if this one has them."""
    script = (
        "import json, sys\nfrom pathlib import Path\nfrom rdx_fast import Detector\n"
        "from rdx_fast.images import list_images, read_image\n"
        "images = [read_image(p) for p in list_images(Path(sys.argv[2]))]\n"
        "found = {}\n"
        "for precision in ('int8', 'fp32'):\n"
        "    with Detector(sys.argv[1], 'openvino', 1, precision=precision) as detector:\n"
        "        result = detector.score(images)\n"
        "    found[precision] = [result.scores.tolist(), result.is_anomalous.tolist()]\n"
        "print(json.dumps(found))\n"
    )
    images = parts / "test"
    done = subprocess.run(
        [sys.executable, "-P", "-c", script, str(whole_bundle.path), str(images)],
        env=os.environ | {"ONEDNN_MAX_CPU_ISA": isa},
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(done.stdout)
    for precision, allowed in (("int8", TOLERANCE["int8"][0]), ("fp32", TOLERANCE["fp32"][0])):
        with Detector(whole_bundle.path, "openvino", 1, precision=precision) as detector:
            here = detector.score([read_image(p) for p in list_images(images)])
        scores, verdicts = found[precision]
        np.testing.assert_allclose(scores, here.scores, rtol=0, atol=allowed * here.threshold)
        assert verdicts == here.is_anomalous.tolist()


def test_doctor_says_what_runs_here(
    whole_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compilation, "capabilities", lambda: AVX2)
    found = {f.part: f for f in examine(whole_bundle.path)}
    assert found["bundle part.rdx"].present
    assert found["bundle part.rdx"].found == "runs as int8 on the CPU (fastest here of int8, fp32)"
    assert found["bundle part.rdx"].advice == (
        "bf16 of network fp32 needs BF16, which this processor lacks; "
        "for GPUs: fp16, int8 of network int8_symmetric"
    )
    assert found["OpenVINO"].found.endswith("executes fp32, int8 on this CPU")
    assert all(feature in found["CPU"].found for feature in cpu_features())

    broken = tmp_path / "broken.rdx"
    broken.mkdir()
    found = {f.part: f for f in examine(broken)}
    assert not found["bundle broken.rdx"].present
    assert "manifest.json is missing" in found["bundle broken.rdx"].advice
    assert found["CPU"].present
