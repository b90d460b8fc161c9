"""Frames scored in tiles, on a CPU and on torch's device, its kernels interpreted there."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from rdx_fast import Detector
from rdx_fast.bench.recipes import under
from rdx_fast.bundle.bundle import Bundle
from rdx_fast.bundle.manifest import InputSpec, MapSpec, ScaleSpec
from rdx_fast.devices.torch_device import TorchDevice
from rdx_fast.engines import Chunk
from rdx_fast.errors import EngineError
from rdx_fast.kernels.epilogue import Epilogue, MapStats
from rdx_fast.kernels.resize_normalize import PIXEL_FORMATS, Crop
from rdx_fast.kernels.threshold_regions import threshold_regions
from rdx_fast.pipelines import BatchScores, ScoreOptions, WindowPipeline, window_staging
from rdx_fast.pipelines.blending import Blender
from rdx_fast.pipelines.cpu import CpuPipeline
from rdx_fast.pipelines.tiled import TiledPipeline
from rdx_fast.postprocess import AnomalyMapper
from rdx_fast.preprocess import to_input
from rdx_fast.recipe.recipe import InspectionRecipe
from rdx_fast.recipe.tiling import TileSpec, tiling
from support.checkout import needs_no_gpu
from support.small_network import SIZE, SPEC, mapper
from support.toy_network import DEVICE, features, on_device, on_host

# Of Triton's interpreter, where a first run warms up on what happens to be in memory.
pytestmark = pytest.mark.filterwarnings("ignore:All-NaN slice:RuntimeWarning")

Frame = NDArray[np.uint8]
TILES = TileSpec(48, 52, 12)
EPILOGUE = Epilogue(None, (0.05,), 15)


def noise(*shape: int) -> Frame:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def in_tiles(windows: WindowPipeline, tiles: TileSpec = TILES) -> TiledPipeline:
    return TiledPipeline(windows, tiles, SIZE, EPILOGUE)


def assert_same(found: BatchScores, wanted: BatchScores, **close: float) -> None:
    compare: Callable[..., None] = (
        np.testing.assert_allclose if close else np.testing.assert_array_equal
    )
    compare(found.summary.maxima, wanted.summary.maxima, **close)
    compare(found.summary.top_means, wanted.summary.top_means, **close)
    np.testing.assert_array_equal(found.summary.areas, wanted.summary.areas)
    assert (found.anomaly_maps is None) == (wanted.anomaly_maps is None)
    if found.anomaly_maps is not None:
        compare(found.anomaly_maps, wanted.anomaly_maps, **close)


@pytest.mark.parametrize("pixel_format", PIXEL_FORMATS)
@pytest.mark.parametrize("crop", [None, (3, 2, 48, 52)])
def test_one_tile_on_the_host(pixel_format: str, crop: Crop | None) -> None:
    """The same as without tiles, bit for bit."""
    size = (48, 52) if crop is None else (60, 57)
    batch = [noise(*size, 3) if pixel_format in ("rgb", "bgr") else noise(*size)] * 2
    options = ScoreOptions(pixel_format=pixel_format, crop=crop)
    wanted = on_host(mapper(top_k=15)).score(batch, options)
    assert_same(in_tiles(on_host(mapper())).score(batch, options), wanted)


@pytest.mark.parametrize(
    ("place", "crop"),
    [
        ("host", (3, 2, 48, 52)),
        *(
            pytest.param(*given, marks=pytest.mark.slow)
            for given in (("host", None), ("device", None), ("device", (3, 2, 48, 52)))
        ),
    ],
)
def test_one_tile_on_the_device(place: str, crop: Crop | None) -> None:
    """Likewise; the mean of the largest values is summed in another order."""
    frames: Any = noise(1, *((48, 52) if crop is None else (60, 57)), 3)
    if place == "device":
        frames = torch.from_numpy(frames).to(DEVICE)
    wanted = on_device(mapper()).score(frames, ScoreOptions(crop=crop))
    found = in_tiles(on_device(mapper())).score(frames, ScoreOptions(crop=crop))
    np.testing.assert_array_equal(found.summary.maxima, wanted.summary.maxima)
    np.testing.assert_array_equal(found.summary.areas, wanted.summary.areas)
    np.testing.assert_array_equal(found.anomaly_maps, wanted.anomaly_maps)


def test_one_tile_of_a_detector(bundle: Bundle) -> None:
    frame = noise(90, 130, 3)
    options: dict[str, Any] = {"crop": (4, 9, 80, 112), "pixel_format": "bgr"}
    with Detector(bundle.path, top_k=5) as detector:
        wanted = detector.score(frame, **options)
        in_one = under(InspectionRecipe(tiles=TileSpec(80, 112, 16)), detector.engine, top_k=5)
        found = in_one.score(frame, **options)
        for name in ("scores", "anomaly_maps", "top_means", "areas", "is_anomalous"):
            np.testing.assert_array_equal(getattr(found, name), getattr(wanted, name))
        assert "tiles of 80 x 112, overlap 16" in found.engine
        assert set(found.timings_ms) == {*wanted.timings_ms, "blend"}


@pytest.mark.parametrize(
    ("shape", "pixel_format", "crop"),
    [
        ((48, 80, 3), None, None),
        pytest.param((110, 104, 3), "bgr", (2, 0, 100, 104), marks=pytest.mark.slow),
        pytest.param((130, 60), "bayer_grbg", (5, 3, 120, 52), marks=pytest.mark.slow),
        pytest.param((48, 120), "mono", (0, 7, 48, 109), marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("place", ["host", pytest.param("device", marks=pytest.mark.slow)])
def test_device_and_host_agree(
    shape: tuple[int, ...], pixel_format: str | None, crop: Crop | None, place: str
) -> None:
    frame = noise(*shape)
    options = ScoreOptions(pixel_format=pixel_format, crop=crop)
    wanted = in_tiles(on_host(mapper())).score(frame, options)
    given: Any = frame if place == "host" else torch.from_numpy(frame).to(DEVICE)
    windows = on_device(mapper())
    tried = in_tiles(windows)
    for _ in range(2):  # the second time with the launches that were kept
        assert_same(tried.score(given, options), wanted, rtol=2e-5, atol=2e-6)
    assert set(wanted.seconds) == {"preprocess", "network", "postprocess", "blend"}
    tried.close()
    with pytest.raises(EngineError, match="closed"):
        tried.score(given, options)


@needs_no_gpu
@pytest.mark.parametrize("in_place", [True, False])
def test_what_is_staged(monkeypatch: pytest.MonkeyPatch, in_place: bool) -> None:
    """Each part's rows once, and parts in two places in turn."""
    queued: list[str] = []
    monkeypatch.setattr(TorchDevice, "copy", lambda *_: queued.append("copy"))
    monkeypatch.setattr(
        TorchDevice, "prepare", lambda _, launch: lambda: queued.append(launch.kernel)
    )
    monkeypatch.setattr(window_staging, "READ_IN_PLACE", 2**30 if in_place else 0)

    def network(image: torch.Tensor) -> Any:
        return features(torch.zeros_like(image))

    windows = on_device(mapper(), network)
    frame = noise(5 * TILES.height, TILES.width, 3)
    tiled = in_tiles(windows, replace(TILES, overlap=0))
    tiled.score(frame, ScoreOptions(False))
    memory = [slot._windows._frames for slot in windows._idle]
    assert len(memory) == 2
    rows = 2 * TILES.height + 2  # of two tiles, and what their filters draw on beside
    for block in memory:
        assert block._size < 2 * rows * frame[0].nbytes
    queued.clear()
    tiled.score(frame, ScoreOptions(False))
    part = [*([] if in_place else ["copy"]), *2 * ["resize_normalize"], "cosine_map", "smooth_map"]
    last = [name for i, name in enumerate(part) if i != part.index("resize_normalize")]
    assert queued == [*part, *part, *last]


def test_tiles_are_slices_of_the_resized_frame() -> None:
    frame = noise(117, 210, 3)
    given: list[NDArray[np.float32]] = []

    def run(inputs: NDArray[np.float32]) -> Iterator[Chunk]:
        given.extend(inputs.copy())
        teacher, student = features(torch.from_numpy(inputs))
        yield Chunk(0, [m.numpy() for m in teacher], [m.numpy() for m in student])

    crop = (5, 0, 112, 207)
    in_tiles(CpuPipeline("toy", run, SPEC, mapper())).score(frame, ScoreOptions(False, crop=crop))
    tiled = tiling(TILES, crop[2:], SIZE)
    height, width = tiled.size
    (whole,) = to_input([frame], replace(SPEC, height=height, width=width), None, crop)
    assert len(given) == len(tiled.windows()) > 4
    for window, found in zip(tiled.windows(), given, strict=True):
        shown = slice(window.top, window.top + SIZE[0]), slice(window.left, window.left + SIZE[1])
        np.testing.assert_allclose(found, whole[:, *shown], rtol=0, atol=2e-5)


def brightness(size: tuple[int, int]) -> Callable[[TileSpec], TiledPipeline]:
    """A network whose distances are a pixel's brightness, in tiles."""
    spec = InputSpec(*size, (0.0,) * 3, (1.0,) * 3, "bilinear-antialiased")
    of_map = MapSpec(*size, "add", sigma=2.0, truncate=4.0, border="reflect")
    wanted = AnomalyMapper(of_map, (ScaleSpec(2, *size),))

    def run(inputs: NDArray[np.float32]) -> Iterator[Chunk]:
        for i, image in enumerate(inputs):
            cosine = 1 - image[0]
            student = np.stack([cosine, np.sqrt(1 - cosine**2)])[None]
            teacher = np.stack([np.ones_like(cosine), np.zeros_like(cosine)])[None]
            yield Chunk(i, [teacher], [student])

    return lambda tiles: TiledPipeline(
        CpuPipeline("bright", run, spec, wanted), tiles, size, Epilogue()
    )


@pytest.mark.parametrize(
    ("shape", "crop", "tiles", "defect"),
    [
        ((64, 96), None, TileSpec(64, 96), (30, 40)),
        ((300, 120), None, TileSpec(64, 96, 16), (211, 60)),
        ((150, 401), (10, 20, 140, 380), TileSpec(80, 64, 20), (70, 301)),
        ((500, 480), (0, 77, 490, 400), TileSpec(128, 192, 40), (130, 250)),
        ((97, 190), (2, 0, 90, 190), TileSpec(48, 60, 24), (45, 101)),
    ],
)
def test_where_a_defect_is(
    shape: tuple[int, int], crop: Crop | None, tiles: TileSpec, defect: tuple[int, int]
) -> None:
    frame = np.zeros(shape, np.uint8)
    row, column = defect
    frame[row - 4 : row + 5, column - 4 : column + 5] = 255
    found = brightness((64, 96))(tiles).score(frame, ScoreOptions(crop=crop))
    assert found.anomaly_maps is not None
    half = found.summary.maxima[0, 0] / 2
    (place,) = threshold_regions(found.anomaly_maps[0], half, shape, crop=crop)
    assert np.abs(np.subtract(place.centroid_px, (row + 0.5, column + 0.5))).max() < 1


@pytest.mark.parametrize("overlap", [0, 24])
def test_seams(overlap: int) -> None:
    """On a ramp, steps of the map where tiles begin and end are as elsewhere, if they overlap."""
    frame = (np.add(*np.ogrid[:192, :192]) / 2).astype(np.uint8)
    tiles = TileSpec(64, 64, overlap)
    found = brightness((64, 64))(tiles).score(frame, ScoreOptions()).anomaly_maps
    assert found is not None
    laid = tiling(tiles, frame.shape, (64, 64))
    for axis, of_axis in ((0, laid.rows), (1, laid.columns)):
        steps = np.abs(np.diff(found[0], axis=axis)).max(axis=1 - axis)
        ends = {*of_axis.starts[1:], *(start + 64 for start in of_axis.starts[:-1])}
        seams = np.isin(np.arange(1, len(steps) + 1), list(ends))
        assert seams.sum() >= 2
        assert (steps[seams].max() < 1.1 * steps[~seams].max()) == (overlap > 0)


class FaultyEngine:
    """An engine whose features hold a NaN in one tile, or which leaves one out."""

    description = "faulty"
    on_device = False
    frame_threads = 1

    def __init__(self, bundle: Bundle, fault: str, tile: int) -> None:
        self.bundle, self.manifest = bundle, bundle.manifest
        (self.execution,) = bundle.manifest.executions
        self.fault, self.tile = fault, tile

    def run(self, inputs: NDArray[np.float32]) -> Iterator[Chunk]:
        rng = np.random.default_rng(0)
        for i in range(len(inputs)):
            maps = [
                rng.standard_normal((1, s.channels, s.height, s.width), np.float32)
                for s in self.manifest.scales
            ]
            student = [m.copy() for m in maps]
            if i == self.tile and self.fault == "nan":
                student[0][0, 0, 0, 0] = np.nan
            if i != self.tile or self.fault != "missing":
                yield Chunk(i, maps, student)  # type: ignore[arg-type]

    def close(self) -> None:
        pass


@pytest.mark.parametrize("tile", [0, 5])
def test_what_was_not_inspected_is_never_ok(bundle: Bundle, tile: int) -> None:
    frame = noise(160, 200, 3)
    tiles = TileSpec(64, 96, 4)
    engine = FaultyEngine(bundle, "", tile)
    assert np.isfinite(under(InspectionRecipe(tiles=tiles), engine).score(frame).scores).all()
    for fault in ("nan", "missing"):
        with pytest.raises(EngineError, match="not finite"):
            under(InspectionRecipe(tiles=tiles), FaultyEngine(bundle, fault, tile)).score(frame)


@pytest.mark.parametrize("failing", [1, 2])
def test_a_part_that_fails(failing: int) -> None:
    """No part is in flight afterwards, whatever happens to those that were."""
    windows = on_host(mapper())
    windows.max_windows, windows.parts_in_flight = 1, 2
    begun, done, submit = [], [], windows.submit

    def watched(batch: Any, options: ScoreOptions) -> Callable[[], BatchScores]:
        begun.append(options.windows)
        number, result = len(begun), submit(batch, options)

        def wait() -> BatchScores:
            scored = result()
            done.append(number)
            if number == failing:
                raise EngineError("it broke")
            if number > failing:
                raise RuntimeError("so did the next")
            return scored

        return wait

    windows.submit = watched  # type: ignore[method-assign]
    with pytest.raises(EngineError, match="it broke"):
        in_tiles(windows).score(noise(200, 52), ScoreOptions())
    assert done == list(range(1, len(begun) + 1)) == list(range(1, failing + 2))


class PromptWindows:
    """Maps are written when windows are submitted, as early as may be: pixels are the sum of the
    frame's first one and the window's first row.

    Attributes:
        running: parts that were submitted and not waited for
        memory: addresses that maps were written to
    """

    description = "prompt"
    max_windows, parts_in_flight = 2, 2

    def __init__(self) -> None:
        self.running = 0
        self.memory: set[int] = set()

    def shapes(self, batch: list[Frame]) -> list[tuple[int, ...]]:
        return [frame.shape for frame in batch]

    def submit(self, batch: list[Frame], options: ScoreOptions) -> Callable[[], BatchScores]:
        assert options.windows is not None
        assert options.out is not None
        maps = options.out
        maps[:] = [[[batch[i][0, 0] + float(window.top)]] for i, window in options.windows]
        self.memory.add(maps.ctypes.data)
        self.running += 1
        stats = MapStats(maps.max(axis=(1, 2))[:, None], None, np.zeros((len(maps), 1), np.int64))

        def result() -> BatchScores:
            self.running -= 1
            return BatchScores(stats, maps, {})

        return result


def test_parts_are_scored_while_one_is_blended(monkeypatch: pytest.MonkeyPatch) -> None:
    """And the memory of their maps is used again only after they were blended."""
    windows = PromptWindows()
    tiled = in_tiles(windows, replace(TILES, overlap=0))  # type: ignore[arg-type]
    running: list[int] = []
    add = Blender.add

    def watched(blender: Blender, *args: Any) -> None:
        running.append(windows.running)
        add(blender, *args)

    monkeypatch.setattr(Blender, "add", watched)
    frames = [np.full((7 * TILES.height, TILES.width), grey, np.uint8) for grey in (50, 90)]
    for _ in range(2):
        results = [tiled.submit([frame], ScoreOptions()) for frame in frames]
        for of_others, frame, result in zip((2, 0), frames, results, strict=True):
            maps = result().anomaly_maps
            assert maps is not None
            wanted = frame[0, 0] + np.repeat(np.arange(7) * float(SIZE[0]), SIZE[0])
            np.testing.assert_array_equal(maps[0], np.tile(wanted[:, None], SIZE[1]))
            assert [found - of_others for found in running] == [2, 2, 1, 0]
            running.clear()
    assert len(windows.memory) == 5  # two of each frame in flight, and the one that is blended


def test_batches_and_streams(bundle: Bundle) -> None:
    tiles = TileSpec(80, 112, 20)
    frames = noise(3, 150, 120, 3)
    with Detector(bundle.path) as plain:
        detector = under(InspectionRecipe(tiles=tiles), plain.engine)
        alone = [detector.score(frame) for frame in frames]
        together = detector.score(frames)
        assert together.anomaly_maps is not None
        assert together.anomaly_maps.shape == (3, 120, 103)
        np.testing.assert_array_equal(together.scores, together.anomaly_maps.max(axis=(1, 2)))
        for i, one in enumerate(alone):
            np.testing.assert_array_equal(together.scores[i], one.scores[0])
            np.testing.assert_array_equal(together.anomaly_maps[i], one.anomaly_maps[0])
        streamed = list(detector.stream(iter(frames), batch=2, maps=True))
        assert [len(result) for result in streamed] == [2, 1]
        np.testing.assert_array_equal(
            np.concatenate([result.scores for result in streamed]), together.scores
        )
        mixed = [frames[0], frames[1, :, :112]]
        scores = detector.score(mixed, maps=False).scores
        np.testing.assert_array_equal(scores[0], together.scores[0])
        with pytest.raises(ValueError, match="maps of 120 x 103 and of 120 x 96 pixels"):
            detector.score(mixed)
        detector.warmup(1, depth=2)


def test_what_is_refused(bundle: Bundle) -> None:
    with Detector(bundle.path) as plain:
        recipe = InspectionRecipe(tiles=TileSpec(80, 112))
        detector = under(recipe, plain.engine)
        with pytest.raises(ValueError, match=r"tiles of 80 x 112 pixels are larger .* 90 x 100"):
            detector.score(noise(90, 100, 3))
        with pytest.raises(ValueError, match=r"larger than the frame .* of 79 x 112"):
            detector.score(noise(90, 120, 3), crop=(0, 0, 79, 112))
        with pytest.raises(ValueError, match="is not bayer_rggb"):
            detector.score(noise(90, 120, 3), pixel_format="bayer_rggb")
        with pytest.raises(ValueError, match="is float64"):
            detector.score(noise(90, 120, 3).astype(float))
        masked = under(recipe, plain.engine, region=np.ones((64, 96), bool))
        with pytest.raises(ValueError, match=r"marked in \[64, 96\] pixels, the map is"):
            masked.score(noise(160, 112, 3))
        region = np.zeros((128, 96), bool)
        region[100:, :20] = True
        masked = under(recipe, plain.engine, region=region)
        result = masked.score(noise(160, 112, 3))
        assert result.anomaly_maps is not None
        assert result.scores[0] == result.anomaly_maps[0][region].max()


LARGE = """
import re, sys
import numpy as np
from pathlib import Path
from rdx_fast.kernels.epilogue import Epilogue
from rdx_fast.bundle.manifest import InputSpec, MapSpec, ScaleSpec
from rdx_fast.engines import Chunk
from rdx_fast.pipelines import ScoreOptions
from rdx_fast.pipelines.cpu import CpuPipeline
from rdx_fast.pipelines.tiled import TiledPipeline
from rdx_fast.postprocess import AnomalyMapper
from rdx_fast.recipe.tiling import TileSpec

side = 256
spec = InputSpec(side, side, (0.0,) * 3, (1.0,) * 3, "bilinear-antialiased")
of_map = MapSpec(side, side, "add", 4.0, 4.0, "reflect")
mapper = AnomalyMapper(of_map, (ScaleSpec(2, 64, 64),))
features = np.random.default_rng(0).random((2, 1, 2, 64, 64), np.float32)

def run(inputs):
    for i in range(len(inputs)):
        yield Chunk(i, [features[0]], [features[1]])

def memory(which):
    status = Path("/proc/self/status").read_text()
    return 1024 * int(re.search(rf"{which}:\\s+(\\d+) kB", status)[1])

frame = np.zeros((int(sys.argv[1]), int(sys.argv[2])), np.uint8)
windows = CpuPipeline("flat", run, spec, mapper)
tiled = TiledPipeline(windows, TileSpec(side, side, 32), (side, side), Epilogue(None, (0.5,), 100))
tiled.score(frame[:side, :side], ScoreOptions(maps=False))
before = memory("VmRSS")
tiled.score(frame, ScoreOptions(maps=False))
part = windows.max_windows * (3 + 1) * side * side * 4
strip = min(frame.shape) * side * 4
print(memory("VmHWM") - before, 2 * part + 4 * strip)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read as Linux tells it")
@pytest.mark.parametrize("shape", [(2048, 20000), (20000, 2048)])
def test_memory_of_large_frames(shape: tuple[int, int]) -> None:
    """Two parts and a strip, whatever the number of tiles."""
    command = [sys.executable, "-P", "-c", LARGE, *map(str, shape)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    taken, bound = map(int, done.stdout.split())
    assert 0 < taken < bound < shape[0] * shape[1] * 4
