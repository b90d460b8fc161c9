"""Check and timing of the GPU kernels; part of ``rdx_fast.bench.gpu``.

Times are medians of CUDA events. Our kernels run in a CUDA graph over several inputs, so that no
cache holds them; torch runs its own eagerly on the same inputs in turn. Nothing is timed before its
results agree with those of the CPU kernels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import cycle
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from rdx_fast.bench.features import (
    SCALES,
    features,
    map_spec,
    published_distances,
    published_upsampled,
)
from rdx_fast.bench.steps import Target
from rdx_fast.bench.triton_operations import Operators, buffers, resize_normalize
from rdx_fast.kernels import on_triton
from rdx_fast.kernels.gpu import cosine_map
from rdx_fast.kernels.resize_normalize import resize_normalize as on_the_cpu
from rdx_fast.postprocess import AnomalyMapper

SETS = 4
CALLS = 200
FRAMES = ((1024, 1024, 3), (1024, 1024))
COSINE = Target("cosine_map at batch 32, share of a copy's bandwidth", 0.7, at_most=False)
POSTPROCESSING = Target(
    "postprocessing of one image inside a graph, microseconds,", 30, at_most=True
)


def ours(
    teacher: Sequence[Tensor], student: Sequence[Tensor], operators: Operators
) -> tuple[Callable[[], Tensor], Callable[[], None]]:
    """Postprocessing to scores only, two launches into buffers that are allocated once; and the
    first of them, ``cosine_map``, alone."""
    architecture = on_triton.architecture_of(teacher[0])
    distances = [t.new_empty((t.shape[0], *t.shape[2:]), dtype=torch.float32) for t in teacher]
    held = buffers(distances[0], operators.size)
    cosine = cosine_map.launch(teacher, student, distances, architecture)
    smooth = operators.launch(distances, held)

    def whole() -> Tensor:
        on_triton.run(cosine)
        on_triton.run(smooth)
        return held.maxima[:, 0]

    return whole, lambda: on_triton.run(cosine)


def eager(teacher: Sequence[Tensor], student: Sequence[Tensor]) -> Callable[[], Tensor]:
    """The same with torch operators: cosine, interpolate, sum, the Gaussian as two convolutions."""
    offsets = torch.arange(-16, 17, device="cuda")
    weights = torch.exp(-0.5 * (offsets / 4) ** 2)
    weights = (weights / weights.sum())[None, None, None]

    def run() -> Tensor:
        total = torch.stack(published_upsampled(published_distances(teacher, student))).sum(0)
        padded = functional.pad(total[:, None].float(), (16, 16, 16, 16), mode="replicate")
        rows = functional.conv2d(padded, weights)
        return functional.conv2d(rows, weights.transpose(2, 3)).amax(dim=(1, 2, 3))

    return run


def event() -> Any:
    return torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]


def median_us(runs: Sequence[Callable[[], object]]) -> float:
    """Median microseconds of a call; ``runs`` are called in turn."""
    for run in runs:
        run()
    pairs = []
    for run, _ in zip(cycle(runs), range(CALLS)):
        begin, end = event(), event()
        begin.record()
        run()
        end.record()
        pairs.append((begin, end))
    torch.cuda.synchronize()
    return float(np.median([1000 * begin.elapsed_time(end) for begin, end in pairs]))


def in_graph(runs: Sequence[Callable[[], object]]) -> float:
    """Median microseconds of a call in a CUDA graph that contains all ``runs`` in sequence."""
    for run in runs:
        run()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for run in runs:
            run()
    return median_us([graph.replay]) / len(runs)


def inputs(batch: int, channels_last: bool) -> list[tuple[list[Tensor], list[Tensor]]]:
    """Several sets of float16 features on the GPU."""
    layout = torch.channels_last if channels_last else torch.contiguous_format
    maps = features(batch)

    def placed(x: Tensor, i: int) -> Tensor:
        return x.roll(i, 0).half().cuda().contiguous(memory_format=layout)

    sets = [[[placed(x, i) for x in half] for half in maps] for i in range(SETS)]
    return [(teacher, student) for teacher, student in sets]


def check(
    mapper: AnomalyMapper, teacher: Sequence[Tensor], student: Sequence[Tensor], scores: Tensor
) -> float:
    """Largest difference from the CPU's scores. Raises ``RuntimeError`` if it is too large."""
    t, s = ([x.cpu().numpy() for x in maps] for maps in (teacher, student))
    expected = mapper(t, s).maxima[:, 0]
    difference = float(np.abs(scores.cpu().numpy() - expected).max())
    if not difference <= 2e-6 * float(expected.max()):
        raise RuntimeError(f"the GPU's scores differ from the CPU's by {difference}: not timed")
    return difference


def measure_kernels() -> Iterator[dict[str, Any]]:
    """Rows about all kernels, one operation after the other."""
    mapper = AnomalyMapper(map_spec("add"), SCALES)
    operators = Operators.of(mapper.rows, mapper.columns, "cuda")
    source = torch.empty(2**29, dtype=torch.uint8, device="cuda").random_()
    target = torch.empty_like(source)
    copy_us = median_us([lambda: target.copy_(source)])
    copied = 2 * source.numel() / copy_us / 1e3  # GB/s, read and written
    yield {"operation": "copy", "gb_per_s": copied}
    for layout in ("first", "last"):
        for row in (
            *_large_batch(mapper, operators, copied, layout == "last"),
            _one_image(mapper, operators, layout == "last"),
        ):
            yield {"channels": layout, **row}
    for frame in FRAMES:
        yield _resize(frame)


def _large_batch(
    mapper: AnomalyMapper, operators: Operators, copied: float, channels_last: bool
) -> Iterator[dict[str, Any]]:
    """At batch 32, whose features no cache holds."""
    sets = inputs(32, channels_last)
    chains, cosines = zip(*(ours(*s, operators) for s in sets), strict=True)
    difference = check(mapper, *sets[0], chains[0]())
    cosine_us = in_graph(cosines)
    read = sum(x.numel() * x.element_size() for maps in sets[0] for x in maps)
    written = sum(4 * x.shape[0] * x.shape[2] * x.shape[3] for x in sets[0][0])
    speed = (read + written) / cosine_us / 1e3
    yield {
        "operation": "cosine_map",
        "batch": 32,
        "us": cosine_us,
        "gb_per_s": speed,
        "share_of_copy": speed / copied,
        "targets": [COSINE.judged(speed / copied)],
    }
    chain_us, eager_us = in_graph(chains), median_us([eager(*s) for s in sets])
    yield {
        "operation": "cosine + smooth + maximum",
        "batch": 32,
        "us": chain_us,
        "torch_eager_us": eager_us,
        "times_faster": eager_us / chain_us,
        "score_difference": difference,
    }


def _one_image(mapper: AnomalyMapper, operators: Operators, channels_last: bool) -> dict[str, Any]:
    """Postprocessing of one image, as between the other steps of a graph: again and again, so that
    the start of the graph itself does not count."""
    (one, *_) = inputs(1, channels_last)
    fused, _ = ours(*one, operators)
    difference = check(mapper, *one, fused())
    us = in_graph([fused] * 20)
    return {
        "operation": "cosine + smooth + maximum in a CUDA graph",
        "batch": 1,
        "us": us,
        "torch_eager_us": median_us([eager(*one)]),
        "score_difference": difference,
        "targets": [POSTPROCESSING.judged(us)],
    }


def _resize(frame: tuple[int, ...]) -> dict[str, Any]:
    """One camera frame to a channels-last float16 input of 256 x 256."""
    pixel_format = "rgb" if len(frame) == 3 else "bayer_rggb"
    drawn = np.random.default_rng(0).integers(0, 256, frame, dtype=np.uint8)
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    expected = np.empty((3, 256, 256), np.float32)
    on_the_cpu(drawn, expected, mean, std, pixel_format)
    there = torch.from_numpy(drawn).cuda()[None]
    out = torch.empty(1, 3, 256, 256, dtype=torch.float16, device="cuda")
    out = out.contiguous(memory_format=torch.channels_last)

    def run() -> None:
        resize_normalize(there, out, mean, std, pixel_format)

    run()
    difference = float(np.abs(out[0].float().cpu().numpy() - expected).max())
    if not difference <= 2e-3 * float(np.abs(expected).max()):  # float16 has eleven bits
        raise RuntimeError(f"the GPU's input differs from the CPU's by {difference}: not timed")
    return {
        "operation": "resize_normalize",
        "frame": list(frame),
        "batch": 1,
        "us": in_graph([run] * 20),
        "difference": difference,
    }
