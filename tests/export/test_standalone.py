"""The whole inspection in one ONNX file, run by ONNX Runtime and by OpenVINO."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
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
from rdx_fast.bundle.bundle import Bundle
from rdx_fast.bundle.bundle_history import bundle_history
from rdx_fast.bundle.changes import override_limits, replace_recipe
from rdx_fast.bundle.manifest import digest
from rdx_fast.errors import ExportError, RecipeError
from rdx_fast.export.standalone import VERDICTS, FrameFormat, write_standalone
from rdx_fast.export.standalone.check import check_standalone
from rdx_fast.export.standalone.frame import add_frame
from rdx_fast.export.standalone.graph import GraphBuilder
from rdx_fast.export.standalone.inspection import add_verdict
from rdx_fast.images import list_images, read_image
from rdx_fast.judge import Judge
from rdx_fast.kernels.epilogue import Epilogue, summarize
from rdx_fast.kernels.resize_normalize import PIXEL_FORMATS, Crop, resize_normalize_numpy
from rdx_fast.limits.limits import Limits
from rdx_fast.recipe.recipe import FrameSpec, InspectionRecipe, RegionSpec
from support.exported import NETWORKS, as_bundle
from support.exported import SIZE as NETWORK_SIZE
from support.small_bundle import THRESHOLDS, limits_of, write_bundle
from support.small_network import SIZE, SPEC

Outputs = Mapping[str, NDArray[Any]]
FRAME = (75, 91)  # neither even nor a multiple of the network's input


def by_onnx_runtime(file: Path, given: NDArray[Any]) -> Outputs:
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    (frame,) = session.get_inputs()
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, {frame.name: given}), strict=True))


def by_openvino(file: Path, given: NDArray[Any]) -> Outputs:
    compiled = openvino.Core().compile_model(file, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    found = compiled([given])
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


def metadata(file: Path) -> dict[str, str]:
    return {p.key: p.value for p in onnx.load(file).metadata_props}


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


@pytest.mark.parametrize("pixel_format", PIXEL_FORMATS)
@pytest.mark.parametrize("levels", [(64, 940), (0, 1), (0, 2**16 - 1), (60000, 65535)])
def test_levels(pixel_format: str, levels: tuple[int, int]) -> None:
    """Pixels beyond them are clipped before anything is filtered."""
    frame = FrameFormat(*FRAME, pixel_format, (3, 5, 70, 61), levels)
    span = levels[1] - levels[0]
    rng = np.random.default_rng(0)
    low, high = max(levels[0] - span, 0), min(levels[1] + span, 2**16 - 1)
    pixels = rng.integers(low, high, frame.shape, np.uint16, endpoint=True)
    expected = np.full((3, *SIZE), np.nan, np.float32)
    resize_normalize_numpy(
        pixels, expected, SPEC.mean, SPEC.std, pixel_format, frame.crop, frame.levels
    )
    np.testing.assert_allclose(network_input(frame, pixels), expected, rtol=0, atol=2e-5)


# Map to verdict


def write_verdict(file: Path, limits: Sequence[Limits], labels: NDArray[np.uint8]) -> None:
    """What follows the map, alone."""
    graph = GraphBuilder()
    add_verdict(graph, limits, labels)
    given = helper.make_tensor_value_info("map", onnx.TensorProto.FLOAT, ["batch", *labels.shape])
    kinds = {"verdict": "INT32", "region": "INT32", "score": "FLOAT", "region_scores": "FLOAT"}
    outputs = [
        helper.make_tensor_value_info(name, onnx.TensorProto.DataType.Value(kind), None)
        for name, kind in {**kinds, "area": "INT64"}.items()
    ]
    model = helper.make_model(
        helper.make_graph(graph.nodes, "verdict", [given], outputs, graph.constants),
        opset_imports=[helper.make_opsetid("", 20)],
        ir_version=9,
    )
    onnx.save(model, file)


def test_judges_exactly_as_the_judge_does(tmp_path: Path) -> None:
    """Scores at limits, of several regions alike, and those that differ in the last digit."""
    file = tmp_path / "verdict.onnx"
    limits = (limits_of("a", 0.3, 0.9), limits_of("b", 0.1), limits_of("c", 0.7, 0.8))
    labels = np.array([[1, 2, 0], [3, 1, 3]], np.uint8)
    write_verdict(file, limits, labels)
    ok_below = tuple(limit.ok_below.value for limit in limits)
    rng = np.random.default_rng(0)
    multiples = rng.choice([-0.1, 0.0, 0.5, 1.0, 8 / 7, 2.0, 3.0, 7.0], (10000, *labels.shape))
    maps = multiples.astype(np.float32) * np.float32((1.0, *ok_below))[labels]
    maps = np.nextafter(maps, rng.choice(np.float32([-1, 0, 9]), maps.shape) + maps)
    maps[:1000] = rng.random((1000, *labels.shape), np.float32)
    summary = summarize(maps, Epilogue(labels, ok_below))
    judged = Judge(limits)(summary.maxima)
    expected = {
        "verdict": [VERDICTS.index(verdict) for verdict in judged.verdicts],
        "region": judged.deciding,
        "score": summary.maxima[np.arange(len(maps)), judged.deciding],
        "region_scores": summary.maxima,
        "area": summary.areas,
    }
    cases = set(zip(judged.verdicts, judged.deciding.tolist(), strict=True))
    assert cases == {(v, r) for v in ("OK", "REVIEW", "NG") for r in range(3)} - {("REVIEW", 1)}
    relative = summary.maxima * (1 / np.float32(ok_below))
    assert ((relative == relative.max(axis=1, keepdims=True)).sum(axis=1) > 1).sum() > 100
    for runtime in RUNTIMES:
        found = runtime(file, maps)
        for name, wanted in expected.items():
            np.testing.assert_array_equal(found[name], wanted, err_msg=f"{name}, {runtime}")


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
    write_standalone(
        bundle, file, frame_size=FRAME, pixel_format=pixel_format, crop=crop, batch=None
    )
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
        np.testing.assert_array_equal(found["region"], 0)
        assert {name: value.dtype for name, value in found.items()} == {
            "verdict": np.int32,
            "region": np.int32,
            "score": np.float32,
            "region_scores": np.float32,
            "area": np.int64,
            "map": np.float32,
        }


MASK = np.zeros(FRAME, np.uint8)
MASK[40:70, 20:60] = 255
RECIPE = InspectionRecipe(
    FrameSpec(*FRAME, "bayer_grbg", crop=(3, 5, 70, 81), levels=(64, 940)),
    (
        RegionSpec("rim", polygon=((10, 5), (85, 5), (85, 30), (10, 30))),
        RegionSpec("hub", mask="hub.png"),
        RegionSpec("label", "ignore", polygon=((30, 45), (50, 45), (50, 60), (30, 60))),
    ),
    mm_per_pixel=0.05,
)


@pytest.fixture(scope="module")
def frames() -> NDArray[np.uint16]:
    """Some as bright as 1023."""
    return np.stack([noise(FRAME, 3 + seed % 7, seed) * np.uint16(4) for seed in range(12)])


@pytest.fixture(scope="module")
def regions(tmp_path_factory: pytest.TempPathFactory, frames: NDArray[np.uint16]) -> Bundle:
    """A bundle of ``RECIPE`` with limits between the scores of ``frames``."""
    folder = tmp_path_factory.mktemp("regions")
    common: dict[str, Any] = {"recipe": RECIPE, "masks": {"hub.png": MASK}}
    first = (limits_of("rim", 1.0), limits_of("hub", 1.0))
    with Detector(open_engine(write_bundle(folder / "a.rdx", limits=first, **common))) as detector:
        scores = np.sort(detector.score(list(frames)).region_scores, axis=0).astype(np.float64)
    between = (scores[1:] + scores[:-1]) / 2
    limits = (
        limits_of("rim", between[5, 0], between[8, 0]),
        limits_of("hub", between[5, 1], between[8, 1]),
    )
    return write_bundle(folder / "b.rdx", limits=limits, **common)


def test_follows_the_recipe(regions: Bundle, frames: NDArray[np.uint16], tmp_path: Path) -> None:
    file = tmp_path / "part.onnx"
    write_standalone(regions, file, batch=len(frames))
    with Detector(open_engine(regions)) as detector:
        expected = detector.score(list(frames))
    assert set(expected.verdicts) == {"OK", "REVIEW", "NG"}
    assert set(expected.deciding.tolist()) == {0, 1}
    assert (expected.scores < expected.region_scores.max(axis=1)).any()
    for runtime in RUNTIMES:
        found = runtime(file, frames)
        assert [VERDICTS[code] for code in found["verdict"]] == expected.verdicts
        np.testing.assert_array_equal(found["region"], expected.deciding)
        np.testing.assert_allclose(found["score"], expected.scores, rtol=1e-5)
        np.testing.assert_allclose(found["region_scores"], expected.region_scores, rtol=1e-5)
        np.testing.assert_array_equal(found["area"], expected.region_areas)
        np.testing.assert_allclose(found["map"], expected.anomaly_maps, rtol=0, atol=1e-5)


def test_what_is_not_finite_is_an_error(
    regions: Bundle, frames: NDArray[np.uint16], tmp_path: Path
) -> None:
    file = tmp_path / "part.onnx"
    write_standalone(regions, file, batch=2)
    model = onnx.load(file)
    (bias,) = (c for c in model.graph.initializer if c.name == "network/student_1.bias")
    values = numpy_helper.to_array(bias).copy()
    for broken in (math.nan, math.inf):
        values[3] = broken
        bias.CopyFrom(numpy_helper.from_array(values, bias.name))
        onnx.save(model, file)
        for runtime in RUNTIMES:
            found = runtime(file, frames[:2])
            assert [VERDICTS[code] for code in found["verdict"]] == ["ERROR", "ERROR"]
            assert np.isnan(found["score"]).all()
            assert np.isnan(found["region_scores"]).all()
            assert found["region"].tolist() == [-1, -1]
            assert found["area"].tolist() == [[0, 0], [0, 0]]


@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_one_value_that_is_not_finite(broken: float, tmp_path: Path) -> None:
    """Outside the regions too, and of its frame alone."""
    file = tmp_path / "verdict.onnx"
    write_verdict(file, [limits_of("part", 0.5)], np.array([[0, 1], [1, 1]], np.uint8))
    maps = np.full((3, 2, 2), 0.25, np.float32)
    maps[0, 0, 0] = maps[2, 1, 1] = broken
    for runtime in RUNTIMES:
        found = runtime(file, maps)
        assert [VERDICTS[code] for code in found["verdict"]] == ["ERROR", "OK", "ERROR"]
        assert found["region"].tolist() == [-1, 0, -1]
        np.testing.assert_array_equal(found["score"], [math.nan, 0.25, math.nan])


def test_file(small: Bundle, tmp_path: Path) -> None:
    """What other programs find in it, and that it is the same each time."""
    for name in ("one.onnx", "two.onnx"):
        write_standalone(
            small, tmp_path / name, frame_size=FRAME, pixel_format="mono", crop=(0, 0, 75, 80)
        )
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
        "verdict": [1],
        "region": [1],
        "score": [1],
        "region_scores": [1, 1],
        "area": [1, 1],
        "map": [1, *SIZE],
    }
    told = metadata(tmp_path / "one.onnx")
    assert told["bundle"] == "small"
    assert told["manifest_sha256"] == digest(asdict(small.manifest))
    assert told["manifest_sha256"] in (small.path / "manifest.json").read_text()
    assert (told["precision"], told["pixel_format"]) == ("fp32", "mono")
    assert json.loads(told["frame_size"]) == list(FRAME)
    assert json.loads(told["crop"]) == [0, 0, 75, 80]
    assert json.loads(told["levels"]) is None
    assert json.loads(told["regions"]) == [
        {"name": "all", "ok_below": THRESHOLDS["add"], "ng_above": THRESHOLDS["add"]}
    ]
    assert json.loads(told["verdicts"]) == ["OK", "REVIEW", "NG", "ERROR"]
    assert told["revision"] == "0"
    assert told["history_sha256"] == bundle_history(small)[-1].sha256
    assert "mm_per_pixel" not in told


def test_what_a_changed_bundle_tells(tmp_path: Path) -> None:
    """Scale and history; the limits are those in force."""
    bundle = write_bundle(tmp_path / "small.rdx")
    changed = InspectionRecipe(mm_per_pixel=0.05)
    bundle = replace_recipe(bundle, changed, {}, "a tester")
    bundle = override_limits(bundle, "a test", ok_below=0.5, ng_above=1.5, user="a tester")
    write_standalone(bundle, tmp_path / "part.onnx", frame_size=FRAME)
    told = metadata(tmp_path / "part.onnx")
    assert (told["revision"], told["mm_per_pixel"]) == ("2", "0.05")
    assert told["history_sha256"] == bundle_history(bundle)[-1].sha256
    assert json.loads(told["regions"]) == [{"name": "all", "ok_below": 0.5, "ng_above": 1.5}]


@pytest.mark.parametrize(
    ("stored", "opset", "levels"), [("fp16", 20, None), ("fp32", 18, (9, 900))]
)
def test_other_networks_and_frames(
    stored: str, opset: int, levels: tuple[int, int] | None, tmp_path: Path
) -> None:
    """What is written was compared with the bundle by OpenVINO; ONNX Runtime runs it too."""
    bundle = write_bundle(tmp_path / "small.rdx", stored=stored, opset=opset)
    file = tmp_path / "part.onnx"
    write_standalone(bundle, file, frame_size=FRAME, precision=stored, levels=levels)
    frames = noise((*FRAME, 3), 5)[None].astype(np.uint8 if levels is None else np.uint16)
    scores = [runtime(file, frames)["score"] for runtime in RUNTIMES]
    np.testing.assert_allclose(*scores, rtol=1e-3 if stored == "fp16" else 1e-5)


def test_a_file_of_another_network_is_refused(small: Bundle, tmp_path: Path) -> None:
    other = write_bundle(tmp_path / "other.rdx", seed=1)
    file = tmp_path / "part.onnx"
    write_standalone(other, file, frame_size=FRAME)
    frame = FrameFormat(*FRAME)
    check_standalone(file, other, other.manifest.executions[0], frame, None, 1)
    with pytest.raises(ExportError, match="does not score as bundle small: maps differ by"):
        check_standalone(file, small, small.manifest.executions[0], frame, None, 1)


def test_a_file_of_other_limits_is_refused(tmp_path: Path) -> None:
    limits = (limits_of("all", 100.0),)
    bundle = write_bundle(tmp_path / "small.rdx", limits=limits)
    file = tmp_path / "part.onnx"
    write_standalone(bundle, file, frame_size=FRAME)
    other = replace(bundle.manifest.executions[0], limits=(limits_of("all", 0.1),))
    with pytest.raises(ExportError, match=r"not judge as the bundle: area is \[\[0\]\], wanted"):
        check_standalone(file, bundle, other, FrameFormat(*FRAME), None, 1)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"frame_size": None}, "size of the frames is missing, and the recipe states none"),
        ({"frame_size": (0, 5)}, "frame size 0 x 5"),
        ({"pixel_format": "yuv"}, "wanted one of rgb"),
        ({"crop": (0, 0, 76, 1)}, "beyond the frame of 75 x 91"),
        ({"levels": (5, 5)}, "0 <= black < white <= 65535"),
        ({"levels": (0, 2**16)}, "0 <= black < white <= 65535"),
        ({"levels": (0.5, 9.0)}, "0 <= black < white <= 65535"),
        ({"batch": 0}, "batch is 0"),
        ({"precision": "bf16"}, "wanted one of fp32, fp16, int8"),
    ],
)
def test_wrong_arguments(options: dict[str, Any], told: str, small: Bundle, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=told):
        write_standalone(small, tmp_path / "part.onnx", **{"frame_size": FRAME, **options})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"frame_size": (91, 75)}, r"frame_size is \(91, 75\) and the recipe states \(75, 91\)"),
        ({"pixel_format": "rgb"}, "pixel_format is rgb and the recipe states bayer_grbg"),
        ({"crop": (0, 0, 9, 9)}, r"crop is \(0, 0, 9, 9\) and the recipe states \(3, 5, 70, 81\)"),
        ({"levels": (0, 940)}, r"levels is \(0, 940\) and the recipe states \(64, 940\)"),
    ],
)
def test_arguments_that_are_not_the_recipes(
    options: dict[str, Any], told: str, regions: Bundle, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=told):
        write_standalone(regions, tmp_path / "part.onnx", **options)
    assert list(tmp_path.iterdir()) == []


def test_a_recipe_changed_since_its_limits(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "small.rdx")
    stale = replace_recipe(bundle, InspectionRecipe(FrameSpec(*FRAME)), {}, "a tester")
    told = "the recipe was changed after the limits of fp32 were calibrated"
    with pytest.raises(RecipeError, match=told):
        write_standalone(stale, tmp_path / "part.onnx")
    with pytest.raises(RecipeError, match=told):
        Detector(open_engine(stale))


def test_what_cannot_be_written(small: Bundle, tmp_path: Path) -> None:
    file = tmp_path / "part.onnx"
    with pytest.raises(ExportError, match="bundle small does not hold int8: choose fp32, or"):
        write_standalone(small, file, frame_size=FRAME, precision="int8")
    file.write_text("mine")
    with pytest.raises(ExportError, match=r"part.onnx exists: .*--overwrite"):
        write_standalone(small, file, frame_size=FRAME)
    assert file.read_text() == "mine"
    write_standalone(small, file, frame_size=FRAME, overwrite=True)
    assert by_onnx_runtime(file, noise((*FRAME, 3))[None])["score"].shape == (1,)


# Trained networks


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_trained_parts(precision: str, whole_bundle: Bundle, parts: Path, tmp_path: Path) -> None:
    images = [read_image(path) for path in list_images(parts / "test")]
    file = tmp_path / "part.onnx"
    size = (images[0].shape[0], images[0].shape[1])
    write_standalone(whole_bundle, file, frame_size=size, precision=precision, batch=len(images))
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
        assert [VERDICTS[code] for code in found["verdict"]] == expected.verdicts


@pytest.mark.slow
@pytest.mark.parametrize(("method", "backbone"), NETWORKS)
def test_every_network(
    method: str, backbone: str, networks: Path, bundle: Bundle, tmp_path: Path
) -> None:
    made = as_bundle(networks, method, backbone, "fp32", bundle.manifest)
    file = tmp_path / "part.onnx"
    write_standalone(made, file, frame_size=FRAME)
    frame = noise((*FRAME, 3), 7)
    with Detector(open_engine(made)) as detector:
        expected = detector.score(frame)
    assert expected.anomaly_maps is not None
    for runtime in RUNTIMES:
        found = runtime(file, frame[None])
        assert found["map"].shape == (1, *NETWORK_SIZE)
        largest = float(expected.scores[0])
        np.testing.assert_allclose(found["map"], expected.anomaly_maps, rtol=0, atol=1e-5 * largest)
