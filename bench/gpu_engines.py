"""Timing of Detectors on a GPU and of what they replace, from host memory to host memory.

Part of ``rdx_fast.bench.gpu``.
"""

from __future__ import annotations

import copy
import gc
import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property, partial
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from rdx_fast.bench.features import published_scores
from rdx_fast.bench.generated import generated_bundle
from rdx_fast.bench.gpu_kernels import eager
from rdx_fast.bench.result_rows import network_facts, spread
from rdx_fast.bench.steps import NotApplicable, Target
from rdx_fast.bench.timing import summary
from rdx_fast.bundle.bundle import Bundle, open_bundle
from rdx_fast.bundle.manifest import Manifest
from rdx_fast.datasets import find_dataset
from rdx_fast.detector import Detector
from rdx_fast.engines import GpuOptions, open_engine
from rdx_fast.engines.tensorrt.api import load_api
from rdx_fast.engines.tensorrt.build import prepare_kernels
from rdx_fast.engines.torch_graph import read_network
from rdx_fast.errors import EngineError, MissingDependencyError, PlanError
from rdx_fast.images import read_image
from rdx_fast.models import make_network
from rdx_fast.pipelines import staging

LATENCY_BATCHES = (1, 4, 16)
STREAM_BATCHES = (1, 2, 4, 8, 16, 32, 64, 128)
DEPTH = 3
TARGETS_OF = ("rd4ad", "wide_resnet50_2", (256, 256))
TARGETS = {
    "p50": Target("ms from host to host at batch 1, p50", 1.0, at_most=True),
    "p99": Target("ms from host to host at batch 1, p99", 1.3, at_most=True),
    "published": Target("times faster than the published pipeline", 15, at_most=False),
}
FRAMES_PER_S = {"H200": 6500, "H100": 5500}  # by a part of the GPU's name
Frames = NDArray[np.uint8 | np.uint16]


class Wanted(NamedTuple):
    """What the CPU finds in float32.

    Attributes:
        scores: of the frames, float32 ``[N]``
        threshold: that they are judged by
    """

    scores: NDArray[np.float32]
    threshold: float


class Subject:
    """What is measured; made when it is first asked for.

    The last Detector stays open for the next step, since opening one may take minutes.

    Args:
        path: an engine bundle; None for one of an untrained network
        backbone: of the untrained network
        folder: where its bundle is kept for the next call
        dataset: whose test set gives the frames; None for noise
    """

    def __init__(
        self, path: Path | None, backbone: str, folder: Path, dataset: Path | None
    ) -> None:
        self._path = path
        self._backbone = backbone
        self._folder = folder
        self._dataset = dataset
        self._open: tuple[Any, Detector, dict[str, Any]] | None = None

    @cached_property
    def bundle(self) -> Bundle:
        kept = self._folder / f"rd4ad_{self._backbone}_fp16.rdx"
        if self._path is not None or (kept / "manifest.json").exists():
            bundle = open_bundle(self._path or kept)
        else:
            bundle = generated_bundle(self._backbone, "fp16", self._folder)
        if not any(e.executed == "fp32" for e in bundle.manifest.executions):
            raise EngineError(
                f"{bundle.path} has no network to execute in float32 on the CPU, with which scores "
                f"are compared: export it with --precision auto or fp16"
            )
        return bundle

    @cached_property
    def frames(self) -> list[Frames]:
        if self._dataset is not None:
            return [read_image(image.path) for image in find_dataset(self._dataset).test()]
        return drawn_frames(self.bundle)

    @cached_property
    def batch(self) -> Frames:
        """The largest batch, of the frames in turn."""
        count = max(STREAM_BATCHES)
        return np.stack([self.frames[i % len(self.frames)] for i in range(count)])

    @cached_property
    def wanted(self) -> Wanted:
        with Detector(self.bundle.path, "openvino", precision="fp32", check_frames=False) as cpu:
            scores = np.concatenate([r.scores for r in cpu.stream(self.frames, batch=8)])
            return Wanted(scores, cpu.threshold.value)

    @cached_property
    def limit_fps(self) -> float:
        """Images per second at the rate of a matrix product."""
        return matrix_rate("cuda") / image_flops(self.bundle)

    @contextmanager
    def detector(
        self, backend: str, options: GpuOptions
    ) -> Iterator[tuple[Detector, dict[str, Any]]]:
        """A Detector, and what all rows about it hold.

        It is the one of the step before if that asked for the same; another one is closed first,
        and so is this one if the step fails.

        Raises:
            NotApplicable: the backend is not installed, or not made for this GPU
        """
        asked = (backend, options)
        try:
            if self._open is None or self._open[0] != asked:
                self.close()
                free_memory()  # which torch would keep from TensorRT
                self._open = (asked, *opened(self.bundle, backend, options))
            _, detector, about = self._open
            yield detector, about | {"frame": list(self.frames[0].shape)}
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the Detector that is open, if any."""
        last, self._open = self._open, None
        if last is not None:
            last[1].close()

    def targets(self) -> dict[str, Target]:
        """What is to be reached with this network on this GPU."""
        manifest = self.bundle.manifest
        size = (manifest.input.height, manifest.input.width)
        if (manifest.method, manifest.backbone, size) != TARGETS_OF:
            return {}
        name = torch.cuda.get_device_name()
        found = dict(TARGETS)
        for gpu, fps in FRAMES_PER_S.items():
            if gpu in name:
                found["fps"] = Target("frames/s at the best batch", fps, at_most=False)
        return found


def free_memory() -> None:
    """Give GPU memory that torch keeps for later back."""
    gc.collect()
    torch.cuda.empty_cache()


def drawn_frames(bundle: Bundle) -> list[Frames]:
    """Noise of the input's size, used without a data set."""
    spec = bundle.manifest.input
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (spec.height, spec.width, 3), dtype=np.uint8) for _ in range(16)]


def latency_batches(options: GpuOptions) -> tuple[int, ...]:
    """Batches whose latency is measured; each one is compiled by itself, for minutes."""
    return (1,) if options.compile else LATENCY_BATCHES


def stream_batches(options: GpuOptions) -> tuple[int, ...]:
    """Batches whose throughput is measured, likewise."""
    return (32,) if options.compile else STREAM_BATCHES


def measure_latency(
    subject: Subject, backend: str, options: GpuOptions, batch: int, calls: int
) -> Iterator[dict[str, Any]]:
    """Rows about calls one after the other; of one image also with its map."""
    targets = subject.targets()
    with subject.detector(backend, options) as (detector, about):
        for maps in (False, True) if batch == 1 else (False,):
            yield about | bound(detector, subject, batch, maps=maps)
            row = latency(detector, subject.batch[:batch], calls, maps)
            found = row["latency_ms"]
            judged = [
                targets[name].judged(found[name])
                for name in ("p50", "p99")
                if batch == 1 and not maps and name in targets and name in found
            ]
            yield about | row | {"targets": judged}


def measure_stream(
    subject: Subject, backend: str, options: GpuOptions, batch: int, seconds: float
) -> Iterator[dict[str, Any]]:
    """Rows about frames per second in batches of one size."""
    targets = subject.targets()
    with subject.detector(backend, options) as (detector, about):
        yield about | bound(detector, subject, batch, depth=DEPTH)
        fps = round(throughput(detector, subject.batch, batch, seconds), 1)
        judged = [targets["fps"].judged(fps)] if "fps" in targets else []
        row = {"batch": batch, "fps": fps, "share_of_limit": fps / subject.limit_fps}
        yield about | row | {"targets": judged}


def measure_staging(
    subject: Subject, backend: str, options: GpuOptions, calls: int
) -> Iterator[dict[str, Any]]:
    """Rows about one frame that the kernel reads in pinned memory, and about the same frame copied
    to the GPU first, called in turn."""
    frame = subject.batch[0]
    if frame.nbytes > staging.READ_IN_PLACE:
        raise NotApplicable(
            f"a frame of {frame.nbytes} bytes is always copied: only up to "
            f"{staging.READ_IN_PLACE} are read in place"
        )
    with subject.detector(backend, options) as (detector, about), _second(detector) as other:

        def copied(frame: Frames) -> None:
            with copying_frames():
                other.score(frame, maps=False)

        yield about | {"read_in_place": True} | bound(detector, subject, 1)
        with copying_frames():
            yield about | {"read_in_place": False} | bound(other, subject, 1)
        ms = in_turn({"read": partial(detector.score, maps=False), "copied": copied}, frame, calls)
        row = about | {"batch": 1, "maps": False, "calls": calls}
        yield row | {"read_in_place": True, "latency_ms": summary(ms["read"])}
        longer = spread(ms["copied"] / ms["read"], 4)
        found = {"latency_ms": summary(ms["copied"]), "times_longer": longer}
        yield row | {"read_in_place": False} | found


def measure_rivals(subject: Subject, compiled: bool, calls: int) -> Iterator[dict[str, Any]]:
    """Rows about the torch engine and what it replaces, called in turn on one frame."""
    manifest = subject.bundle.manifest
    network = make_network(manifest.method, manifest.backbone)
    others = rivals(network, manifest, "cuda", compiled)
    targets = subject.targets()
    with subject.detector("torch", GpuOptions()) as (detector, about):
        yield about | bound(detector, subject, 1)
        for row in against(partial(detector.score, maps=False), others, subject.batch[0], calls):
            judged = []
            if row["rival"] == "published" and "published" in targets:
                judged = [targets["published"].judged(row["times_longer"][1])]
            yield about | row | {"targets": judged}


def opened(bundle: Bundle, backend: str, options: GpuOptions) -> tuple[Detector, dict[str, Any]]:
    """A Detector, and what rows about it hold.

    Raises:
        NotApplicable: the backend is not installed, or not made for this GPU
    """
    try:
        if backend == "tensorrt":
            major, minor = torch.cuda.get_device_capability()
            check_tensorrt(10 * major + minor)  # before kernels are built for nothing
            prepare_kernels(bundle)
        begin = perf_counter()
        engine = open_engine(bundle, backend, gpu=options)
    except MissingDependencyError as error:
        raise NotApplicable(str(error)) from error
    seconds = perf_counter() - begin
    detector = Detector(engine, check_frames=False)
    about = network_facts(detector) | {"engine": detector.description}
    return detector, about | {"open_s": round(seconds, 2)}


def check_tensorrt(compute_capability: int) -> None:
    """Raises ``NotApplicable`` if the installed TensorRT builds no plans for a GPU."""
    try:
        load_api().check(compute_capability)
    except PlanError as error:
        raise NotApplicable(str(error)) from error


@contextmanager
def copying_frames() -> Iterator[None]:
    """Frames are copied to the GPU, however small."""
    limit = staging.READ_IN_PLACE
    staging.READ_IN_PLACE = 0
    try:
        yield
    finally:
        staging.READ_IN_PLACE = limit


@contextmanager
def _second(first: Detector) -> Iterator[Detector]:
    """A second Detector on the engine of one that stays open."""
    second = Detector(first.engine, check_frames=False)
    try:
        yield second
    finally:
        second._pipeline.close()  # the engine is the first one's


def bound(
    detector: Detector, subject: Subject, batch: int, depth: int = 1, maps: bool = False
) -> dict[str, Any]:
    """How long a batch size takes to be made ready, and whether its scores agree with the CPU's:
    nothing is timed before. Raises ``RuntimeError`` if they do not."""
    begin = perf_counter()
    # A batch in each slot that will be in flight.
    for _ in detector.stream(subject.batch[:1].repeat(depth * batch, 0), batch, depth, maps):
        pass
    row = {"batch": batch, "maps": maps, "bind_s": round(perf_counter() - begin, 2)}
    return row | parity(detector, subject.wanted, subject.frames, batch, depth, maps)


def parity(
    detector: Detector,
    wanted: Wanted,
    frames: Sequence[Frames],
    batch: int,
    depth: int = 1,
    maps: bool = False,
) -> dict[str, Any]:
    """Compare the scores of all frames, in full batches, with the CPU's.

    Raises ``RuntimeError`` if they differ too much.
    """
    least = max(len(frames), 2 * depth * batch)
    count = batch * -(-least // batch)
    given = itertools.islice(itertools.cycle(frames), count)
    scores = np.concatenate([r.scores for r in detector.stream(given, batch, depth, maps)])
    expected, threshold = np.resize(wanted.scores, count), wanted.threshold
    difference = float(np.abs(scores / expected - 1).max())
    # Where rounding may decide the verdict: near a threshold, and between the two thresholds.
    near = np.abs(expected / threshold - 1) < 0.01 + abs(detector.threshold.value / threshold - 1)
    verdicts = (scores > detector.threshold.value) != (expected > threshold)
    row = {
        "frames": count,
        "score_difference": difference,
        "verdicts_that_differ": int(verdicts[~near].sum()),
        "near_threshold": int(near.sum()),
    }
    if not difference <= 1e-2 or row["verdicts_that_differ"]:
        raise RuntimeError(f"scores differ too much from the CPU's: {row}; nothing is timed")
    return row


def latency(detector: Detector, frames: Frames, calls: int, maps: bool = False) -> dict[str, Any]:
    """Milliseconds of calls one after the other."""
    for _ in range(20):
        detector.score(frames, maps=maps)
    times = np.empty(calls)
    for i in range(calls):
        begin = perf_counter()
        detector.score(frames, maps=maps)
        times[i] = perf_counter() - begin
    return {"batch": len(frames), "maps": maps, "calls": calls, "latency_ms": summary(1e3 * times)}


def throughput(detector: Detector, frames: Frames, batch: int, seconds: float) -> float:
    """Images per second of a stream that never waits for its source.

    The batch must be ready in each slot in flight: see ``bound``.
    """

    def endless() -> Iterator[Frames]:
        for frame in itertools.cycle(frames):
            if perf_counter() > end:
                return
            yield frame

    begin, scored = perf_counter(), 0
    end = begin + seconds
    for result in detector.stream(endless(), batch=batch, depth=DEPTH):
        scored += len(result)
    return scored / (perf_counter() - begin)


def image_flops(bundle: Bundle) -> float:
    """Floating-point operations of the network for one image; a multiply-add counts as two."""
    stored = next(s for s in ("fp32", "fp16") if s in bundle.manifest.networks)
    network, dtype = read_network(bundle.network(stored))
    spec = bundle.manifest.input
    # Counted, not computed: shapes suffice, and CPUs are slow in float16.
    image = torch.zeros(1, 3, spec.height, spec.width, dtype=dtype, device="meta")
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        network.to("meta")(image)
    return float(counter.get_total_flops())


def matrix_rate(device: str, size: int = 8192) -> float:
    """Floating-point operations per second of a half-precision matrix product; a multiply-add
    counts as two."""
    a, b = (torch.randn(size, size, device=device, dtype=torch.float16) for _ in range(2))
    times = []
    for _ in range(12):
        _synchronize(device)
        begin = perf_counter()
        for _ in range(4):
            a @ b
        _synchronize(device)
        times.append((perf_counter() - begin) / 4)
    return 2 * size**3 / float(np.median(times))


def rivals(
    network: nn.Module, manifest: Manifest, device: str, compiled: bool = False
) -> dict[str, Callable[..., Any]]:
    """Other ways to score a frame ``[H, W, 3]``: the published pipeline and torch's operators in
    float16; or, ``compiled``, those compiled, which takes minutes."""
    spec = manifest.input
    mean, std = (torch.tensor(v).reshape(3, 1, 1) for v in (spec.mean, spec.std))
    plain = network.eval().to(device)

    def prepared(frame: Frames) -> Tensor:
        pixels = torch.from_numpy(frame).permute(2, 0, 1).float() / 255
        return ((pixels - mean) / std)[None].to(device)

    def published(frame: Frames) -> NDArray[np.float32]:
        with torch.inference_mode():
            return published_scores(*plain(prepared(frame)))

    if device == "cpu":
        return {"published": published}
    half: Any = copy.deepcopy(plain).half()
    half = half.to(memory_format=torch.channels_last)

    def on_the_gpu(run: Callable[[Tensor], Any]) -> Callable[[Frames], NDArray[np.float32]]:
        def score(frame: Frames) -> NDArray[np.float32]:
            with torch.inference_mode():
                image = prepared(frame).half().contiguous(memory_format=torch.channels_last)
                return eager(*run(image))().cpu().numpy()

        return score

    if compiled:
        fast = torch.compile(half, mode="max-autotune", dynamic=False)
        return {"torch.compile fp16": on_the_gpu(fast)}
    return {"published": published, "torch eager fp16": on_the_gpu(half)}


def against(
    ours: Callable[[Frames], Any], others: dict[str, Callable[..., Any]], frame: Frames, calls: int
) -> list[dict[str, Any]]:
    """Milliseconds of each, called in turn, and the ratio to ours."""
    times = in_turn({"ours": ours, **others}, frame, calls)
    mine = times["ours"]
    return [
        {
            "rival": name,
            "calls": calls,
            "p50_ms": round(float(np.median(times[name])), 4),
            "ours_p50_ms": round(float(np.median(mine)), 4),
            "times_longer": spread(times[name] / mine, 2),
        }
        for name in others
    ]


def in_turn(
    runs: dict[str, Callable[[Frames], Any]], frame: Frames, calls: int
) -> dict[str, NDArray[np.float64]]:
    """Milliseconds of each call, of several functions that are called in turn on one frame."""
    times = {name: np.empty(calls) for name in runs}
    for run in runs.values():
        for _ in range(5):
            run(frame)
    for i in range(calls):
        for name, run in runs.items():
            begin = perf_counter()
            run(frame)
            times[name][i] = 1e3 * (perf_counter() - begin)
    return times


def _synchronize(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize()
