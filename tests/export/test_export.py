from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray

from rdx_fast import Detector
from rdx_fast.bundle.bundle import Bundle
from rdx_fast.errors import BundleError, EngineError, ExportError
from rdx_fast.export import check, export_bundle
from rdx_fast.export.check import NetworkMaps, check_execution
from rdx_fast.images import list_images, read_image
from rdx_fast.limits.calibration import calibrate_threshold
from rdx_fast.models import BACKBONES, METHODS, make_network
from rdx_fast.models.fold import FoldedCopy, fold_batch_norm
from rdx_fast.precision import choose
from rdx_fast.training import Checkpoint
from support.exported import operators
from support.trained import WIDE


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


def test_a_folded_copy_follows_all_weights() -> None:
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1), torch.nn.BatchNorm2d(4)).eval()
    copy = FoldedCopy(network)
    x = torch.randn(2, 3, 4, 4)
    with torch.no_grad():
        network[1].running_mean.fill_(3)
        network[0].weight.mul_(2)
        copy.refresh()
        torch.testing.assert_close(copy(x), network(x))
    with pytest.raises(ExportError, match=r"convolution and batch norm: 2\.weight, 2\.bias"):
        FoldedCopy(network.append(torch.nn.Conv2d(4, 4, 1)))


def test_manifest_tells_all(bundle: Bundle, checkpoint: Checkpoint) -> None:
    m = bundle.manifest
    assert (m.format, m.method, m.backbone) == (3, "rd4ad", "efficientnet_lite0")
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
    "fp8": ({"fp8"}, [("fp8", "fp8")]),
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


@pytest.mark.parametrize(
    "precision",
    [
        pytest.param(given, marks=[] if given in ("fp16", "auto") else [pytest.mark.slow])
        for given in CONTENTS
    ],
)
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
    assert {*m.networks.values(), m.calibration, m.history} == set(m.files)
    assert m.left_out == ()
    for network in stored:
        types = {t.data_type for t in onnx.load(bundle.network(network)).graph.initializer}
        assert (onnx.TensorProto.FLOAT16 in types) == (network in ("fp16", "int8_symmetric", "fp8"))
        assert ("QuantizeLinear" in operators(bundle, network)) == network.startswith(
            ("int8", "fp8")
        )
    for e in m.executions:
        assert e.check.score_difference <= e.check.score_tolerance
        assert e.check.map_difference <= e.check.map_tolerance
    # Each with what it says: CPUs round in float16 for no one, so that is torch's to check.
    by = {(e.stored, e.executed): e.check.checked_by for e in m.executions}
    for which, name in by.items():
        if which in (("int8", "int8"), ("fp32", "fp32"), ("fp16", "fp32")):
            assert name.startswith("openvino ")
        elif which[0] in ("fp16", "int8_symmetric", "fp8"):
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


@pytest.mark.slow
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
    assert {p.name for p in bundle.path.glob("*.onnx")} == set(m.networks.values())
    (left,) = m.left_out
    assert left.label == "fp16"
    assert "fp16 does not score as the trained network" in left.reason
    with pytest.raises(EngineError, match=r"fp16 was left out at export \(fp16 does not score"):
        choose(m, "tensorrt", (), "fp16")


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


def test_choices(checkpoint: Checkpoint, parts: Path, tmp_path: Path, bundle: Bundle) -> None:
    good = list_images(parts / "calibration")
    with pytest.raises(ValueError, match="precision is 'fp4', wanted one of auto, fp32"):
        export_bundle(checkpoint, good, tmp_path / "a.rdx", precision="fp4")
    with pytest.raises(ValueError, match="no good images"):
        export_bundle(checkpoint, [], tmp_path / "a.rdx")
    with pytest.raises(BundleError, match="exists"):
        export_bundle(checkpoint, good, bundle.path)
