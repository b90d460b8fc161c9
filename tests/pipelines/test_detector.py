from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from rdx_fast import Detector, RdxError, open_engine
from rdx_fast.bundle.bundle import Bundle
from rdx_fast.engines import Chunk
from rdx_fast.engines.openvino import network as network_module
from rdx_fast.engines.openvino.engine import OpenVINOEngine
from rdx_fast.errors import EngineError
from rdx_fast.images import list_images, read_image
from rdx_fast.kernels.epilogue import Epilogue, summarize
from rdx_fast.kernels.native import IMPLEMENTATION
from rdx_fast.pipelines import BatchScores, ScoreOptions
from support.exported import as_bundle, recorded
from support.trained import draw_part


@pytest.fixture(scope="module")
def detector(bundle: Bundle) -> Iterator[Detector]:
    with Detector(bundle.path, threads=2) as opened:
        yield opened


@pytest.fixture(scope="module")
def frames() -> NDArray[np.uint8]:
    rng = np.random.default_rng(7)
    return np.stack([draw_part(rng, defective=i % 2 == 1) for i in range(6)])


def test_result_of_a_batch(detector: Detector, frames: NDArray[np.uint8]) -> None:
    result = detector.score(frames)
    size = (detector.manifest.map.height, detector.manifest.map.width)
    assert len(result) == 6
    assert result.scores.shape == (6,)
    assert result.scores.dtype == np.float32
    assert result.anomaly_maps is not None
    assert result.anomaly_maps.shape == (6, *size)
    assert result.anomaly_maps.dtype == np.float32
    assert result.is_anomalous.dtype == np.bool_
    np.testing.assert_array_equal(result.scores, result.anomaly_maps.max(axis=(1, 2)))
    np.testing.assert_array_equal(result.is_anomalous, result.scores > result.threshold)
    assert result.verdicts == [{False: "OK", True: "NG"}[bool(a)] for a in result.is_anomalous]
    assert set(result.timings_ms) == {"preprocess", "network", "postprocess", "total"}
    stages = [v for k, v in result.timings_ms.items() if k != "total"]
    assert min(stages) > 0
    assert sum(stages) <= result.timings_ms["total"]
    assert "openvino" in result.engine
    assert IMPLEMENTATION in result.engine


def test_defects_score_higher(detector: Detector, parts: Path) -> None:
    scores = {
        kind: [detector.score(read_image(p)).scores[0] for p in list_images(parts / "test" / kind)]
        for kind in ("good", "notch")
    }
    assert min(scores["notch"]) > max(scores["good"])


def test_score_does_not_depend_on_the_batch(detector: Detector, frames: NDArray[np.uint8]) -> None:
    together = detector.score(frames)
    assert together.anomaly_maps is not None
    for i, frame in enumerate(frames):
        alone = detector.score(frame)
        assert alone.anomaly_maps is not None
        np.testing.assert_array_equal(alone.scores[0], together.scores[i])
        np.testing.assert_array_equal(alone.anomaly_maps[0], together.anomaly_maps[i])


def test_kinds_of_batches(detector: Detector, frames: NDArray[np.uint8]) -> None:
    mono = frames[0, ..., 0]
    as_rgb = np.repeat(mono[..., None], 3, axis=2)
    small = np.ascontiguousarray(frames[1, ::2, ::2])
    result = detector.score([frames[0], mono, as_rgb, small])
    assert len(result) == 4
    np.testing.assert_allclose(result.scores[1], result.scores[2], rtol=1e-5)
    np.testing.assert_array_equal(detector.score(mono).scores[0], result.scores[1])
    np.testing.assert_array_equal(detector.score((frames[0],)).scores[0], result.scores[0])


def test_score_only(detector: Detector, frames: NDArray[np.uint8]) -> None:
    result = detector.score(frames, maps=False)
    assert result.anomaly_maps is None
    np.testing.assert_array_equal(result.scores, detector.score(frames).scores)


def test_region_of_interest(bundle: Bundle, detector: Detector) -> None:
    defective = draw_part(np.random.default_rng(3), defective=True)
    whole = detector.score(defective)
    assert whole.anomaly_maps is not None
    assert whole.is_anomalous[0]
    assert whole.areas[0] == (whole.anomaly_maps[0] > np.float32(whole.threshold)).sum() > 0
    assert whole.top_means is None
    np.testing.assert_array_equal(whole.region_scores, whole.scores[:, None])
    np.testing.assert_array_equal(whole.region_areas, whole.areas[:, None])
    elsewhere = whole.anomaly_maps[0] <= np.float32(whole.threshold)
    with Detector(bundle.path, threads=2, region=elsewhere, top_k=20) as other:
        result = other.score(defective)
    inside = whole.anomaly_maps[0][elsewhere]
    np.testing.assert_array_equal(result.scores, [inside.max()])
    np.testing.assert_array_equal(result.areas, [0])
    np.testing.assert_allclose(result.top_means, [np.sort(inside)[-20:].mean()], rtol=1e-6)
    assert not result.is_anomalous[0]
    np.testing.assert_array_equal(result.anomaly_maps, whole.anomaly_maps)


def test_region_of_interest_must_fit(bundle: Bundle) -> None:
    with pytest.raises(ValueError, match=r"marked in \[3, 3\] pixels, the map is \[64, 96\]"):
        Detector(bundle.path, region=np.ones((3, 3), bool))


def test_several_regions(detector: Detector) -> None:
    """The score of an image is the largest of its regions', its area their sum."""
    defective = draw_part(np.random.default_rng(3), defective=True)
    whole = detector.score(defective)
    assert whole.anomaly_maps is not None
    labels = np.ones((64, 96), np.uint8)
    labels[:, 48:] = 2
    limit = whole.threshold
    maps = whole.anomaly_maps
    summary = summarize(maps, Epilogue(labels, (limit, limit)))
    found = detector._result(BatchScores(summary, maps, {}), ScoreOptions(), begin=0)
    halves = np.split(maps[0], 2, axis=1)
    np.testing.assert_array_equal(found.region_scores, [[half.max() for half in halves]])
    above = [(half > np.float32(limit)).sum() for half in halves]
    np.testing.assert_array_equal(found.region_areas, [above])
    np.testing.assert_array_equal(found.scores, whole.scores)
    np.testing.assert_array_equal(found.areas, whole.areas)
    assert found.is_anomalous[0]
    summary.maxima[0, 1] = -np.inf
    with pytest.raises(EngineError, match=r"not finite, for images \[0\]"):
        detector._result(BatchScores(summary, maps, {}), ScoreOptions(), begin=0)


def test_pixel_formats_and_crop(detector: Detector, frames: NDArray[np.uint8]) -> None:
    expected = detector.score(frames[1])
    found = detector.score(np.ascontiguousarray(frames[1, ..., ::-1]), pixel_format="bgr")
    np.testing.assert_array_equal(found.scores, expected.scores)
    larger = np.pad(frames[1], ((5, 9), (3, 4), (0, 0)))
    cut = detector.score(larger, crop=(5, 3, *frames.shape[1:3]))
    np.testing.assert_allclose(cut.scores, expected.scores, rtol=1e-5)
    # Calibrated were whole frames.
    assert expected.p_values is not None
    assert cut.p_values is None
    mono = frames[1, ..., 1]
    assert detector.score(mono, pixel_format="bayer_rggb").scores != detector.score(mono).scores
    with pytest.raises(ValueError, match="is not bgr"):
        detector.score(mono, pixel_format="bgr")


def test_12_bits_score_as_8_bits_times_16(detector: Detector, frames: NDArray[np.uint8]) -> None:
    expected = detector.score(frames)
    deep, levels = frames.astype(np.uint16) * 16, (0, 4080)
    found = detector.score(deep, levels=levels)
    np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-4)
    np.testing.assert_array_equal(found.is_anomalous, expected.is_anomalous)
    mosaic = detector.score(frames[1, ..., 1], pixel_format="bayer_rggb")
    streamed = detector.stream(deep[1:2, ..., 1], pixel_format="bayer_rggb", levels=levels)
    np.testing.assert_allclose(next(streamed).scores, mosaic.scores, rtol=1e-4)
    with pytest.raises(ValueError, match="this one is uint8, which goes from 0 to 255"):
        detector.score(frames, levels=levels)


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (np.zeros((4, 4, 3), np.float32), r"float32; wanted a uint8 or uint16 array"),
        (np.full((4, 4, 3), np.nan), r"float64 with NaN; wanted"),
        (np.zeros((4, 4, 3), np.int32), r"int32; wanted"),
        (
            np.zeros((4, 4, 3), np.uint16),
            r"a uint16 frame's range is unknown: give the grey levels",
        ),
        (
            [np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4, 3), np.uint16)],
            "a uint16 frame's range is unknown",
        ),
        (np.zeros((4, 4, 4), np.uint8), r"shape \[4, 4, 4\]; wanted"),
        (np.zeros((2, 4, 4, 1), np.uint8), r"shape \[2, 4, 4, 1\]"),
        (np.zeros(4, np.uint8), r"shape \[4\]"),
        (np.zeros((0, 4, 4, 3), np.uint8), r"the batch is empty"),
        (np.zeros((4, 0, 3), np.uint8), r"has no pixels"),
        ([], r"the batch is empty"),
        ([np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4))], r"image 1 of the list is float64"),
        ([np.zeros((1, 4, 4, 3), np.uint8)], r"image 0 of the list has shape"),
        ([[1, 2]], r"image 0 of the list is a list"),
        ("part.png", r"is a str; wanted"),
        (None, r"is a NoneType; wanted"),
    ],
)
def test_wrong_batches(detector: Detector, batch, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        detector.score(batch)


def test_several_threads(detector: Detector, frames: NDArray[np.uint8]) -> None:
    expected = detector.score(frames).scores
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda i: detector.score(frames[i % 6]).scores[0], range(48)))
    np.testing.assert_array_equal(found, np.tile(expected, 8))


def test_throughput_mode(bundle: Bundle, detector: Detector, frames: NDArray[np.uint8]) -> None:
    engine = open_engine(bundle, threads=2, mode="throughput")
    assert engine.streams > 1  # else nothing runs side by side here
    with Detector(engine) as other:
        np.testing.assert_allclose(
            other.score(frames).scores, detector.score(frames).scores, rtol=1e-5
        )


def test_abandoned_batch_does_not_disturb_the_next(bundle: Bundle) -> None:
    engine = open_engine(bundle, threads=2, mode="throughput")
    spec = bundle.manifest.input
    inputs = np.random.default_rng(0).standard_normal((6, 3, spec.height, spec.width), np.float32)
    expected = [chunk.student[0].copy() for chunk in engine.run(inputs)]
    run = engine.run(inputs)
    next(run)
    run.close()
    for chunk, wanted in zip(engine.run(inputs), expected, strict=True):
        np.testing.assert_array_equal(chunk.student[0], wanted)


def test_choices(bundle: Bundle) -> None:
    with pytest.raises(ValueError, match="backend is 'cuda', wanted one of"):
        Detector(bundle.path, backend="cuda")
    with pytest.raises(ValueError, match="threads is 0"):
        Detector(bundle.path, threads=0)
    with pytest.raises(ValueError, match="mode is 'fast'"):
        open_engine(bundle, mode="fast")
    with pytest.raises(ValueError, match="an opened engine was given"):
        Detector(open_engine(bundle), threads=1)
    with Detector(bundle.path, backend="openvino", threads=1) as single:
        assert "threads 1" in single.description


def test_closed(bundle: Bundle, frames: NDArray[np.uint8]) -> None:
    with Detector(bundle.path) as detector:
        detector.warmup(1)
    with pytest.raises(EngineError, match="closed"):
        detector.score(frames[0])
    assert issubclass(EngineError, RdxError)


class FaultyEngine:
    """An engine whose features hold a NaN, or which leaves the last image out."""

    description = "faulty"
    on_device = False
    frame_threads = 1

    def __init__(self, bundle: Bundle, fault: str) -> None:
        self.bundle, self.manifest = bundle, bundle.manifest
        (self.execution,) = bundle.manifest.executions
        self.fault = fault

    def run(self, inputs: NDArray[np.float32]) -> Iterator[Chunk]:
        rng = np.random.default_rng(0)
        for i in range(len(inputs) - (self.fault == "missing")):
            maps = [
                rng.standard_normal((1, s.channels, s.height, s.width), np.float32)
                for s in self.manifest.scales
            ]
            student = [m.copy() for m in maps]
            if self.fault == "nan":
                student[0][0, 0, 0, 0] = np.nan
            yield Chunk(i, maps, student)  # type: ignore[arg-type]

    def close(self) -> None:
        pass


@pytest.mark.parametrize("fault", ["nan", "missing"])
def test_what_was_not_inspected_is_never_ok(
    bundle: Bundle, frames: NDArray[np.uint8], fault: str
) -> None:
    with pytest.raises(EngineError, match="not finite"):
        Detector(FaultyEngine(bundle, fault)).score(frames)


@pytest.mark.parametrize("pooled", ["none", "all", "transposed"])
@pytest.mark.parametrize("method", ["rd4ad"])
@pytest.mark.parametrize("backbone", ["resnet18", "efficientnet_lite0"])
def test_maps_of_openvino(
    bundle: Bundle,
    networks: Path,
    method: str,
    backbone: str,
    pooled: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = as_bundle(networks, method, backbone, "fp32", bundle.manifest)
    outputs = set(made.manifest.output_shapes())
    find = network_module.transposed_outputs
    if pooled != "transposed":
        chosen = outputs if pooled == "all" else set()
        monkeypatch.setattr(network_module, "transposed_outputs", lambda _: chosen)
    engine = OpenVINOEngine(made, 1)
    image, wanted = recorded(networks, method, backbone)
    starts = []
    for start, teacher, student in engine.run(image):
        starts.append(start)
        for found, all_wanted in zip([*teacher, *student], wanted, strict=True):
            scale = np.abs(all_wanted[start]).max()
            np.testing.assert_allclose(found[0], all_wanted[start], atol=5e-5 * scale)
            assert found.strides[1] == found.itemsize  # channels last
    assert starts == list(range(len(image)))
    transposed = find(engine._network._compiled)
    if pooled != "none":
        assert transposed == set()
    elif backbone == "resnet18":  # what the pools are for
        assert transposed == outputs
    engine.close()


SIGNALLED = """
import os, signal, sys, threading
from rdx_fast import Detector

caught = []
for number in (signal.SIGTERM, signal.SIGUSR1):
    signal.signal(number, lambda number, _: caught.append(number))
first, second = (Detector(sys.argv[1], threads=1) for _ in range(2))
first.close()
second.close()
del first, second
os.kill(os.getpid(), signal.SIGTERM)
left = [Detector(sys.argv[1], threads=1)]
other = threading.Thread(target=left.pop)
other.start()
other.join()
os.kill(os.getpid(), signal.SIGUSR1)
print(caught == [signal.SIGTERM, signal.SIGUSR1])
"""


def test_signals_after_detectors_ended_in_any_order(bundle: Bundle) -> None:
    command = [sys.executable, "-P", "-c", SIGNALLED, str(bundle.path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr
