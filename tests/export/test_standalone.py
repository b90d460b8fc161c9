"""The whole inspection in one ONNX file, run by ONNX Runtime and by OpenVINO."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import openvino
import pytest
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from rdx_fast import Detector, open_engine
from rdx_fast.bundle import Bundle
from rdx_fast.errors import ExportError
from rdx_fast.export.standalone import VERDICTS, FrameFormat, RegionLimits, write_standalone
from rdx_fast.export.standalone.check import check_standalone
from rdx_fast.export.standalone.frame import add_frame
from rdx_fast.export.standalone.graph import GraphBuilder
from rdx_fast.images import list_images, read_image
from rdx_fast.kernels.resize_normalize import PIXEL_FORMATS, Crop, resize_normalize_numpy
from rdx_fast.manifest import digest
from support.exported import NETWORKS, as_bundle
from support.exported import SIZE as NETWORK_SIZE
from support.small_bundle import THRESHOLDS, write_bundle
from support.small_network import SIZE, SPEC

Outputs = Mapping[str, NDArray[Any]]
FRAME = (75, 91)  # neither even nor a multiple of the network's input


def by_onnx_runtime(file: Path, frames: NDArray[Any]) -> Outputs:
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, {"frame": frames}), strict=True))


def by_openvino(file: Path, frames: NDArray[Any]) -> Outputs:
    compiled = openvino.Core().compile_model(file, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    found = compiled([frames])
    return {output.any_name: found[output] for output in compiled.outputs}


RUNTIMES = [by_onnx_runtime, by_openvino]


def noise(shape: tuple[int, ...], patch: int = 1, seed: int = 0) -> NDArray[np.uint8]:
    """Of patches of so many pixels."""
    coarse = (*(-(-n // patch) for n in shape[:2]), *shape[2:])
    patches = np.random.default_rng(seed).integers(0, 256, coarse, dtype=np.uint8)
    return patches.repeat(patch, 0).repeat(patch, 1)[: shape[0], : shape[1]]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return write_bundle(tmp_path_factory.mktemp("small") / "small.rdx")


# Frame to network input


def network_input(frame: FrameFormat, pixels: NDArray[Any]) -> NDArray[np.float32]:
    graph = GraphBuilder()
    output = add_frame(graph, "frame", frame, SPEC)
    values = [
        helper.make_tensor_value_info("frame", frame.element, [1, *frame.shape]),
        helper.make_tensor_value_info(output, onnx.TensorProto.FLOAT, [1, 3, *SIZE]),
    ]
    model = helper.make_model(
        helper.make_graph(graph.nodes, "frame", values[:1], values[1:], graph.constants),
        opset_imports=[helper.make_opsetid("", 20)],
        ir_version=9,
    )
    session = onnxruntime.InferenceSession(model.SerializeToString())
    (found,) = session.run(None, {"frame": pixels[None]})
    return found[0]


@pytest.mark.parametrize("pixel_format", PIXEL_FORMATS)
@pytest.mark.parametrize(
    ("size", "crop"),
    [
        (FRAME, None),
        (FRAME, (3, 5, 70, 61)),
        (FRAME, (74, 90, 1, 1)),
        (SIZE, None),
        ((9, 300), (0, 1, 9, 298)),
        ((2, 2), None),
    ],
)
def test_network_input(pixel_format: str, size: tuple[int, int], crop: Crop | None) -> None:
    if crop == (74, 90, 1, 1) and pixel_format not in ("rgb", "bayer_grbg"):
        crop = (0, 0, 1, 1)
    frame = FrameFormat(*size, pixel_format, crop)
    pixels = noise(frame.shape)
    expected = np.full((3, *SIZE), np.nan, np.float32)
    resize_normalize_numpy(pixels, expected, SPEC.mean, SPEC.std, pixel_format, crop)
    np.testing.assert_allclose(network_input(frame, pixels), expected, rtol=0, atol=2e-5)


def test_levels() -> None:
    black, white = 64, 64 + 4 * 255
    grey = noise(FRAME)
    pixels = (black + 4 * grey.astype(np.uint16)).astype(np.uint16)
    pixels[:20], grey[:20] = 0, 0
    pixels[60:], grey[60:] = 4095, 255
    frame = FrameFormat(*FRAME, "mono", levels=(black, white))
    expected = np.full((3, *SIZE), np.nan, np.float32)
    resize_normalize_numpy(grey, expected, SPEC.mean, SPEC.std)
    np.testing.assert_allclose(network_input(frame, pixels), expected, rtol=0, atol=2e-5)


# The whole file


@pytest.mark.parametrize(
    ("fusion", "pixel_format", "crop"),
    [("add", "rgb", None), ("mul", "bayer_gbrg", (8, 3, 60, 81))],
)
def test_scores_as_the_detector_does(
    fusion: str, pixel_format: str, crop: Crop | None, tmp_path: Path
) -> None:
    bundle = write_bundle(tmp_path / "small.rdx", fusion)
    file = tmp_path / "part.onnx"
    write_standalone(bundle, file, FRAME, pixel_format=pixel_format, crop=crop, batch=None)
    shape = FrameFormat(*FRAME, pixel_format).shape
    frames = [noise(shape, patch, seed=patch) for patch in (1, 5, 30)]
    with Detector(open_engine(bundle)) as detector:
        expected = detector.score(frames, pixel_format=pixel_format, crop=crop)
    assert set(expected.is_anomalous.tolist()) == {False, True}
    assert expected.anomaly_maps is not None
    largest = float(expected.scores.max())
    for runtime in RUNTIMES:
        found = runtime(file, np.stack(frames))
        np.testing.assert_allclose(found["score"], expected.scores, rtol=1e-5)
        np.testing.assert_allclose(found["map"], expected.anomaly_maps, rtol=0, atol=1e-5 * largest)
        np.testing.assert_array_equal(found["region_scores"], found["score"][:, None])
        np.testing.assert_array_equal(found["verdict"], 2 * expected.is_anomalous)
        np.testing.assert_array_equal(found["area"], expected.areas[:, None])
        assert {name: value.dtype for name, value in found.items()} == {
            "score": np.float32,
            "map": np.float32,
            "verdict": np.int32,
            "region_scores": np.float32,
            "area": np.int64,
        }


def test_regions(small: Bundle, tmp_path: Path) -> None:
    """Each has limits of its own; the worst decides, and what lies in none has no say."""
    labels = np.zeros(SIZE, np.uint8)
    labels[:10], labels[20:, :18] = 1, 2
    frames = np.stack([noise((*FRAME, 3), 9, seed) for seed in range(6)])
    with Detector(open_engine(small)) as detector:
        maps = detector.score(frames).anomaly_maps
    assert maps is not None
    expected = np.stack([maps[:, labels == r].max(axis=1) for r in (1, 2)], axis=1)
    assert (maps.max(axis=(1, 2)) > expected.max(axis=1)).any()

    # Between the scores of frames, so that none lies at a limit.
    rim, hub = ((np.sort(s)[1:] + np.sort(s)[:-1]) / 2 for s in expected.T.astype(np.float64))
    limits = [RegionLimits("rim", rim[1], rim[4]), RegionLimits("hub", hub[3], hub[3])]
    file = tmp_path / "part.onnx"
    write_standalone(small, file, FRAME, batch=6, limits=limits, labels=labels)
    verdicts = [
        max(
            (1 if score <= ng_above else 2) * (score > ok_below)
            for score, (_, ok_below, ng_above) in zip(scores, limits, strict=True)
        )
        for scores in expected
    ]
    assert set(verdicts) == {0, 1, 2}
    areas = [
        [(one[labels == r] > np.float32(limits[r - 1].ng_above)).sum() for r in (1, 2)]
        for one in maps
    ]
    for runtime in RUNTIMES:
        found = runtime(file, frames)
        np.testing.assert_allclose(found["region_scores"], expected, rtol=1e-5)
        np.testing.assert_array_equal(found["score"], found["region_scores"].max(axis=1))
        assert found["verdict"].tolist() == verdicts
        np.testing.assert_array_equal(found["area"], areas)


def test_a_score_at_a_limit(small: Bundle, tmp_path: Path) -> None:
    """It is not above it."""
    file = tmp_path / "part.onnx"
    write_standalone(small, file, FRAME)
    frame = noise((*FRAME, 3))[None]
    score = by_onnx_runtime(file, frame)["score"][0]
    below = np.nextafter(score, np.float32(0))
    model = onnx.load(file)
    (ok_below,) = (c for c in model.graph.initializer if c.name == "verdict/ok/constant_1")
    (ng_above,) = (c for c in model.graph.initializer if c.name == "verdict/ng/constant_0")
    for limits, wanted in (((score, score), 0), ((below, score), 1), ((below, below), 2)):
        for constant, limit in zip((ok_below, ng_above), limits, strict=True):
            constant.CopyFrom(numpy_helper.from_array(np.array([limit]), constant.name))
        onnx.save(model, file)
        assert by_onnx_runtime(file, frame)["verdict"] == [wanted]


def test_what_is_not_finite_is_an_error(small: Bundle, tmp_path: Path) -> None:
    """Also outside the regions, and however generous the limits are."""
    labels = np.zeros(SIZE, np.uint8)
    labels[0, 0] = 1
    file = tmp_path / "part.onnx"
    limits = [RegionLimits("corner", 1e9, 1e9)]
    write_standalone(small, file, FRAME, batch=2, limits=limits, labels=labels)
    frames = np.stack([noise((*FRAME, 3), seed=seed) for seed in range(2)])
    assert by_onnx_runtime(file, frames)["verdict"].tolist() == [0, 0]
    model = onnx.load(file)
    (bias,) = (c for c in model.graph.initializer if c.name == "network/student_1.bias")
    values = numpy_helper.to_array(bias).copy()
    for broken in (math.nan, math.inf):
        values[3] = broken
        bias.CopyFrom(numpy_helper.from_array(values, bias.name))
        onnx.save(model, file)
        for runtime in RUNTIMES:
            found = runtime(file, frames)
            assert [VERDICTS[code] for code in found["verdict"]] == ["ERROR", "ERROR"]
            assert np.isnan(found["score"]).all()
            assert np.isnan(found["region_scores"]).all()
            assert found["area"].tolist() == [[0], [0]]


def test_file(small: Bundle, tmp_path: Path) -> None:
    """What other programs find in it, and that it is the same each time."""
    for name in ("one.onnx", "two.onnx"):
        write_standalone(small, tmp_path / name, FRAME, pixel_format="mono", crop=(0, 0, 75, 80))
    assert (tmp_path / "one.onnx").read_bytes() == (tmp_path / "two.onnx").read_bytes()
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []
    model = onnx.load(tmp_path / "one.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert model.ir_version == 9
    assert [(o.domain, o.version) for o in model.opset_import] == [("", 20)]
    assert {node.domain for node in model.graph.node} == {""}
    shapes = {
        value.name: [d.dim_value for d in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    }
    assert shapes == {
        "frame": [1, *FRAME],
        "score": [1],
        "map": [1, *SIZE],
        "verdict": [1],
        "region_scores": [1, 1],
        "area": [1, 1],
    }
    told = {p.key: p.value for p in model.metadata_props}
    assert told["bundle"] == "small"
    assert told["manifest_sha256"] == digest(asdict(small.manifest))
    assert told["manifest_sha256"] in (small.path / "manifest.json").read_text()
    assert (told["precision"], told["pixel_format"]) == ("fp32", "mono")
    assert json.loads(told["frame_size"]) == list(FRAME)
    assert json.loads(told["crop"]) == [0, 0, 75, 80]
    assert json.loads(told["levels"]) is None
    assert json.loads(told["regions"]) == [
        {"name": "part", "ok_below": THRESHOLDS["add"], "ng_above": THRESHOLDS["add"]}
    ]
    assert json.loads(told["verdicts"]) == ["OK", "REVIEW", "NG", "ERROR"]


@pytest.mark.parametrize(
    ("stored", "opset", "levels"), [("fp16", 20, None), ("fp32", 18, (9, 900))]
)
def test_other_networks_and_frames(
    stored: str, opset: int, levels: tuple[int, int] | None, tmp_path: Path
) -> None:
    """What is written was compared with the bundle by OpenVINO; ONNX Runtime runs it too."""
    bundle = write_bundle(tmp_path / "small.rdx", stored=stored, opset=opset)
    file = tmp_path / "part.onnx"
    write_standalone(bundle, file, FRAME, precision=stored, levels=levels)
    frames = noise((*FRAME, 3), 5)[None].astype(np.uint8 if levels is None else np.uint16)
    scores = [runtime(file, frames)["score"] for runtime in RUNTIMES]
    np.testing.assert_allclose(*scores, rtol=1e-3 if stored == "fp16" else 1e-5)


def test_a_file_of_another_network_is_refused(small: Bundle, tmp_path: Path) -> None:
    other = write_bundle(tmp_path / "other.rdx", seed=1)
    file = tmp_path / "part.onnx"
    write_standalone(other, file, FRAME)
    frame = FrameFormat(*FRAME)
    check_standalone(file, other, other.manifest.executions[0], frame, 1)
    with pytest.raises(ExportError, match="does not score as bundle small: maps differ by"):
        check_standalone(file, small, small.manifest.executions[0], frame, 1)


PART, OTHER = RegionLimits("part", 1, 2), RegionLimits("other", 1, 2)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"frame_size": (0, 5)}, "frame size 0 x 5"),
        ({"pixel_format": "yuv"}, "wanted one of rgb"),
        ({"crop": (0, 0, 76, 1)}, "beyond the frame of 75 x 91"),
        ({"levels": (5, 5)}, "wanted black below white"),
        ({"levels": (0, 2**16)}, "wanted black below white"),
        ({"batch": 0}, "batch is 0"),
        ({"precision": "bf16"}, "wanted one of fp32, fp16, int8"),
        ({"limits": []}, "wanted at least one"),
        ({"limits": [PART, PART], "labels": np.ones(SIZE, np.uint8)}, "of different names"),
        ({"limits": [PART, OTHER]}, "2 regions and no labels"),
        ({"limits": [PART, OTHER], "labels": np.ones(SIZE, np.uint8)}, r"hold the regions \[1\]"),
        ({"labels": np.zeros(SIZE, np.uint8)}, r"hold the regions \[\]"),
        ({"labels": np.ones(SIZE, np.int64)}, "labels are int64"),
        ({"labels": np.ones((3, 4), np.uint8)}, r"labels are uint8 \[3, 4\]"),
        ({"limits": [RegionLimits("part", 2, 1)]}, "ok_below 2 and ng_above 1"),
        ({"limits": [RegionLimits("part", 2, math.inf)]}, "wanted finite"),
        ({"limits": [RegionLimits("part", math.nan, 2)]}, "wanted finite"),
    ],
)
def test_wrong_arguments(options: dict[str, Any], told: str, small: Bundle, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=told):
        write_standalone(small, tmp_path / "part.onnx", **{"frame_size": FRAME, **options})
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_written(small: Bundle, tmp_path: Path) -> None:
    file = tmp_path / "part.onnx"
    with pytest.raises(ExportError, match="bundle small does not hold int8: choose fp32, or"):
        write_standalone(small, file, FRAME, precision="int8")
    file.write_text("mine")
    with pytest.raises(ExportError, match=r"part.onnx exists: .*--overwrite"):
        write_standalone(small, file, FRAME)
    assert file.read_text() == "mine"
    write_standalone(small, file, FRAME, overwrite=True)
    assert by_onnx_runtime(file, noise((*FRAME, 3))[None])["score"].shape == (1,)


# Trained networks


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_trained_parts(precision: str, whole_bundle: Bundle, parts: Path, tmp_path: Path) -> None:
    images = [read_image(path) for path in list_images(parts / "test")]
    file = tmp_path / "part.onnx"
    size = (images[0].shape[0], images[0].shape[1])
    write_standalone(whole_bundle, file, size, precision=precision, batch=len(images))
    # The Detector does not execute a network in float16 on a CPU.
    executed = "fp32" if precision == "fp16" else precision
    with Detector(whole_bundle.path, precision=executed) as detector:
        expected = detector.score(images)
    for runtime in RUNTIMES:
        found = runtime(file, np.stack(images))
        # As a share of the threshold; what int8 rounds to which step differs between runtimes.
        tolerance = {"fp32": 1e-5, "fp16": 1e-2, "int8": 0.1}[precision]
        differences = np.abs(found["score"] - expected.scores) / expected.threshold
        assert differences.max() <= tolerance, runtime
        assert [VERDICTS[code] for code in found["verdict"]] == [
            "NG" if bad else "OK" for bad in expected.is_anomalous
        ]


@pytest.mark.slow
@pytest.mark.parametrize(("method", "backbone"), NETWORKS)
def test_every_network(
    method: str, backbone: str, networks: Path, bundle: Bundle, tmp_path: Path
) -> None:
    made = as_bundle(networks, method, backbone, "fp32", bundle.manifest)
    file = tmp_path / "part.onnx"
    write_standalone(made, file, FRAME)
    frame = noise((*FRAME, 3), 7)
    with Detector(open_engine(made)) as detector:
        expected = detector.score(frame)
    assert expected.anomaly_maps is not None
    for runtime in RUNTIMES:
        found = runtime(file, frame[None])
        assert found["map"].shape == (1, *NETWORK_SIZE)
        largest = float(expected.scores[0])
        np.testing.assert_allclose(found["map"], expected.anomaly_maps, rtol=0, atol=1e-5 * largest)
