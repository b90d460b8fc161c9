from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from trained import WIDE

from rdx_fast import Detector
from rdx_fast.bundle import Bundle
from rdx_fast.calibration import calibrate_threshold
from rdx_fast.engines.openvino import OpenVINONetwork
from rdx_fast.engines.torch_engine import TorchEngine
from rdx_fast.errors import BundleError, EngineError, ExportError
from rdx_fast.export import check, export_bundle
from rdx_fast.export.check import TOLERANCE, NetworkMaps, check_execution
from rdx_fast.export.fold import fold_batch_norm
from rdx_fast.export.precision import to_half
from rdx_fast.export.reference import OnnxNetwork, RoundedNetwork
from rdx_fast.images import list_images, read_image
from rdx_fast.models import BACKBONES, METHODS, make_network
from rdx_fast.postprocess import AnomalyMapper
from rdx_fast.precision import choose
from rdx_fast.preprocess import to_input
from rdx_fast.training import Checkpoint


def operators(bundle: Bundle, stored: str) -> list[str]:
    return [node.op_type for node in onnx.load(bundle.network(stored)).graph.node]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(n, marks=[] if n in ("resnet18", "efficientnet_lite0") else [pytest.mark.slow])
        for n in BACKBONES
    ],
)
def test_folding_changes_nothing(name: str, method: str) -> None:
    torch.manual_seed(0)
    network = make_network(method, name).train()
    x = torch.randn(4, 3, 64, 64)
    with torch.no_grad():
        network(x)  # gives the norms statistics that matter
        expected = network.eval()(x)
        folded = fold_batch_norm(network)
        found = folded(x)
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in folded.modules())
    for wanted, got in zip([*expected[0], *expected[1]], [*found[0], *found[1]], strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-4 * wanted.abs().max().item())


def test_manifest_tells_all(bundle: Bundle, checkpoint: Checkpoint) -> None:
    m = bundle.manifest
    assert (m.format, m.method, m.backbone) == (2, "rd4ad", "efficientnet_lite0")
    assert m.networks == {"fp32": "network_fp32.onnx"}
    (execution,) = m.executions
    assert (execution.stored, execution.executed) == ("fp32", "fp32")
    assert (m.input.height, m.input.width) == (64, 96)
    assert [(s.channels, s.height, s.width) for s in m.scales] == [
        (24, 16, 24),
        (40, 8, 12),
        (112, 4, 6),
    ]
    assert (m.map.fusion, m.map.sigma, m.map.truncate) == ("add", 4.0, 4.0)
    assert execution.threshold.good_images == 20
    assert execution.threshold.expected_false_reject_rate == pytest.approx(1 / 21)
    check = execution.check
    assert (check.images, check.map_images) == (20, 16)
    assert 0 < check.score_difference <= check.score_tolerance
    assert 0 < check.map_difference <= check.map_tolerance
    assert check.score_difference_of_spread is not None
    assert check.score_difference_of_spread > check.score_difference
    assert check.verdicts_that_differ == 0  # of the same scores; see test_verdicts_that_differ
    assert check.checked_by.startswith("openvino ")
    assert m.training["images"] == 24
    assert m.training["images_sha256"] == checkpoint.images
    assert {"rdx_fast", "torch", "openvino", "onnx"} <= m.versions.keys()


def test_network_file(bundle: Bundle) -> None:
    assert "BatchNormalization" not in operators(bundle, "fp32")
    graph = onnx.load(bundle.network("fp32")).graph
    assert [i.name for i in graph.input] == ["image"]
    assert [o.name for o in graph.output] == [
        f"{part}_{s}" for part in ("teacher", "student") for s in range(3)
    ]
    for value in (*graph.input, *graph.output):
        batch = value.type.tensor_type.shape.dim[0]
        assert batch.dim_param
        assert value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT


# What each choice holds: stored networks, and (stored, executed).
CONTENTS = {
    "fp16": ({"fp16"}, [("fp16", "fp16"), ("fp16", "fp32")]),
    "bf16": ({"fp32"}, [("fp32", "bf16"), ("fp32", "fp32")]),
    "int8": ({"int8", "int8_symmetric"}, [("int8", "int8"), ("int8_symmetric", "int8")]),
    "auto": (
        {"fp32", "fp16", "int8", "int8_symmetric"},
        [
            ("fp32", "fp32"),
            ("fp32", "bf16"),
            ("fp16", "fp16"),
            ("int8", "int8"),
            ("int8_symmetric", "int8"),
        ],
    ),
}


@pytest.mark.parametrize("precision", CONTENTS)
def test_contents(precision: str, exported_as: Callable[..., Bundle]) -> None:
    check_contents(precision, exported_as(precision))


@pytest.mark.slow
def test_contents_of_the_other_method(exported_as: Callable[..., Bundle], parts: Path) -> None:
    bundle = exported_as("auto", "rd-expert")
    assert bundle.manifest.method == "rd-expert"
    assert bundle.manifest.training["recipe"]["injection"] == "guided"
    check_contents("auto", bundle)
    with Detector(bundle.path, "openvino", precision="fp32") as detector:
        notch = detector.score([read_image(p) for p in list_images(parts / "test" / "notch")])
        fine = detector.score([read_image(p) for p in list_images(parts / "test" / "good")])
    assert notch.scores.min() > fine.scores.max()


def check_contents(precision: str, bundle: Bundle) -> None:
    m = bundle.manifest
    stored, executions = CONTENTS[precision]
    assert set(m.networks) == stored
    assert [(e.stored, e.executed) for e in m.executions] == executions
    assert set(m.networks.values()) == set(m.files)
    assert m.left_out == ()
    for network in stored:
        types = {t.data_type for t in onnx.load(bundle.network(network)).graph.initializer}
        assert (onnx.TensorProto.FLOAT16 in types) == (network == "fp16")
        assert ("QuantizeLinear" in operators(bundle, network)) == network.startswith("int8")
    for e in m.executions:
        assert e.check.score_difference <= e.check.score_tolerance
        assert e.check.map_difference <= e.check.map_tolerance
    # Each with what it says: CPUs round in float16 for no one, so that is torch's to check.
    by = {(e.stored, e.executed): e.check.checked_by for e in m.executions}
    for which, name in by.items():
        if which in (("int8", "int8"), ("fp32", "fp32"), ("fp16", "fp32")):
            assert name.startswith("openvino ")
        elif which == ("int8_symmetric", "int8"):
            assert name.startswith("onnxruntime ")
        elif which == ("fp16", "fp16"):
            assert name.startswith("torch ")


def test_thresholds_are_of_the_precision_executed(whole_bundle: Bundle, parts: Path) -> None:
    images = [read_image(p) for p in list_images(parts / "calibration")]
    for precision in ("fp32", "int8"):
        with Detector(whole_bundle.path, "openvino", precision=precision) as detector:
            result = detector.score(images)
        # The largest of so few, and no other.
        assert float(result.scores.max()) == pytest.approx(result.threshold, rel=1e-6)
        assert not result.is_anomalous.any()
        assert result.threshold == detector.threshold.value
    thresholds = [e.threshold.value for e in whole_bundle.manifest.executions]
    assert len(set(thresholds)) == len(thresholds)


def test_what_fails_its_check_is_left_out(
    checkpoint: Checkpoint, parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Without int8 and bfloat16, which take longest to make and check.
    wanted = (("fp32", "fp32"), ("fp16", "fp16"))
    monkeypatch.setitem(check.CONTENTS, "auto", wanted)
    good = list_images(parts / "calibration")
    strict = WIDE | {"fp16": (1e-9, 1e-9)}
    bundle = export_bundle(checkpoint, good, tmp_path / "part.rdx", tolerance=strict)
    m = bundle.manifest
    assert [e.label for e in m.executions] == ["fp32"]
    assert set(m.networks) == {"fp32"}
    assert {p.name for p in bundle.path.glob("*.onnx")} == set(m.files)
    (left,) = m.left_out
    assert left.label == "fp16"
    assert "fp16 does not score as the trained network" in left.reason
    with pytest.raises(EngineError, match=r"fp16 was left out at export \(fp16 does not score"):
        choose(m, "tensorrt", (), "fp16")


@pytest.mark.parametrize("executed", ["fp16", "bf16"])
def test_rounding_stands_in_for_half_precision(
    executed: str, exported_as: Callable[..., Bundle], parts: Path
) -> None:
    """Torch's own half precision is the same arithmetic, step by step, and much slower."""
    bundle = exported_as(executed)
    stored = "fp16" if executed == "fp16" else "fp32"
    mapper = AnomalyMapper(bundle.manifest.map, bundle.manifest.scales)
    file = bundle.network(stored)
    rounded = RoundedNetwork(file, executed)
    real = TorchEngine(bundle, "cpu", precision=executed)
    exact = OpenVINONetwork(file, "fp32")
    for path in list_images(parts / "test")[:3]:
        image = to_input([read_image(path)], bundle.manifest.input)
        a, b, c = (
            mapper.maps(chunk.teacher, chunk.student)
            for chunk in (next(network.run(image)) for network in (rounded, real, exact))
        )
        # Not the same errors, since sums are in another order, but of the same size.
        assert 0.2 < np.abs(a - c).mean() / np.abs(b - c).mean() < 5


def test_verdicts_that_differ() -> None:
    rng = np.random.default_rng(0)
    good = rng.normal(1, 0.1, 40).astype(np.float32)
    spec = calibrate_threshold(good)

    def differ(scores: NDArray[np.float32]) -> int | None:
        other = NetworkMaps(scores, [good[:1]])
        wide = (1e9, 1e9)
        trained = NetworkMaps(good, [good[:1]])
        made = check_execution("x", wide, "test", trained, other, spec, calibrate_threshold(scores))
        return made.verdicts_that_differ

    assert differ(good) == differ(1.3 * good) == 0  # a shift is what the threshold is for
    order = np.argsort(good)
    swapped = good.copy()
    swapped[order[-1]], swapped[order[0]] = good[order[0]], good[order[-1]]
    assert differ(swapped) == 2  # another image is the one that stands out


def test_int8_is_what_it_says(exported_as: Callable[..., Bundle]) -> None:
    """Unsigned activations, weights of seven bits where the sums of two products could overflow,
    few float layers: as stored and as executed."""
    bundle = exported_as("int8")
    graph = onnx.load(bundle.network("int8")).graph
    constants = {c.name: numpy_helper.to_array(c) for c in graph.initializer}
    makers = {name: node for node in graph.node for name in node.output}
    activations = [n for n in graph.node if n.op_type == "QuantizeLinear"]
    assert len(activations) > 20
    assert {constants[n.input[2]].dtype for n in activations} == {np.dtype(np.uint8)}
    convolutions = [n for n in graph.node if n.op_type in ("Conv", "ConvTranspose")]
    floats = [n.name for n in convolutions if n.input[1] not in makers]
    # The layers of few channels at half the input's size, of teacher and none of the student.
    assert len(floats) == 3
    for node in convolutions:
        if node.name not in floats:
            weights = constants[makers[node.input[1]].input[0]]
            assert weights.dtype == np.int8
            depthwise = weights.shape[1] == 1  # its products are summed one by one
            assert np.abs(weights.astype(int)).max() <= (127 if depthwise else 64)

    engine = OpenVINONetwork(bundle.network("int8"), "int8")
    assert engine.convolutions["u8"] + engine.convolutions["i8"] == len(convolutions) - len(floats)
    with pytest.raises(EngineError, match=r"asked for fp32, OpenVINO .* executes"):
        OpenVINONetwork(bundle.network("int8"), "fp32")


def test_mul_fusion(checkpoint: Checkpoint, parts: Path, tmp_path: Path) -> None:
    good = list_images(parts / "calibration")
    bundle = export_bundle(
        checkpoint, good, tmp_path / "mul.rdx", precision="fp32", fusion="mul", sigma=2.0
    )
    assert (bundle.manifest.map.fusion, bundle.manifest.map.sigma) == ("mul", 2.0)
    with Detector(bundle.path) as detector:
        notch = detector.score([read_image(p) for p in list_images(parts / "test" / "notch")])
        fine = detector.score([read_image(p) for p in list_images(parts / "test" / "good")])
    assert notch.scores.min() > fine.scores.max()


@pytest.mark.parametrize("precision", ["auto", "fp16"])
def test_engine_that_scores_differently_is_not_written(
    precision: str,
    checkpoint: Checkpoint,
    parts: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """float32 always has to, every other precision if it was asked for."""
    failing = "fp16" if precision == "fp16" else "fp32"
    good = list_images(parts / "calibration")
    strict = WIDE | {failing: (1e-12, 1e-12)}
    monkeypatch.setitem(check.CONTENTS, "auto", (("fp32", "fp32"), ("fp32", "bf16")))
    output = tmp_path / "part.rdx"
    with pytest.raises(ExportError, match=f"{failing} does not score as the trained network"):
        export_bundle(checkpoint, good, output, precision=precision, tolerance=strict)
    assert list(tmp_path.iterdir()) == []


def test_what_half_precision_cannot_hold_stays_in_float32(
    bundle: Bundle, checkpoint: Checkpoint, parts: Path, tmp_path: Path
) -> None:
    # The student's last scale is a linear head: a factor there leaves every cosine as it is.
    network = dict(checkpoint.network)
    network["student.heads.0.weight"] = network["student.heads.0.weight"] * 1e6
    loud = replace(checkpoint, network=network)
    good = list_images(parts / "calibration")
    half = export_bundle(loud, good, tmp_path / "fp16.rdx", precision="fp16", tolerance=WIDE)
    kept = [
        constant.name
        for constant in onnx.load(half.network("fp16")).graph.initializer
        if constant.data_type == onnx.TensorProto.FLOAT and len(constant.dims) == 4
    ]
    assert kept == ["network.student.heads.0.weight"]
    assert types(half) == (onnx.TensorProto.FLOAT16, onnx.TensorProto.FLOAT)
    images = [read_image(p) for p in list_images(parts / "test")]
    # In half precision really, as a GPU runs it.
    with Detector(bundle.path) as a, Detector(TorchEngine(half, "cpu")) as b:
        np.testing.assert_allclose(b.score(images).scores, a.score(images).scores, rtol=1e-2)


def types(bundle: Bundle) -> tuple[int, int]:
    """Of input and outputs, as ONNX numbers them."""
    graph = onnx.load(bundle.network("fp16")).graph
    (image,) = {value.type.tensor_type.elem_type for value in graph.input}
    (maps,) = {value.type.tensor_type.elem_type for value in graph.output}
    return image, maps


def test_half_precision_runs_from_end_to_end(exported_as: Callable[..., Bundle]) -> None:
    bundle = exported_as("fp16")
    assert types(bundle) == (onnx.TensorProto.FLOAT16, onnx.TensorProto.FLOAT16)
    assert "Cast" not in operators(bundle, "fp16")


def loud_network() -> torch.nn.Module:
    class Loud(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.quiet = torch.nn.Conv2d(3, 4, 1)
            self.loud = torch.nn.Conv2d(4, 4, 1)
            self.calm = torch.nn.Conv2d(4, 2, 1)

        def forward(self, x: torch.Tensor) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
            a = torch.relu(self.quiet(x))
            b = torch.relu(self.loud(a)) + a
            return [a], [self.calm(b)]

    network = Loud().eval()
    with torch.no_grad():
        network.loud.weight.copy_(torch.full((4, 4, 1, 1), 3e4))
        network.calm.weight.mul_(1e-5)
    return network


def test_only_what_must_runs_in_float32() -> None:
    torch.manual_seed(0)
    network = loud_network()
    image = torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        expected = network(image)
        half = to_half(torch.fx.symbolic_trace(network), [image])
        found = half(image.half())
    assert found[0][0].dtype == found[1][0].dtype == torch.float16
    torch.testing.assert_close(found[1][0].float(), expected[1][0], rtol=1e-2, atol=1e-3)
    weights = {name: p.dtype for name, p in half.named_parameters() if name.endswith("weight")}
    assert weights == {
        "quiet.weight": torch.float16,
        "loud.weight": torch.float32,
        "calm.weight": torch.float32,
    }
    naive = loud_network().half()
    with torch.no_grad():
        assert not torch.isfinite(naive(image.half())[1][0]).all()


def test_the_symmetric_twin(exported_as: Callable[..., Bundle], parts: Path) -> None:
    bundle = exported_as("int8")
    twin = onnx.load(bundle.network("int8_symmetric"))
    constants = {c.name: numpy_helper.to_array(c) for c in twin.graph.initializer}
    quantisers = [n for n in twin.graph.node if n.op_type == "QuantizeLinear"]
    assert len(quantisers) > 20
    for node in twin.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            zero = constants[node.input[2]]
            assert zero.dtype == np.int8
            assert not zero.any()
    assert [n.op_type for n in twin.graph.node] == operators(bundle, "int8")

    mapper = AnomalyMapper(bundle.manifest.map, bundle.manifest.scales)
    images = [to_input([read_image(p)], bundle.manifest.input) for p in list_images(parts / "test")]
    scores = {}
    for path in map(bundle.network, ("int8", "int8_symmetric")):
        network = OnnxNetwork(path)
        chunks = [next(network.run(image)) for image in images]
        scores[path] = np.array([mapper(c.teacher, c.student).maxima[0] for c in chunks])
    # Two roundings of eight bits, each of which may differ from the trained network as much.
    allowed = TOLERANCE["int8"][0] * bundle.manifest.executions[0].threshold.value
    np.testing.assert_allclose(*scores.values(), rtol=0, atol=allowed)
    assert not np.array_equal(*scores.values())


def test_choices(checkpoint: Checkpoint, parts: Path, tmp_path: Path, bundle: Bundle) -> None:
    good = list_images(parts / "calibration")
    with pytest.raises(ValueError, match="precision is 'fp8', wanted one of auto, fp32"):
        export_bundle(checkpoint, good, tmp_path / "a.rdx", precision="fp8")
    with pytest.raises(ValueError, match="no good images"):
        export_bundle(checkpoint, [], tmp_path / "a.rdx")
    with pytest.raises(BundleError, match="exists"):
        export_bundle(checkpoint, good, bundle.path)
