from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from rdx_fast import Detector
from rdx_fast.bundle import Bundle
from rdx_fast.engines.torch_engine import TorchEngine
from rdx_fast.errors import BundleError, ExportError
from rdx_fast.export import export_bundle
from rdx_fast.export.exporter import TOLERANCE
from rdx_fast.export.fold import fold_batch_norm
from rdx_fast.export.precision import to_half
from rdx_fast.export.reference import OnnxNetwork
from rdx_fast.images import list_images, read_image
from rdx_fast.models import BACKBONES, METHODS, make_network
from rdx_fast.postprocess import AnomalyMapper
from rdx_fast.preprocess import to_input
from rdx_fast.training import Checkpoint


def operators(bundle: Bundle) -> list[str]:
    return [node.op_type for node in onnx.load(bundle.network).graph.node]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", list(BACKBONES))
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
    assert (m.method, m.backbone, m.precision) == ("rd4ad", "efficientnet_lite0", "fp32")
    assert (m.input.height, m.input.width) == (64, 96)
    assert [(s.channels, s.height, s.width) for s in m.scales] == [
        (24, 16, 24),
        (40, 8, 12),
        (112, 4, 6),
    ]
    assert (m.map.fusion, m.map.sigma, m.map.truncate) == ("add", 4.0, 4.0)
    assert m.threshold.good_images == 20
    assert m.threshold.expected_false_reject_rate == pytest.approx(1 / 21)
    assert m.check.images == 16
    assert 0 < m.check.score_difference <= m.check.tolerance
    assert m.training["images"] == 24
    assert m.training["images_sha256"] == checkpoint.images
    assert {"rdx_fast", "torch", "openvino", "onnx"} <= m.versions.keys()


def test_network_file(bundle: Bundle) -> None:
    assert "BatchNormalization" not in operators(bundle)
    graph = onnx.load(bundle.network).graph
    assert [i.name for i in graph.input] == ["image"]
    assert [o.name for o in graph.output] == [
        f"{part}_{s}" for part in ("teacher", "student") for s in range(3)
    ]
    for value in (*graph.input, *graph.output):
        batch = value.type.tensor_type.shape.dim[0]
        assert batch.dim_param
        assert value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT


@pytest.mark.parametrize("precision", ["fp16", "bf16", "int8"])
@pytest.mark.filterwarnings("ignore:.*this CPU has no:UserWarning")
def test_precisions(
    precision: str, checkpoint: Checkpoint, bundle: Bundle, parts: Path, tmp_path: Path
) -> None:
    check_precision(precision, checkpoint, bundle, parts, tmp_path)


@pytest.mark.parametrize("precision", ["fp16", "bf16", "int8"])
@pytest.mark.filterwarnings("ignore:.*this CPU has no:UserWarning")
def test_precisions_of_the_other_method(
    precision: str, expert_checkpoint: Checkpoint, parts: Path, tmp_path: Path
) -> None:
    bundle = export_bundle(
        expert_checkpoint, list_images(parts / "calibration"), tmp_path / "fp32.rdx"
    )
    assert bundle.manifest.method == "rd-expert"
    assert bundle.manifest.training["recipe"]["injection"] == "guided"
    check_precision(precision, expert_checkpoint, bundle, parts, tmp_path)
    with Detector(bundle.path) as detector:
        notch = detector.score([read_image(p) for p in list_images(parts / "test" / "notch")])
        fine = detector.score([read_image(p) for p in list_images(parts / "test" / "good")])
    assert notch.scores.min() > fine.scores.max()


def check_precision(
    precision: str, checkpoint: Checkpoint, bundle: Bundle, parts: Path, tmp_path: Path
) -> None:
    good = list_images(parts / "calibration")
    other = export_bundle(checkpoint, good, tmp_path / "other.rdx", precision=precision)
    assert other.manifest.check.tolerance == TOLERANCE[precision]
    assert other.manifest.check.score_difference <= TOLERANCE[precision]
    assert precision in other.manifest.check.executed_precision
    types = {t.data_type for t in onnx.load(other.network).graph.initializer}
    assert (onnx.TensorProto.FLOAT16 in types) == (precision == "fp16")
    assert ("QuantizeLinear" in operators(other)) == (precision == "int8")
    images = [read_image(p) for p in list_images(parts / "test")]
    with Detector(bundle.path) as a, Detector(other.path) as b:
        expected, found = a.score(images).scores, b.score(images).scores
    np.testing.assert_allclose(found, expected, rtol=TOLERANCE[precision])


def test_mul_fusion(checkpoint: Checkpoint, parts: Path, tmp_path: Path) -> None:
    good = list_images(parts / "calibration")
    bundle = export_bundle(checkpoint, good, tmp_path / "mul.rdx", fusion="mul", sigma=2.0)
    assert (bundle.manifest.map.fusion, bundle.manifest.map.sigma) == ("mul", 2.0)
    with Detector(bundle.path) as detector:
        notch = detector.score([read_image(p) for p in list_images(parts / "test" / "notch")])
        fine = detector.score([read_image(p) for p in list_images(parts / "test" / "good")])
    assert notch.scores.min() > fine.scores.max()


def test_engine_that_scores_differently_is_not_written(
    checkpoint: Checkpoint, parts: Path, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setitem(TOLERANCE, "fp32", 1e-12)
    with pytest.raises(ExportError, match="does not score as the trained network"):
        export_bundle(checkpoint, list_images(parts / "calibration"), tmp_path / "part.rdx")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.filterwarnings("ignore:.*this CPU has no:UserWarning")
def test_what_half_precision_cannot_hold_stays_in_float32(
    checkpoint: Checkpoint, parts: Path, tmp_path: Path
) -> None:
    # The student's last scale is a linear head: a factor there leaves every cosine as it is.
    network = dict(checkpoint.network)
    network["student.heads.0.weight"] = network["student.heads.0.weight"] * 1e6
    loud = replace(checkpoint, network=network)
    good = list_images(parts / "calibration")
    plain = export_bundle(loud, good, tmp_path / "fp32.rdx")
    bundle = export_bundle(loud, good, tmp_path / "fp16.rdx", precision="fp16")
    kept = [
        constant.name
        for constant in onnx.load(bundle.network).graph.initializer
        if constant.data_type == onnx.TensorProto.FLOAT and len(constant.dims) == 4
    ]
    assert kept == ["network.student.heads.0.weight"]
    assert types(bundle) == (onnx.TensorProto.FLOAT16, onnx.TensorProto.FLOAT)
    images = [read_image(p) for p in list_images(parts / "test")]
    # In half precision really, as a GPU runs it.
    with Detector(plain.path) as a, Detector(TorchEngine(bundle, "cpu")) as b:
        np.testing.assert_allclose(b.score(images).scores, a.score(images).scores, rtol=1e-2)


def types(bundle: Bundle) -> tuple[int, int]:
    """Of input and outputs, as ONNX numbers them."""
    graph = onnx.load(bundle.network).graph
    (image,) = {value.type.tensor_type.elem_type for value in graph.input}
    (maps,) = {value.type.tensor_type.elem_type for value in graph.output}
    return image, maps


@pytest.mark.filterwarnings("ignore:.*this CPU has no:UserWarning")
def test_half_precision_runs_from_end_to_end(
    checkpoint: Checkpoint, parts: Path, tmp_path: Path
) -> None:
    good = list_images(parts / "calibration")
    bundle = export_bundle(checkpoint, good, tmp_path / "fp16.rdx", precision="fp16")
    assert types(bundle) == (onnx.TensorProto.FLOAT16, onnx.TensorProto.FLOAT16)
    assert "Cast" not in operators(bundle)


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


def test_the_symmetric_twin(checkpoint: Checkpoint, parts: Path, tmp_path: Path) -> None:
    good = list_images(parts / "calibration")
    bundle = export_bundle(checkpoint, good, tmp_path / "int8.rdx", precision="int8")
    twin = onnx.load(bundle.symmetric_network)
    constants = {c.name: numpy_helper.to_array(c) for c in twin.graph.initializer}
    quantisers = [n for n in twin.graph.node if n.op_type == "QuantizeLinear"]
    assert len(quantisers) > 20
    for node in twin.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            zero = constants[node.input[2]]
            assert zero.dtype == np.int8
            assert not zero.any()
    assert [n.op_type for n in twin.graph.node] == operators(bundle)

    mapper = AnomalyMapper(bundle.manifest.map, bundle.manifest.scales)
    images = [to_input([read_image(p)], bundle.manifest.input) for p in list_images(parts / "test")]
    scores = {}
    for path in (bundle.network, bundle.symmetric_network):
        network = OnnxNetwork(path)
        chunks = [next(network.run(image)) for image in images]
        scores[path] = np.array([mapper(c.teacher, c.student).maxima[0] for c in chunks])
    np.testing.assert_allclose(*scores.values(), rtol=0.05)
    assert not np.array_equal(*scores.values())


def test_choices(checkpoint: Checkpoint, parts: Path, tmp_path: Path, bundle: Bundle) -> None:
    good = list_images(parts / "calibration")
    with pytest.raises(ValueError, match="precision is 'fp8', wanted one of fp32"):
        export_bundle(checkpoint, good, tmp_path / "a.rdx", precision="fp8")
    with pytest.raises(ValueError, match="no good images"):
        export_bundle(checkpoint, [], tmp_path / "a.rdx")
    with pytest.raises(BundleError, match="exists"):
        export_bundle(checkpoint, good, bundle.path)
