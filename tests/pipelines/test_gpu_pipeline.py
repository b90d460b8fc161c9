"""The GPU's pipeline on torch's CPU device, its kernels interpreted, against the CPU's own.

The network is a small one that is cheap to run: what is tested lies around it.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from rdx_fast import Detector
from rdx_fast.bundle.bundle import Bundle
from rdx_fast.devices.torch_device import TorchDevice, named_errors
from rdx_fast.engines.torch_engine import TorchEngine
from rdx_fast.errors import DeviceLostError, EngineError
from rdx_fast.images import list_images, read_image
from rdx_fast.kernels import on_triton
from rdx_fast.kernels.epilogue import Epilogue
from rdx_fast.pipelines import ScoreOptions, open_pipeline, staging
from rdx_fast.pipelines.gpu import MAX_GRAPHS, GpuPipeline
from rdx_fast.postprocess import AnomalyMapper
from rdx_fast.preprocess import as_frames, to_input
from rdx_fast.recipe.frame_check import FrameCheck, FrameError
from support.checkout import needs_no_gpu
from support.small_network import SIZE, SPEC, mapper
from support.toy_network import DEVICE, features
from support.toy_network import on_device as pipeline

pytestmark = [
    pytest.mark.usefixtures("own_pipeline"),
    # Of Triton's interpreter, where a first run warms up on what happens to be in memory.
    pytest.mark.filterwarnings("ignore:All-NaN slice:RuntimeWarning"),
]


def test_an_engine_that_was_closed_answers_no_more() -> None:
    """Its memory is gone, though graphs that were recorded with it still could be replayed."""
    closed: list[bool] = []
    tried = pipeline(mapper(), closed=lambda: bool(closed))
    frame = np.zeros((20, 30), np.uint8)
    tried.score(frame, ScoreOptions())
    closed.append(True)
    with pytest.raises(EngineError, match="the engine is closed"):
        tried.score(frame, ScoreOptions())


def expected(
    frames: Any, wanted: AnomalyMapper, options: ScoreOptions
) -> tuple[Any, NDArray[np.float32]]:
    inputs = to_input(
        as_frames(frames), SPEC, options.pixel_format, options.crop, levels=options.levels
    )
    teacher, student = ([m.numpy() for m in maps] for maps in features(torch.from_numpy(inputs)))
    out = np.empty((len(inputs), *SIZE), np.float32)
    return wanted(teacher, student, out), out


def check(frames: Any, wanted: AnomalyMapper, options: ScoreOptions, tried: GpuPipeline) -> None:
    summary, maps = expected(frames, wanted, options)
    found = tried.score(frames, options)
    close = {"rtol": 2e-5, "atol": 2e-6}
    np.testing.assert_allclose(found.summary.maxima, summary.maxima, **close)
    np.testing.assert_array_equal(found.summary.areas, summary.areas)
    assert (found.summary.top_means is None) == (summary.top_means is None)
    if summary.top_means is not None:
        np.testing.assert_allclose(found.summary.top_means, summary.top_means, **close)
    assert (found.anomaly_maps is not None) == options.maps
    if found.anomaly_maps is not None:
        np.testing.assert_allclose(found.anomaly_maps, maps, **close)
    assert set(found.seconds) == {"staging", "device"}


@pytest.fixture(scope="module")
def frames() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (5, 48, 52, 3), dtype=np.uint8)


@pytest.mark.parametrize("fusion", ["add", "mul"])
@pytest.mark.parametrize("maps", [True, False])
def test_same_as_on_the_host(frames: NDArray[np.uint8], fusion: str, maps: bool) -> None:
    wanted = mapper(fusion)
    tried = pipeline(wanted)
    check(frames[:2], wanted, ScoreOptions(maps), tried)
    check(frames[2:4], wanted, ScoreOptions(maps), tried)  # the same graph on other frames
    tried.close()


@pytest.mark.parametrize(("maps", "regions"), [(True, 3), (False, 1)])
def test_regions_and_top_mean(frames: NDArray[np.uint8], maps: bool, regions: int) -> None:
    wanted = mapper(regions=regions, top_k=15)
    check(frames[:2], wanted, ScoreOptions(maps), pipeline(wanted))


@pytest.mark.slow
def test_frames_of_all_kinds_in_one_batch(frames: NDArray[np.uint8]) -> None:
    wanted = mapper()
    # Three of one shape are more than one graph takes.
    mixed = [frames[0], frames[1], frames[2], frames[3, :, :30], frames[4, ..., 0]]
    check(mixed, wanted, ScoreOptions(), pipeline(wanted))
    check(frames[:1], wanted, ScoreOptions(False, "bgr", (3, 4, 40, 41)), pipeline(wanted))
    check(frames[0, ..., 0], wanted, ScoreOptions(False, "bayer_grbg"), pipeline(wanted))


def test_frames_on_the_device(frames: NDArray[np.uint8]) -> None:
    wanted = mapper()
    tried = pipeline(wanted)
    there = torch.from_numpy(frames).to(DEVICE)
    for batch, given in (
        (frames[:3], there[:3]),  # more than the network takes at once
        (frames[:2], there[:2]),
        (frames[2:4], there[2:4]),
        (frames[0], there[0]),
        (frames[0, :, :, 1], there.permute(3, 0, 1, 2).contiguous()[1, 0]),
        (frames[:2, :, 4:44], there[:2, :, 4:44]),  # rows of another pitch
    ):
        found = tried.score(given, ScoreOptions())
        summary, maps = expected(batch, wanted, ScoreOptions())
        np.testing.assert_allclose(found.summary.maxima, summary.maxima, rtol=2e-5)
        np.testing.assert_allclose(found.anomaly_maps, maps, rtol=2e-5, atol=2e-6)
    for wrong, complaint in (
        (there.float(), "is float32"),
        (there[..., :2], r"\[5, 48, 52, 2\], wanted uint8"),
        (there[:0], "wanted uint8"),
        (there[:, :, ::2], "pixels of a row must be contiguous"),
        (there.to(torch.uint16), "a uint16 frame's range is unknown"),
    ):
        with pytest.raises(ValueError, match=complaint):
            tried.score(wrong, ScoreOptions())
    with pytest.raises(ValueError, match="is not bayer_rggb"):
        tried.score(there, ScoreOptions(pixel_format="bayer_rggb"))
    check(frames[:1], wanted, ScoreOptions(), tried)


def test_frames_of_16_bits(frames: NDArray[np.uint8]) -> None:
    """Frames of other levels or of 8 bits may follow: the graph is the same."""
    wanted = mapper()
    tried = pipeline(wanted)
    small = frames[0, :24, :30, 0]
    deep = small.astype(np.uint16) * 200
    check(deep, wanted, ScoreOptions(levels=(0, 51_000)), tried)
    options = ScoreOptions(levels=(3000, 40_000))
    found = tried.score(torch.from_numpy(deep).to(DEVICE)[:, 2:27], options)
    summary, maps = expected(deep[:, 2:27], wanted, options)
    np.testing.assert_allclose(found.summary.maxima, summary.maxima, rtol=2e-5)
    np.testing.assert_allclose(found.anomaly_maps, maps, rtol=2e-5, atol=2e-6)
    with pytest.raises(ValueError, match="this one is uint8"):
        tried.score(small, ScoreOptions(levels=(0, 4095)))
    check(small, wanted, ScoreOptions(), tried)


@pytest.mark.slow
def test_a_trained_bundle(bundle: Bundle, parts: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    images = [read_image(list_images(parts / "test" / kind)[0]) for kind in ("good", "notch")]
    engine = TorchEngine(bundle, str(DEVICE))
    monkeypatch.setattr(TorchEngine, "on_device", True)
    with Detector(bundle.path, "openvino") as detector:
        wanted = detector.score(images)
        tried = open_pipeline(
            engine,
            AnomalyMapper(
                bundle.manifest.map,
                bundle.manifest.scales,
                Epilogue(None, (bundle.manifest.executions[0].threshold.value,)),
            ),
        )
        found = tried.score(images, ScoreOptions())
    np.testing.assert_allclose(found.summary.maxima, wanted.region_scores, rtol=1e-4)
    np.testing.assert_array_equal(found.summary.areas, wanted.region_areas)
    assert wanted.scores[1] > wanted.scores[0]
    np.testing.assert_allclose(found.anomaly_maps, wanted.anomaly_maps, rtol=1e-3, atol=1e-5)


# A graph that is replayed calls no Python: what is noted or patched there, or waits there, does so
# on the CPU alone.
@needs_no_gpu
@pytest.mark.parametrize("fusion", ["add", "mul"])
@pytest.mark.parametrize("maps", [True, False])
@pytest.mark.parametrize("top_k", [0, 15])
def test_what_is_queued(
    frames: NDArray[np.uint8], fusion: str, maps: bool, top_k: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    queued: list[str] = []
    monkeypatch.setattr(TorchDevice, "copy", lambda *_: queued.append("copy"))
    monkeypatch.setattr(
        TorchDevice, "prepare", lambda _, launch: lambda: queued.append(launch.kernel)
    )

    def network(image: torch.Tensor) -> Any:
        queued.append("network")
        return features(torch.zeros_like(image))

    tried = pipeline(mapper(fusion, top_k=top_k), network)
    graph = ["network", "cosine_map", *(["fuse_mul"] if fusion == "mul" else []), "smooth_map"]
    # The kernel writes results and maps to pinned memory, unless it reads the maps again itself.
    graph += ["copy"] if maps and top_k else []
    tried.score(frames[:2], ScoreOptions(maps))
    tables = ["copy"]
    assert queued == [*graph, *tables, "resize_normalize", *graph]  # first a run that warms up
    queued.clear()
    tried.score(frames[2:4], ScoreOptions(maps))
    assert queued == ["resize_normalize", *graph]
    queued.clear()
    tried.score(frames[:2], ScoreOptions(maps, crop=(0, 1, 40, 40)))  # a moving crop
    assert queued == [*tables, "resize_normalize", *graph]
    queued.clear()
    monkeypatch.setattr(staging, "READ_IN_PLACE", frames[:2].nbytes - 1)
    tried.score(frames[:2], ScoreOptions(maps, crop=(0, 2, 40, 40)))
    assert queued == [*tables, "copy", "resize_normalize", *graph]


class DeviceEngine:
    """The toy as an engine, so that a Detector can have it."""

    description = "toy"

    def __init__(self, bundle: Bundle, network: Callable[[torch.Tensor], Any] = features) -> None:
        self.bundle, self.manifest = bundle, bundle.manifest
        (self.execution,) = bundle.manifest.executions
        self.network = network
        self.opened: GpuPipeline | None = None

    def pipeline(self, _: AnomalyMapper) -> GpuPipeline:
        self.opened = pipeline(mapper(), self.network)
        return self.opened

    def close(self) -> None:
        pass


@pytest.mark.parametrize("step", [pytest.param("prepare", marks=needs_no_gpu), "replay"])
def test_what_was_not_inspected_is_never_ok(
    bundle: Bundle, frames: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    detector = Detector(DeviceEngine(bundle), check_frames=False)
    assert np.isfinite(detector.score(frames[:1]).scores).all()
    # The GPU goes on without doing what it was told.
    if step == "replay":
        (slot,) = detector.engine.opened._idle
        (graph,) = slot._graphs.values()
        graph._replay = lambda: None
    else:
        monkeypatch.setattr(TorchDevice, step, lambda *_: lambda: None)
    with pytest.raises(EngineError, match="not finite"):
        detector.score(frames[1:2])


@needs_no_gpu
def test_failures(frames: NDArray[np.uint8], bundle: Bundle) -> None:
    failing: list[Exception] = []

    def network(image: torch.Tensor) -> Any:
        if failing:
            raise failing.pop()
        return features(image)

    detector = Detector(DeviceEngine(bundle, network), check_frames=False)
    good = detector.score(frames[:1]).scores
    # Of one batch alone.
    failing.append(RuntimeError("unlucky"))
    with pytest.raises(EngineError, match="unlucky"):
        detector.score(frames[:1])
    np.testing.assert_array_equal(detector.score(frames[:1]).scores, good)
    with pytest.raises(ValueError, match="the batch is float64"):
        detector.score(frames[:1].astype(float))
    # Of the GPU: nothing more comes from this Detector, but from a new one.
    failing.append(RuntimeError("CUDA error: an illegal memory access was encountered"))
    with pytest.raises(DeviceLostError, match="illegal memory access"):
        detector.score(frames[:1])
    with pytest.raises(DeviceLostError, match="illegal memory access"):
        detector.score(frames[:1])
    detector.close()
    with Detector(DeviceEngine(bundle), check_frames=False) as again:
        np.testing.assert_array_equal(again.score(frames[:1]).scores, good)
    with pytest.raises(EngineError, match="closed"):
        again.score(frames[:1])


def test_frames_are_looked_at_while_the_network_runs(
    bundle: Bundle, frames: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that shows nothing is refused, and what was queued is done before the slot is used
    again."""
    done: list[str] = []
    wait = TorchDevice.wait

    def watched(device: TorchDevice) -> None:
        done.append("waited")
        wait(device)

    detector = Detector(DeviceEngine(bundle))
    good = detector.score(frames[:1]).scores
    monkeypatch.setattr(TorchDevice, "wait", watched)
    look_at = FrameCheck.__call__

    def looked(*given: Any) -> None:
        done.append("looked")
        look_at(*given)

    monkeypatch.setattr(FrameCheck, "__call__", looked)
    np.testing.assert_array_equal(detector.score(frames[:1]).scores, good)
    assert done == ["looked", "waited"]
    done.clear()
    with pytest.raises(FrameError, match="the frame is black"):
        detector.score(np.zeros_like(frames[:1]))
    assert done == ["looked", "waited"]
    np.testing.assert_array_equal(detector.score(frames[:1]).scores, good)
    assert len(detector.engine.opened._idle) == 1


def accelerator_error(code: int) -> RuntimeError:
    """As torch raises it since 2.8."""
    error = torch.AcceleratorError("CUDA error: in some words")
    error.error_code = code
    return error


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (accelerator_error(899), DeviceLostError),
        (accelerator_error(900), EngineError),
        (accelerator_error(908), EngineError),
        (accelerator_error(909), DeviceLostError),
        (RuntimeError("CUDA error: operation not permitted when stream is capturing"), EngineError),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), DeviceLostError),
        (RuntimeError("shapes differ"), EngineError),
    ],
)
def test_a_refused_capture_is_no_lost_device(error: RuntimeError, kind: type[EngineError]) -> None:
    with pytest.raises(EngineError) as caught, named_errors():
        raise error
    assert type(caught.value) is kind


@needs_no_gpu
def test_a_capture_that_fails_leaves_torchs_allocator_as_it_was(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pool, left = (0, 7), []

    class Refusing:
        def __init__(self, graph: Any, **options: Any) -> None:
            assert options["pool"] == pool

        def __enter__(self) -> None: ...

        def __exit__(self, *_: object) -> None:
            raise accelerator_error(901)

    device = TorchDevice(torch.device("cpu"))
    device.torch_device = torch.device("cuda", 0)
    device._stream = SimpleNamespace(synchronize=lambda: None)  # type: ignore[assignment]
    monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: None)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: pool)
    monkeypatch.setattr(torch.cuda, "graph", Refusing)
    monkeypatch.setattr(
        torch._C, "_cuda_endAllocateToPool", lambda *given: left.append(given), raising=False
    )
    with pytest.raises(EngineError, match="could not record"), named_errors():
        device.record(lambda: None)
    assert left == [(0, pool)]
    assert gc.isenabled()


@needs_no_gpu
def test_each_caller_has_a_slot(
    frames: NDArray[np.uint8], bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    interpreter, run = threading.Lock(), on_triton.run

    def one_by_one(launch: Any) -> None:
        with interpreter:  # Triton's is good for one thread alone
            run(launch)

    monkeypatch.setattr(on_triton, "run", one_by_one)
    barrier = threading.Barrier(2, timeout=60)
    together, met = False, set()

    def network(image: torch.Tensor) -> Any:
        if together and threading.get_ident() not in met:
            met.add(threading.get_ident())
            barrier.wait()  # passes only if two are inside
        return features(image)

    engine = DeviceEngine(bundle, network)
    with Detector(engine, check_frames=False) as detector:
        expected_scores = [detector.score(frames[i]).scores for i in range(2)]
        together = True
        found: dict[int, Any] = {}
        threads = [
            threading.Thread(target=lambda i=i: found.update({i: detector.score(frames[i]).scores}))
            for i in range(2)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for i in range(2):
            np.testing.assert_array_equal(found[i], expected_scores[i])
        assert len(engine.opened._idle) == 2
    assert engine.opened._idle == []


@pytest.mark.slow
def test_the_graph_longest_unused_goes(frames: NDArray[np.uint8]) -> None:
    closed: list[Any] = []

    class Watched(TorchDevice):
        def close(self) -> None:
            closed.append(self)
            super().close()

        def child(self) -> Watched:
            return Watched(self.torch_device, self._stream)

    tried = pipeline(mapper(), most=MAX_GRAPHS)
    tried._open_device = lambda: Watched(DEVICE)
    small = frames.repeat(2, axis=0)[:, :20, :20]
    for count in range(1, 1 + MAX_GRAPHS):
        tried.score(small[:count], ScoreOptions(False))
    tried.score(small[:1], ScoreOptions(False))
    (slot,) = tried._idle
    second = next(iter(slot._graphs.values()))
    # Frames of another size take another graph no more; staging may move to larger memory.
    closed.clear()
    tried.score(small[:1, :, :18], ScoreOptions(False))
    assert not closed
    tried.score(small[:1], ScoreOptions(True))
    assert closed == [second.device]
    assert len(slot._graphs) == MAX_GRAPHS
    closed.clear()
    tried.close()
    assert len(closed) == MAX_GRAPHS + 2 + 1  # staging of frames and tables, the slot's own
