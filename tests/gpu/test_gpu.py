"""Whole pipelines on a real GPU. Skipped without one: nothing here stands in for it."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.nn import functional

from rdx_fast import Detector
from rdx_fast.bundle.bundle import Bundle
from rdx_fast.devices.cuda import CudaDevice
from rdx_fast.devices.device import BoundNetwork
from rdx_fast.engines import GpuOptions, open_engine
from rdx_fast.engines.torch_fusion import conv_add_relu, conv_relu
from rdx_fast.errors import EngineError, MissingDependencyError, PlanError
from rdx_fast.export import export_bundle
from rdx_fast.images import list_images
from rdx_fast.kernels.gpu.driver import Gpu, call
from rdx_fast.kernels.gpu.library import KernelLibrary
from rdx_fast.pipelines import ScoreOptions
from rdx_fast.pipelines.gpu import GpuPipeline
from rdx_fast.training import Checkpoint
from support.small_network import SCALES, SIZE, SPEC, mapper
from support.trained import WIDE, draw_part

pytestmark = pytest.mark.gpu

# Between two graphs: cuDNN measures its algorithms for each, and may choose others in float16.
ANOTHER = 2e-3


@pytest.fixture(scope="module")
def half(
    checkpoint: Checkpoint, parts: Path, kernels: Path, tmp_path_factory: pytest.TempPathFactory
) -> Bundle:
    """A float16 bundle with the kernels built for it."""
    path = tmp_path_factory.mktemp("half") / "part.rdx"
    bundle = export_bundle(
        checkpoint, list_images(parts / "calibration"), path, precision="fp16", tolerance=WIDE
    )
    (path / "kernels").symlink_to(kernels)
    return bundle


@pytest.fixture(scope="module")
def frames() -> NDArray[np.uint8]:
    rng = np.random.default_rng(9)
    return np.stack([draw_part(rng, defective=i % 2 == 1) for i in range(10)])


@pytest.fixture(params=["torch", "tensorrt"])
def detector(request: pytest.FixtureRequest, half: Bundle) -> Iterator[Detector]:
    try:
        engine = open_engine(half, request.param, gpu=GpuOptions(max_batch=4))
    except MissingDependencyError as error:
        pytest.skip(str(error))
    except PlanError as error:
        if "builds no plans for compute capability" not in str(error):
            raise
        pytest.skip(str(error))
    with Detector(engine) as opened:
        yield opened


def test_12_bits_score_as_8_bits_times_16(detector: Detector, frames: Any) -> None:
    """On the host and on the GPU, mono and RGB."""
    for batch in (frames[:3], frames[:1], frames[0, ..., 1]):
        deep = batch.astype(np.uint16) * 16
        wanted = detector.score(batch).scores
        for given in (deep, torch.from_numpy(deep).cuda()):
            found = detector.score(given, levels=(0, 4080)).scores
            np.testing.assert_allclose(found, wanted, rtol=ANOTHER)


@pytest.mark.filterwarnings("ignore:.*this CPU has no:UserWarning")
def test_same_as_on_the_cpu(detector: Detector, half: Bundle, frames: Any) -> None:
    with Detector(half.path, "openvino") as cpu:
        wanted = cpu.score(frames)
    found = detector.score(frames)
    np.testing.assert_allclose(found.scores, wanted.scores, rtol=1e-2)
    np.testing.assert_array_equal(found.is_anomalous, wanted.is_anomalous)
    assert found.anomaly_maps is not None
    largest = float(wanted.scores.max())
    np.testing.assert_allclose(found.anomaly_maps, wanted.anomaly_maps, atol=2e-2 * largest)
    streamed = [r.scores for r in detector.stream(frames, batch=3, depth=3)]
    np.testing.assert_allclose(np.concatenate(streamed), found.scores, rtol=ANOTHER)
    np.testing.assert_allclose(
        detector.score(frames, maps=False).scores, found.scores, rtol=ANOTHER
    )


@pytest.mark.filterwarnings("error:the network runs without fused:UserWarning")
def test_fused_as_unfused(half: Bundle, frames: Any) -> None:
    found = []
    for fused in (True, False):
        with Detector(open_engine(half, "torch", gpu=GpuOptions(fuse=fused))) as detector:
            results = [detector.score(frames[:batch]) for batch in (1, 3, 10)]
            assert results[0].engine.count("fused") == fused
            found.append(np.concatenate([r.scores for r in results]))
    np.testing.assert_allclose(*found, rtol=1e-2)


def test_fused_operators() -> None:
    generator = torch.Generator().manual_seed(0)
    x, weight, other = (
        torch.randn(shape, generator=generator).to(
            "cuda", torch.float16, memory_format=torch.channels_last
        )
        for shape in ((2, 64, 24, 24), (32, 64, 3, 3), (2, 32, 12, 12))
    )
    bias = torch.randn(32, generator=generator).to("cuda", torch.float16)
    options: dict[str, Any] = {"stride": (2, 2), "dilation": (1, 1), "groups": 1}
    exact = functional.conv2d(
        *(v.cpu().double() for v in (x, weight, bias)), padding=(1, 1), **options
    )
    zeros, size = torch.zeros_like(other).flatten(), tuple(other.shape[1:])
    alone = conv_relu(x, weight, bias, zeros, size=size, pads=(1, 1, 1, 1), **options)
    summed = conv_add_relu(x, weight, bias, other, pads=(1, 1, 1, 1), **options)
    for result, value in ((alone, exact), (summed, exact + other.cpu().double())):
        assert result.is_contiguous(memory_format=torch.channels_last)
        allowed = 2e-3 * float(value.max())
        torch.testing.assert_close(result.cpu().double(), value.relu(), rtol=0, atol=allowed)


class Interface:
    """An array known by its CUDA Array Interface alone."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor = tensor
        described = tensor.__cuda_array_interface__
        self.__cuda_array_interface__ = {**described, "version": 3, "stream": None}


def test_arrays_on_the_gpu(detector: Detector, frames: Any) -> None:
    wanted = detector.score(frames).scores
    there = torch.from_numpy(frames).cuda()  # more than the network takes at once
    torch.cuda.synchronize()
    np.testing.assert_allclose(detector.score(there).scores, wanted, rtol=ANOTHER)
    np.testing.assert_allclose(detector.score(Interface(there)).scores, wanted, rtol=ANOTHER)
    # On the caller's stream, whose work is far from done.
    big = torch.randn(8192, 8192, device="cuda")
    with torch.cuda.stream(torch.cuda.Stream()):
        for _ in range(20):
            big = big @ big.clamp(-1e-4, 1e-4)
        late = torch.zeros_like(there)
        late += there
        late += (big.isnan().sum() * 0).to(torch.uint8)
        np.testing.assert_allclose(detector.score(late).scores, wanted, rtol=ANOTHER)


def test_default_stream_during_first_calls(detector: Detector, frames: Any) -> None:
    """torch is used in another thread while graphs are recorded."""
    stop = threading.Event()
    failures: list[BaseException] = []

    def work() -> None:
        try:
            while not stop.is_set():
                torch.ones(1000, device="cuda").sum().item()
        except RuntimeError as error:
            failures.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        for batch in (1, 2, 3, 4):
            detector.score(frames[:batch])
    finally:
        stop.set()
        thread.join()
    assert not failures


def test_two_threads_begin_at_once(detector: Detector, frames: Any) -> None:
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda batch: detector.score(frames[:batch]).scores, (1, 2, 3, 4)))
    for batch, scores in enumerate(found, 1):
        np.testing.assert_allclose(scores, detector.score(frames[:batch]).scores, rtol=ANOTHER)


def test_arrays_of_other_libraries(detector: Detector, frames: Any) -> None:
    cupy = pytest.importorskip("cupy")
    wanted = detector.score(frames[:4]).scores
    found = detector.score(cupy.asarray(frames[:4])).scores
    np.testing.assert_allclose(found, wanted, rtol=ANOTHER)


def through_the_driver(gpu: Gpu, library: KernelLibrary, maps: list[NDArray[Any]]) -> GpuPipeline:
    """The pipeline on our own kernels and memory, around features that are always the same."""

    def bind(device: Any, batch: int) -> BoundNetwork:
        image = device.empty((batch, 3, *SIZE), np.float16)
        uploaded = [device.upload(m[:batch]) for m in maps]
        return BoundNetwork(image, lambda: (uploaded[: len(SCALES)], uploaded[len(SCALES) :]))

    def open_device() -> CudaDevice:
        with gpu.current():
            return CudaDevice(gpu, library)

    return GpuPipeline("driver", open_device, bind, mapper(regions=3, top_k=9), SPEC, 4)


def constant_features() -> list[NDArray[np.float16]]:
    rng = np.random.default_rng(4)
    shapes = [(4, s.channels, s.height, s.width) for s in SCALES] * 2
    return [rng.standard_normal(shape).astype(np.float16) for shape in shapes]


@pytest.mark.parametrize("maps", [True, False])
def test_pipeline_through_the_driver(kernels: Path, frames: Any, maps: bool) -> None:
    features = constant_features()
    out = np.empty((4, *SIZE), np.float32)
    wanted = mapper(regions=3, top_k=9)(features[: len(SCALES)], features[len(SCALES) :], out)
    with Gpu() as gpu, gpu.current():
        library = KernelLibrary(kernels, gpu.architecture, cuda=gpu.cuda)
        pipeline = through_the_driver(gpu, library, features)
        for _ in range(3):
            found = pipeline.score(frames[:4], ScoreOptions(maps))
            np.testing.assert_allclose(found.summary.maxima, wanted.maxima, rtol=1e-5)
            np.testing.assert_allclose(found.summary.top_means, wanted.top_means, rtol=1e-5)
            np.testing.assert_array_equal(found.summary.areas, wanted.areas)
            if maps:
                np.testing.assert_allclose(found.anomaly_maps, out, rtol=1e-4, atol=1e-5)
        waiting = [pipeline.submit(frames[:2], ScoreOptions(maps)) for _ in range(3)]
        for result in waiting:
            np.testing.assert_allclose(result().summary.maxima, wanted.maxima[:2], rtol=1e-5)
        pipeline.close()
        with pytest.raises(EngineError, match="closed"):
            pipeline.score(frames[:4], ScoreOptions())
        library.close()


def test_nothing_leaks_in_100_cycles(kernels: Path, frames: Any) -> None:
    free = []
    with Gpu() as keep:
        for _ in range(101):
            with Gpu() as gpu, gpu.current():
                library = KernelLibrary(kernels, gpu.architecture, cuda=gpu.cuda)
                pipeline = through_the_driver(gpu, library, constant_features())
                pipeline.score(frames[:4], ScoreOptions())
                pipeline.close()
                library.close()
            with keep.current():
                free.append(call("cuMemGetInfo")[0])
    assert free[0] - free[-1] <= 2**20


LOST = """
import sys
from pathlib import Path
from rdx_fast.errors import DeviceLostError
from rdx_fast.kernels.gpu import cosine_map
from rdx_fast.kernels.gpu.driver import Gpu, Stream
from rdx_fast.kernels.gpu.library import DeviceArray, KernelLibrary

def run(bad):
    with Gpu() as gpu, gpu.current():
        stream = Stream()
        library = KernelLibrary(Path(sys.argv[1]), gpu.architecture, cuda=gpu.cuda)
        place = 0x10 if bad else stream.allocate(4 * 2 * 64 * 8 * 8)
        maps = [DeviceArray.contiguous(place, (2, 64, 8, 8), "float32")]
        out = [DeviceArray.contiguous(stream.allocate(4 * 2 * 64), (2, 8, 8), "float32")]
        try:
            library.launch(cosine_map.launch(maps, maps, out, library.architecture), int(stream))
            stream.wait()
        except DeviceLostError as error:
            print("lost:", error)
        else:
            print("fine")
        stream.close()

for bad in (False, True, False):
    try:
        run(bad)
    except DeviceLostError as error:
        print("not opened:", error)
print("torch" in sys.modules)
"""


def test_a_lost_gpu_is_opened_by_a_new_process(kernels: Path) -> None:
    command = [sys.executable, "-P", "-c", LOST, str(kernels)]
    for _ in range(2):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        first, second, third, torch_came = done.stdout.strip().splitlines()
        assert (first, torch_came) == ("fine", "False")
        assert second.startswith("lost: CUDA's cuStreamSynchronize failed: CUDA_ERROR_ILLEGAL_ADD")
        assert third.startswith("not opened: CUDA's cuDevicePrimaryCtxRetain failed")
        assert "start a new one" in second
        assert "start a new one" in third
