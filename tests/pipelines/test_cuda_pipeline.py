"""The GPU pipeline through CUDA's driver, in whose place a test double checks the rules.

The network copies one value of each image, and so do the kernels: a frame's score is its first
pixel, if everything comes from and goes to where it should.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from numpy.typing import NDArray

from rdx_fast.bundle.bundle import Bundle
from rdx_fast.detector import Detector
from rdx_fast.devices import cuda
from rdx_fast.devices.cuda import CudaDevice
from rdx_fast.devices.device import BoundNetwork
from rdx_fast.errors import DeviceLostError, DeviceMemoryError, EngineError
from rdx_fast.kernels.epilogue import Epilogue
from rdx_fast.kernels.gpu.driver import Gpu, call
from rdx_fast.kernels.gpu.library import KernelLibrary
from rdx_fast.pipelines import ScoreOptions, gpu, staging
from rdx_fast.pipelines.gpu import MAX_GRAPHS, GpuPipeline
from rdx_fast.pipelines.tiled import TiledPipeline
from rdx_fast.recipe.recipe import FrameSpec, InspectionRecipe
from rdx_fast.recipe.tiling import TileSpec
from support.recording_driver import LEGACY, RecordingDriver, recording, values, write_kernels
from support.small_network import SCALES, SIZE, SPEC, mapper

OPTIONS = ScoreOptions(maps=False)
MOST = 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_kernels(tmp_path_factory.mktemp("recorded") / "kernels")


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Iterator[RecordingDriver]:
    with recording(monkeypatch) as double:
        double.effects = {"resize_normalize": resize, "cosine_map": cosine, "smooth_map": smooth}
        yield double


def resize(given: dict[str, Any]) -> None:
    for axis in ("row", "column"):  # the filters are there
        weights = values(given[f"{axis}_weights"], (given[f"{axis}_taps"],), np.float32)
        assert weights.sum() == pytest.approx(1)
    for i in range(given["images"]):
        pixel = values(given["frames"] + i * given["frame_stride"], (1,), np.uint8)
        values(given["out"] + 2 * i * given["image_stride"], (1,), np.float16)[:] = pixel


def cosine(given: dict[str, Any]) -> None:
    images, channels, count = given["images"], given["channels0"], given["count0"]
    teacher = values(given["t0"], (images, channels * count), np.float16)
    values(given["d0"], (images, count), np.float32)[:, 0] = teacher[:, 0]


def smooth(given: dict[str, Any]) -> None:
    images = given["images"]
    distances = values(given["d0"], (images, given["h0"] * given["w0"]), np.float32)
    each, region = (images, given["regions"]), np.arange(given["regions"])
    values(given["maxima"], each, np.float32)[:] = distances[:, :1] + 100 * region
    values(given["areas"], each, np.int64)[:] = 10 * np.arange(images)[:, None] + region
    values(given["top_means"], (images,), np.float32)[:] = 1 + distances[:, 0]
    if given["write_maps"]:
        values(given["maps"], (images, *SIZE), np.float32)[:] = distances[:, :1, None]


class Chain:
    """A pipeline on a GPU of its own. ``in_network`` is called whenever the network is queued, and
    ``in_bind`` while it is prepared."""

    def __init__(
        self, folder: Path, most: int = MOST, top_k: int = 0, regions: int | None = None
    ) -> None:
        self.in_network: Callable[[], None] = lambda: None
        self.in_bind: Callable[[], None] = lambda: None
        self.closed = False
        self.gpu = Gpu()
        with self.gpu.current():
            self.library = KernelLibrary(folder, self.gpu.architecture, cuda=self.gpu.cuda)
        self.pipeline = GpuPipeline(
            "recorded",
            self.open_device,
            self.bind,
            mapper(regions=regions, top_k=top_k),
            SPEC,
            most,
            lambda: self.closed,
        )

    def open_device(self) -> CudaDevice:
        with self.gpu.current():
            return CudaDevice(self.gpu, self.library)

    def bind(self, device: Any, batch: int) -> BoundNetwork:
        self.in_bind()
        image = device.empty((batch, 3, *SIZE), np.float16)
        shapes = [(batch, s.channels, s.height, s.width) for s in SCALES]
        teacher, student = ([device.empty(shape, np.float16) for shape in shapes] for _ in "ts")

        def run() -> Any:
            self.in_network()
            for i in range(batch):
                first, pixel = teacher[0].narrow(0, i, 1), image.narrow(0, i, 1)
                device.stream.copy(first.pointer, pixel.pointer, 2)
            return teacher, student

        return BoundNetwork(image, run)

    def close(self) -> None:
        self.closed = True
        self.pipeline.close()
        with suppress(DeviceLostError), self.gpu.current():
            self.library.close()
        self.gpu.close()


@pytest.fixture
def chain(driver: RecordingDriver, folder: Path) -> Iterator[Chain]:
    opened = Chain(folder)
    yield opened
    opened.close()


def frames_of(*levels: int, size: tuple[int, ...] = (20, 24)) -> list[NDArray[np.uint8]]:
    return [np.full(size, level, np.uint8) for level in levels]


def scores(chain: Chain, frames: Any, options: ScoreOptions = OPTIONS) -> list[float]:
    return chain.pipeline.score(frames, options).summary.maxima[:, 0].tolist()


@pytest.mark.parametrize("in_place", [True, False])
@pytest.mark.parametrize("top_k", [0, 5])
def test_scores_and_maps(
    driver: RecordingDriver,
    folder: Path,
    in_place: bool,
    top_k: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(staging, "READ_IN_PLACE", 2**30 if in_place else 0)
    chain = Chain(folder, top_k=top_k)
    for levels in ([1, 2], [3, 4], [5, 6, 7, 8, 9, 10, 11]):
        found = chain.pipeline.score(frames_of(*levels), ScoreOptions())
        assert found.summary.maxima[:, 0].tolist() == levels
        assert found.anomaly_maps is not None
        assert (found.anomaly_maps == np.array(levels)[:, None, None]).all()
        if top_k:
            assert found.summary.top_means is not None
            assert found.summary.top_means.tolist() == [1 + level for level in levels]
    assert scores(chain, frames_of(9)) == [9]
    chain.close()


def test_results_of_regions(driver: RecordingDriver, folder: Path) -> None:
    """Each array has its place in the block of results, and the kernel is given what it wants."""
    chain = Chain(folder, top_k=2, regions=5)
    wanted = mapper(regions=5).epilogue
    given: list[dict[str, Any]] = []
    driver.effects["smooth_map"] = lambda arguments: (given.append(arguments), smooth(arguments))
    found = chain.pipeline.score(frames_of(1, 2, 3), OPTIONS).summary
    assert found.maxima.tolist() == [[i + 100 * r for r in range(5)] for i in (1, 2, 3)]
    assert found.areas.tolist() == [[10 * i + r for r in range(5)] for i in range(3)]
    assert found.top_means is not None
    assert found.top_means.tolist() == [2, 3, 4]
    thresholds = values(given[-1]["thresholds"], (5,), np.float32)
    np.testing.assert_array_equal(thresholds, np.float32(wanted.thresholds))
    np.testing.assert_array_equal(values(given[-1]["labels"], SIZE, np.uint8), wanted.labels)
    for scratch in ("keys_so_far", "areas_so_far"):
        assert not values(given[-1][scratch], (3, 5), np.int32).any()
    chain.close()


def test_what_one_frame_costs(chain: Chain, driver: RecordingDriver) -> None:
    """Pinned memory is read and written by the kernels: nothing is copied or filled for it."""
    scores(chain, frames_of(1))
    driver.ran.clear()
    driver.calls.clear()
    assert scores(chain, frames_of(2)) == [2]
    network = ["copy"]
    assert driver.ran == ["resize_normalize", *network, "cosine_map", "smooth_map"]
    assert driver.calls == {
        "cuCtxPushCurrent": 2,
        "cuCtxPopCurrent": 2,
        "cuLaunchKernel": 1,
        "cuGraphLaunch": 1,
        "cuStreamSynchronize": 1,
    }


def test_warmup_records_what_the_line_will_need(
    chain: Chain, driver: RecordingDriver, bundle: Bundle
) -> None:
    engine: Any = SimpleNamespace(
        bundle=bundle,
        manifest=bundle.manifest,
        execution=bundle.manifest.executions[0],
        close=lambda: None,
    )
    with patch("rdx_fast.applied_recipe.open_pipeline", lambda engine, mapper: chain.pipeline):
        detector = Detector(engine, check_frames=False)
    detector.warmup(1, batch=2, depth=3)
    recorded = driver.calls["cuStreamBeginCapture"]
    assert recorded == 2 * 3  # with and without maps, on three slots
    for maps in (False, True):
        for result in detector.stream(frames_of(*range(12)), batch=2, depth=3, maps=maps):
            assert len(result) == 2
    detector.score(frames_of(1, 2))
    assert driver.calls["cuStreamBeginCapture"] == recorded


def test_warmup_has_frames_of_16_bits(
    chain: Chain, driver: RecordingDriver, bundle: Bundle
) -> None:
    manifest = replace(
        bundle.manifest, recipe=InspectionRecipe(FrameSpec(pixel_format="mono", levels=(96, 4000)))
    )
    (execution,) = manifest.executions
    engine: Any = SimpleNamespace(
        bundle=bundle, manifest=manifest, execution=execution, close=lambda: None
    )
    with patch("rdx_fast.applied_recipe.open_pipeline", lambda engine, mapper: chain.pipeline):
        detector = Detector(engine, limits=execution.limits)
    staged = []
    with patch.object(chain.pipeline, "score", lambda frames, _: staged.extend(frames)):
        detector.warmup(1, batch=2)
    assert len(staged) == 4
    assert {(frame.dtype.name, frame.ndim, *np.unique(frame)) for frame in staged} == {
        ("uint16", 2, 2048)
    }
    recorded = driver.calls["cuStreamBeginCapture"]
    detector.warmup(1, batch=2, depth=2)
    assert driver.calls["cuStreamBeginCapture"] > recorded


def test_kinds_of_frames_share_a_graph(chain: Chain, driver: RecordingDriver) -> None:
    sizes = [(20, 24), (31, 7, 3), (20, 24, 3), (64, 64)]
    for images in (1, 2, 3):
        scores(chain, frames_of(*range(images)))
    assert driver.calls["cuStreamBeginCapture"] == 3
    for size in sizes:
        assert scores(chain, frames_of(4, 5, size=size)) == [4, 5]
    mixed = [frame for i, size in enumerate(sizes[:3]) for frame in frames_of(7 + i, size=size)]
    assert scores(chain, mixed) == [7, 8, 9]
    for left in range(5):  # a moving crop
        assert scores(chain, frames_of(6, 7), OPTIONS._replace(crop=(0, left, 19, 19))) == [6, 7]
    assert scores(chain, frames_of(6, 7), OPTIONS._replace(pixel_format="bayer_rggb")) == [6, 7]
    for white in (255, 1023):
        deep = [np.full((20, 24), 11, np.uint16)]
        assert scores(chain, deep, OPTIONS._replace(levels=(0, white))) == [11]
    with pytest.raises(ValueError, match="beyond the frame"):
        scores(chain, frames_of(6, 7), OPTIONS._replace(crop=(0, 0, 99, 99)))
    assert scores(chain, frames_of(8, 9)) == [8, 9]
    assert driver.calls["cuStreamBeginCapture"] == 3


def test_parts_take_two_slots_in_turn(chain: Chain, driver: RecordingDriver) -> None:
    levels = list(range(1, 4 * MOST))
    scores(chain, frames_of(*levels))
    assert driver.calls["cuStreamCreate"] == 2
    driver.order.clear()
    assert scores(chain, frames_of(*levels)) == levels
    short = {"cuGraphLaunch": "queue", "cuStreamSynchronize": "wait"}
    order = [short[name] for name in driver.order if name in short]
    assert order == ["queue", "queue", "wait", "queue", "wait", "queue", "wait", "wait"]


def test_tiles(chain: Chain, driver: RecordingDriver) -> None:
    """Of frames of several kinds; when they come again, filters and launches are there."""
    tiled = TiledPipeline(chain.pipeline, TileSpec(20, 24, 4), SIZE, Epilogue())
    sizes = [(5 * 20, 24), (20, 7 * 24, 3), (30, 48), (20, 24)]
    for levels in ([4, 5], [7, 6]):
        driver.calls.clear()
        for size in sizes:
            found = tiled.score(frames_of(*levels, size=size), ScoreOptions())
            assert found.summary.maxima[:, 0].tolist() == pytest.approx(levels)
            assert found.anomaly_maps is not None
            for shown, level in zip(found.anomaly_maps, levels, strict=True):
                np.testing.assert_allclose(shown, level, rtol=1e-6)
    assert "cuMemAlloc" not in driver.calls


class Other:
    """An array of another library, known by its CUDA Array Interface alone."""

    def __init__(self, frames: NDArray[np.uint8], stream: int | None) -> None:
        self.frames = frames
        self.__cuda_array_interface__ = {**frames.__array_interface__, "stream": stream}


@pytest.fixture
def other_arrays(monkeypatch: pytest.MonkeyPatch) -> None:
    """cuda-python asks the real driver; this view does the same through the double."""

    def view(array: Other, stream: int) -> Any:
        named = array.__cuda_array_interface__["stream"]
        if named is not None:
            event = call("cuEventCreate", 0)
            call("cuEventRecord", event, named)
            call("cuStreamWaitEvent", stream, event, 0)
            call("cuEventDestroy", event)
        pixels = array.frames
        return SimpleNamespace(
            ptr=pixels.ctypes.data, shape=pixels.shape, strides=pixels.strides,
            dtype=pixels.dtype, device_id=0, exporting_obj=array,
        )  # fmt: skip

    monkeypatch.setattr(cuda, "strided_view", view)


@pytest.mark.usefixtures("other_arrays")
@pytest.mark.parametrize("named", [True, False])
def test_arrays_of_other_libraries(chain: Chain, driver: RecordingDriver, named: bool) -> None:
    """Their owner's work may still be queued, on a stream that it names or on the default one."""
    with chain.gpu.current():
        owner = call("cuStreamCreate", 0) if named else LEGACY[0]
        pointer = int(call("cuMemAlloc", 5 * 20 * 24 * 3))
        there = values(pointer, (5, 20, 24, 3), np.uint8)
        there[:] = 1
        driver.hurried = True
        # Five frames are two parts, on two slots.
        for level, frames in ((7, there), (8, there), (9, there[3])):
            call("cuMemsetD8Async", pointer, level, there.nbytes, owner)
            given = Other(frames, int(owner) if named else None)
            assert scores(chain, given) == [level] * (5 if frames is there else 1)
        call("cuMemFree", pointer)
        if named:
            call("cuStreamDestroy", owner)
    assert driver.calls["cuEventCreate"] == driver.calls["cuEventDestroy"] > 0


def test_others_use_the_default_stream_during_a_capture(
    chain: Chain, driver: RecordingDriver
) -> None:
    """The user's own code, such as torch, in another thread."""
    used: list[bool] = []

    def use() -> None:
        with chain.gpu.current():
            place = call("cuMemAlloc", 16)
            call("cuMemsetD8Async", place, 0, 16, LEGACY[0])
            call("cuStreamSynchronize", LEGACY[0])
            call("cuMemFree", place)
        used.append(driver.capturing())

    def in_network() -> None:
        thread = threading.Thread(target=use)
        thread.start()
        thread.join()

    chain.in_network = in_network
    assert scores(chain, frames_of(3)) == [3]
    assert used == [False, True]


def test_two_first_calls(
    chain: Chain, driver: RecordingDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One prepares its network, which synchronises the device, while another would record."""
    chain.in_bind = lambda: call("cuCtxSynchronize")
    arrived = threading.Event()
    exclusive = gpu.EXCLUSIVE

    class Watched:
        def __enter__(self) -> None:
            if threading.current_thread() is second:
                arrived.set()
            exclusive.acquire()

        def __exit__(self, *_: object) -> None:
            exclusive.release()

    found: dict[str, Any] = {}
    second = threading.Thread(target=lambda: found.update(second=scores(chain, frames_of(5, 6))))

    def in_network() -> None:
        if driver.capturing() and not arrived.is_set():
            second.start()
            assert arrived.wait(60)

    chain.in_network = in_network
    monkeypatch.setattr(gpu, "EXCLUSIVE", Watched())
    assert scores(chain, frames_of(3)) == [3]
    second.join()
    assert found == {"second": [5, 6]}


def test_a_refused_capture_is_no_lost_device(chain: Chain, driver: RecordingDriver) -> None:
    def synchronize() -> None:
        if driver.capturing():
            with suppress(EngineError):
                call("cuCtxSynchronize")

    chain.in_network = synchronize
    with pytest.raises(EngineError, match="CAPTURE_INVALIDATED") as caught:
        scores(chain, frames_of(3))
    assert not isinstance(caught.value, DeviceLostError)
    chain.in_network = lambda: None
    assert scores(chain, frames_of(3)) == [3]


@pytest.mark.parametrize(
    "function",
    [
        "cuMemAlloc",
        "cuMemHostAlloc",
        "cuStreamCreate",
        "cuModuleLoadData",
        "cuLaunchKernel",
        "cuGraphInstantiate",
        "cuGraphLaunch",
    ],
)
def test_failures_while_a_graph_is_made(
    chain: Chain, driver: RecordingDriver, function: str
) -> None:
    """Whatever fails, nothing is left behind, and the next call succeeds."""
    for before in range(50):
        driver.failures[function] = [*[None] * before, "OUT_OF_MEMORY"]
        try:
            found = scores(chain, frames_of(3))
        except DeviceMemoryError:
            continue
        assert found == [3]
        break
    assert before >= 1
    driver.failures.clear()


def test_a_closed_engine_answers_no_more(chain: Chain, driver: RecordingDriver) -> None:
    """What its graphs point to is gone: kernels and the network's memory."""
    scores(chain, frames_of(3))
    driver.calls.clear()
    chain.closed = True
    with pytest.raises(EngineError, match="the engine is closed"):
        scores(chain, frames_of(3))
    assert not driver.calls


def test_evictions(driver: RecordingDriver, folder: Path) -> None:
    chain = Chain(folder, most=MAX_GRAPHS + 2)
    for _ in range(2):
        for batch in range(1, MAX_GRAPHS + 3):
            levels = list(range(1, batch + 1))
            assert scores(chain, frames_of(*levels)) == levels
    assert driver.calls["cuGraphExecDestroy"] == 2 * (MAX_GRAPHS + 2) - MAX_GRAPHS
    # Staging moves to larger memory while graphs live.
    assert scores(chain, frames_of(3, size=(300, 400, 3))) == [3]
    chain.close()


def test_a_lost_device_is_closed(driver: RecordingDriver, folder: Path) -> None:
    chain = Chain(folder)
    scores(chain, frames_of(3))
    driver.failures["cuStreamSynchronize"] = ["ILLEGAL_ADDRESS"]
    for _ in range(2):
        with pytest.raises(DeviceLostError, match="ILLEGAL_ADDRESS"):
            scores(chain, frames_of(3))
    chain.close()
    # As a real driver does, whatever was released or reset before.
    with pytest.raises(DeviceLostError, match=r"cuDevicePrimaryCtxRetain.*: start a new one"):
        Gpu()
