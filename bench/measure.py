"""The measurements of ``rdx-fast bench``."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rdx_fast.bench.counts import operators
from rdx_fast.bench.fresh import start
from rdx_fast.bench.limits import copy_gb_s, matrix_gflops
from rdx_fast.bench.result_rows import facts, network_facts, spread
from rdx_fast.bench.timing import repeat, summary
from rdx_fast.bundle.bundle import Bundle, open_bundle
from rdx_fast.detector import Detector
from rdx_fast.engines import open_engine
from rdx_fast.engines.openvino.engine import OpenVINOEngine
from rdx_fast.images import list_images, read_image
from rdx_fast.preprocess import Frame

# In the order of a frame's path; "copy" is the transfer to a GPU, where "network" includes the map.
STAGES = ("decode", "preprocess", "copy", "network", "map", "verdict", "total")
_OURS = {"preprocess": "preprocess", "staging": "copy", "network": "network", "device": "network"}
MIN_CALLS, MAX_CALLS = 20, 10_000
MAX_IMAGES = 32
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

OnStep = Callable[[str], object]


@dataclass(frozen=True, slots=True)
class Setting:
    """Options of a measurement.

    Attributes:
        frame: height and width of drawn frames in pixels
        images: folder of images to use instead of drawn frames
        backend: see ``open_engine``
        threads: CPU threads, None for all
        batches: batch sizes of the throughput table
        seconds: duration of the single calls; each entry of the throughput table takes a tenth
        precision: executed precision, None for the fastest
    """

    frame: tuple[int, int] = (1024, 1024)
    images: Path | None = None
    backend: str = "auto"
    threads: int | None = None
    batches: tuple[int, ...] = (1, 4, 16)
    seconds: float = 20.0
    precision: str | None = None

    def open(self, bundle: Bundle, threads: int | None, mode: str = "latency") -> Detector:
        engine = open_engine(bundle, self.backend, threads, mode, precision=self.precision)
        return Detector(engine, check_frames=False)


def measure(paths: Sequence[Path], setting: Setting, on_step: OnStep) -> list[dict[str, Any]]:
    """Measure bundles; calls that are timed go to the bundles in turn.

    Args:
        paths: folders of the bundles
        setting: options of the measurement
        on_step: called with the name of each step

    Returns:
        one row for each bundle, JSON-compatible

    Raises:
        BundleError: a bundle cannot be opened
        EngineError: an engine cannot be opened or fails
        ImageError: an image cannot be read
    """
    bundles = [open_bundle(path) for path in paths]
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        files = _files(setting, folder)
        detectors = [
            stack.enter_context(setting.open(bundle, setting.threads)) for bundle in bundles
        ]
        on_step("latency")
        times = _latencies(detectors, files, setting.seconds)
        frames = [read_image(file) for file in files]
        rows = []
        for bundle, detector, taken in zip(bundles, detectors, times, strict=True):
            rows.append(_about(bundle, detector, frames[0]) | _latency(taken, times[0]))
        on_cpu = [isinstance(detector.engine, OpenVINOEngine) for detector in detectors]
    on_step("limits")
    limits = _limits(setting.threads or CORES)
    for bundle, row, cpu in zip(bundles, rows, on_cpu, strict=True):
        row["limits"] = limits | _rates(bundle, row, frames[0])
        on_step(f"first call of {bundle.path.name}")
        height, width = frames[0].shape[:2]
        row["start"] = start(
            bundle.path, height, width, row["precision"], setting.backend, setting.threads
        )
        on_step(f"frames a second of {bundle.path.name}")
        row["throughput"] = list(_throughput(bundle, frames, setting, cpu))
    return rows


def drawn_frame(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    """A smooth image, uint8 ``[H, W, 3]``; noise would take longer to decode than real images."""
    coarse = np.random.default_rng(seed).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    return np.asarray(
        Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    ).copy()


def _files(setting: Setting, folder: Path) -> list[Path]:
    if setting.images is not None:
        return list_images(setting.images)[:MAX_IMAGES]
    file = folder / "frame.png"
    Image.fromarray(drawn_frame(*setting.frame)).save(file)
    return [file]


def _latencies(
    detectors: list[Detector], files: list[Path], seconds: float
) -> list[dict[str, NDArray[np.float64]]]:
    """Milliseconds by stage of each detector's calls."""
    kept: list[dict[str, list[float]]] = [{s: [] for s in STAGES} for _ in detectors]
    for detector in detectors:
        detector.warmup(5)

    def once() -> None:
        file = files[len(kept[0]["total"]) % len(files)]
        begin = perf_counter()
        frame = read_image(file)
        decoded = 1e3 * (perf_counter() - begin)
        for detector, series in zip(detectors, kept, strict=True):
            found = stages(detector.score(frame).timings_ms) | {"decode": decoded}
            for stage in STAGES:
                series[stage].append(found.get(stage, 0.0))

    repeat(once, seconds * len(detectors), MIN_CALLS, MAX_CALLS)
    return [{stage: np.array(values) for stage, values in series.items()} for series in kept]


def stages(timings_ms: dict[str, float]) -> dict[str, float]:
    """``Result.timings_ms`` under the names of ``STAGES``.

    On a CPU nothing is copied; on a GPU the map is part of the CUDA graph. The rest of the total is
    the verdict.
    """
    found = {_OURS[name]: ms for name, ms in timings_ms.items() if name in _OURS}
    found["map"] = timings_ms.get("postprocess", 0.0)
    found["verdict"] = timings_ms["total"] - sum(found.values())
    return found | {"total": timings_ms["total"]}


def _about(bundle: Bundle, detector: Detector, frame: Frame) -> dict[str, Any]:
    manifest = bundle.manifest
    return {
        **facts("bench", ("openvino", "numpy")),
        "bundle": bundle.path.name,
        **network_facts(detector),
        "size": [manifest.input.height, manifest.input.width],
        "engine": detector.description,
        "frame": list(frame.shape),
    }


def _latency(
    times: dict[str, NDArray[np.float64]], first: dict[str, NDArray[np.float64]]
) -> dict[str, Any]:
    around = times["total"] - times["network"]
    return {
        "calls": len(times["total"]),
        "latency_ms": {stage: summary(times[stage]) for stage in STAGES},
        "around_network_ms": summary(around),
        "around_network_share": round(float(np.median(around / times["total"])), 4),
        "times_first_bundle": spread(times["total"] / first["total"], 3),
    }


def _limits(threads: int) -> dict[str, Any]:
    return {
        "threads": threads,
        "matrix_product_gflops": round(matrix_gflops(threads), 1),
        "copy_gb_s": round(copy_gb_s(threads), 2),
    }


def _rates(bundle: Bundle, row: dict[str, Any], frame: Frame) -> dict[str, Any]:
    """Operations and bytes per second of the stages, from the work for one frame."""
    spec = bundle.manifest.input
    _, flops = operators(bundle.network(row["stored"]), spec.height, spec.width)
    maps = sum(s.channels * s.height * s.width for s in bundle.manifest.scales)
    network_ms = row["latency_ms"]["network"]["p50"]
    rates: dict[str, Any] = {
        "network_gflop": round(flops / 1e9, 3),
        "network_gflops": round(flops / network_ms / 1e6, 1),
    }
    for stage, values in (("preprocess", frame.nbytes), ("map", 2 * 4 * maps)):
        taken = row["latency_ms"][stage]["p50"]
        if taken > 0:  # 0 for a stage that is not timed separately on a GPU
            rates[f"{stage}_reads_gb_s"] = round(values / taken / 1e6, 2)
    return rates


def _throughput(
    bundle: Bundle, frames: list[Frame], setting: Setting, on_cpu: bool
) -> Iterator[dict[str, Any]]:
    """Frames per second of consecutive calls, by threads, mode and batch."""
    ways: list[tuple[int | None, str]] = [(None, "latency")]
    if on_cpu:
        counts = [*range(1, 3), *range(4, CORES + 1, 4)] if setting.threads is None else []
        counts = sorted({n for n in counts if n < CORES} | {setting.threads or CORES})
        ways = [*((n, "latency") for n in counts), (counts[-1], "throughput")]
    for threads, mode in ways:
        with setting.open(bundle, threads, mode) as detector:
            detector.warmup(5)
            for batch in setting.batches:
                call = _scores(detector, [frames[i % len(frames)] for i in range(batch)])
                call()
                begin = perf_counter()
                calls = repeat(call, setting.seconds / 10, 3, MAX_CALLS)
                rate = calls * batch / (perf_counter() - begin)
                way = {"threads": threads, "mode": mode, "batch": batch}
                yield way | {"frames_per_s": round(rate, 2)}


def _scores(detector: Detector, frames: list[Frame]) -> Callable[[], object]:
    return lambda: detector.score(frames)
