"""Timing of Detectors on a GPU and of what they replace, from host memory to host memory.

Part of ``rdx_fast.bench.gpu``.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterator, Sequence
from time import perf_counter
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from rdx_fast.bench.features import published_scores
from rdx_fast.bench.gpu_kernels import eager
from rdx_fast.bench.result_rows import spread
from rdx_fast.bench.timing import summary
from rdx_fast.bundle import Bundle
from rdx_fast.detector import Detector
from rdx_fast.engines import Engine, GpuOptions, open_engine
from rdx_fast.engines.torch_graph import read_network
from rdx_fast.errors import EngineError, MissingDependencyError
from rdx_fast.manifest import Manifest

LATENCY_BATCHES = (1, 4, 16)
STREAM_BATCHES = (1, 2, 4, 8, 16, 32, 64, 128)
DEPTH = 3
Frames = NDArray[np.uint8]


def open_all(bundle: Bundle) -> tuple[dict[str, Engine], list[dict[str, Any]]]:
    """Every engine that runs on this machine's GPU, and a row each with the seconds to open it or
    why it does not run."""
    engines: dict[str, Engine] = {}
    refused: list[dict[str, Any]] = []
    for backend, options in (
        ("tensorrt", GpuOptions()),
        ("torch", GpuOptions()),
        ("torch", GpuOptions(compile=True)),
    ):
        name = f"{backend}, compiled" if options.compile else backend
        begin = perf_counter()
        try:
            engines[name] = open_engine(bundle, backend, gpu=options)
        except (EngineError, MissingDependencyError) as error:
            refused.append({"engine": name, "refused": f"{type(error).__name__}: {error}"})
        else:
            refused.append({"engine": name, "open_s": round(perf_counter() - begin, 2)})
    return engines, refused


def parity(detector: Detector, cpu: Detector, frames: Sequence[Frames]) -> dict[str, Any]:
    """Compare scores with the CPU's. Raises ``RuntimeError`` if they differ too much."""
    scores = np.concatenate([r.scores for r in detector.stream(frames, batch=8)])
    wanted = np.concatenate([r.scores for r in cpu.stream(frames, batch=8)])
    difference = float(np.abs(scores / wanted - 1).max())
    threshold = cpu.threshold.value
    # Where rounding may decide the verdict: near a threshold, and between the two thresholds.
    near = np.abs(wanted / threshold - 1) < 0.01 + abs(detector.threshold.value / threshold - 1)
    verdicts = (scores > detector.threshold.value) != (wanted > threshold)
    row = {
        "frames": len(frames),
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
    """Images per second of a stream that never waits for its source."""

    def endless() -> Iterator[Frames]:
        for frame in itertools.cycle(frames):
            if perf_counter() > end:
                return
            yield frame

    # Each slot in flight makes its graphs in full batches before the clock starts.
    first = itertools.islice(itertools.cycle(frames), 2 * DEPTH * batch)
    for _ in detector.stream(first, batch=batch, depth=DEPTH):
        pass
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


def rivals(network: nn.Module, manifest: Manifest, device: str) -> dict[str, Callable[..., Any]]:
    """Other ways to score a frame ``[H, W, 3]``: the published pipeline, and optimised torch."""
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
    compiled = torch.compile(half, mode="max-autotune")

    def on_the_gpu(run: Callable[[Tensor], Any]) -> Callable[[Frames], NDArray[np.float32]]:
        def score(frame: Frames) -> NDArray[np.float32]:
            with torch.inference_mode():
                image = prepared(frame).half().contiguous(memory_format=torch.channels_last)
                return eager(*run(image))().cpu().numpy()

        return score

    return {
        "published": published,
        "torch eager fp16": on_the_gpu(half),
        "torch.compile fp16": on_the_gpu(compiled),
    }


def against(
    ours: Callable[[Frames], Any], others: dict[str, Callable[..., Any]], frame: Frames, calls: int
) -> list[dict[str, Any]]:
    """Milliseconds of each, called in turn, and the ratio to ours."""
    runs = {"ours": ours, **others}
    times: dict[str, list[float]] = {name: [] for name in runs}
    for run in runs.values():
        for _ in range(5):
            run(frame)
    for _ in range(calls):
        for name, run in runs.items():
            begin = perf_counter()
            run(frame)
            times[name].append(1e3 * (perf_counter() - begin))
    mine = np.array(times["ours"])
    return [
        {
            "rival": name,
            "calls": calls,
            "p50_ms": round(float(np.median(times[name])), 4),
            "ours_p50_ms": round(float(np.median(mine)), 4),
            "times_longer": spread(np.array(times[name]) / mine, 2),
        }
        for name in others
    ]


def _synchronize(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize()
