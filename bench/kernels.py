"""Timing of the CPU kernels and of what they replace: ``python -m rdx_fast.bench.kernels --help``.

Both are called in turn, so that a drift of the machine's speed affects both alike; ratios are of
consecutive calls. Everything runs on one thread unless ``--threads`` is given.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from time import perf_counter
from typing import Annotated, Any, NamedTuple

import numpy as np
import torch
import typer
from PIL import Image
from rich.console import Console
from rich.table import Table

from rdx_fast.bench.features import (
    SCALES,
    SIZE,
    features,
    map_spec,
    published_blur,
    published_distances,
    published_scores,
    published_upsampled,
)
from rdx_fast.bench.result_rows import append, facts, spread, spread_text
from rdx_fast.kernels.blend import blend, blend_numpy
from rdx_fast.kernels.cosine_map import cosine_maps
from rdx_fast.kernels.native import IMPLEMENTATION
from rdx_fast.kernels.resize_normalize import resize_normalize
from rdx_fast.kernels.threshold_regions import threshold_regions
from rdx_fast.postprocess import AnomalyMapper

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Pair(NamedTuple):
    """A kernel and what it is compared with.

    Attributes:
        operation: name of the kernel's operation
        against: name of what it is compared with
        ours: calls the kernel
        other: calls what it is compared with
    """

    operation: str
    against: str
    ours: Callable[[], object]
    other: Callable[[], object]


def pairs(threads: int) -> Iterator[Pair]:
    """Every operation once, on features of ``wide_resnet50_2`` at batch 1.

    Our kernels get the memory layout of OpenVINO, the published chain that of torch.
    """
    teacher, student = features(1)
    ours = features(1, channels_last=True)
    t, s = ([x.numpy() for x in maps] for maps in ours)
    distances = published_distances(teacher, student)
    d = [x.numpy() for x in distances]
    add, mul = (AnomalyMapper(map_spec(f), SCALES, threads=threads) for f in ("add", "mul"))
    scores = "cosine + smooth + maximum"
    yield Pair(
        scores, "torch + scipy", lambda: add(t, s), lambda: published_scores(teacher, student)
    )
    yield Pair(
        scores,
        "reading the features once",
        lambda: add(t, s),
        lambda: [x.sum() for maps in ours for x in maps],
    )
    yield Pair(
        "cosine_map",
        "torch",
        lambda: cosine_maps(t, s, threads),
        lambda: published_distances(teacher, student),
    )
    yield Pair(
        "smooth_map",
        "torch + scipy",
        lambda: add.fuse(d),
        lambda: published_blur(torch.stack(published_upsampled(distances)).sum(0)),
    )
    yield Pair(
        "fuse_mul",
        "torch + scipy",
        lambda: mul.fuse(d),
        lambda: published_blur(torch.stack(published_upsampled(distances)).prod(0)),
    )
    frame = np.random.default_rng(0).integers(0, 256, (1024, 1024, 3), dtype=np.uint8)
    out = np.empty((3, SIZE, SIZE), np.float32)
    mean, std = (np.array(x, np.float32) for x in (MEAN, STD))

    def with_pil() -> object:
        image = Image.fromarray(frame).resize((SIZE, SIZE), Image.Resampling.BILINEAR)
        normalised = (np.asarray(image, np.float32) / 255 - mean) / std
        return np.ascontiguousarray(normalised.transpose(2, 0, 1))

    yield Pair(
        "resize_normalize 1024 x 1024",
        "PIL + NumPy",
        lambda: resize_normalize(frame, out, MEAN, STD, threads=threads),
        with_pil,
    )
    mosaic = np.ascontiguousarray(frame[..., 0])
    yield Pair(
        "resize_normalize 1024 x 1024 Bayer",
        "the same of RGB",
        lambda: resize_normalize(mosaic, out, MEAN, STD, "bayer_rggb", threads=threads),
        lambda: resize_normalize(frame, out, MEAN, STD, threads=threads),
    )
    deep, levels = frame.astype(np.uint16) * 16, (0, 4095)
    yield Pair(
        "resize_normalize 1024 x 1024, 12 bits",
        "the same of 8 bits",
        lambda: resize_normalize(deep, out, MEAN, STD, threads=threads, levels=levels),
        lambda: resize_normalize(frame, out, MEAN, STD, threads=threads),
    )
    maps = add.maps(t, s)
    limit = float(np.percentile(maps, 99))
    line, canvas = np.repeat(maps, 16, axis=0), np.zeros((SIZE, 16 * SIZE), np.float32)
    weights = np.ones((16, SIZE), np.float32)
    places = np.array([(0, i * SIZE) for i in range(16)])
    tiles = (line, weights, weights, places, canvas)
    yield Pair(
        "blend 16 tiles",
        "NumPy",
        lambda: blend(*tiles),
        lambda: blend_numpy(*tiles),
    )
    yield Pair(
        "threshold_regions",
        "the map's maximum",
        lambda: threshold_regions(maps[0], limit),
        maps.max,
    )


def measure(pair: Pair, calls: int) -> dict[str, Any]:
    """Median milliseconds, and ratios of consecutive calls."""
    times = np.empty((calls, 2))
    for _ in range(3):
        pair.ours()
        pair.other()
    for row in times:
        for i, run in enumerate((pair.ours, pair.other)):
            begin = perf_counter()
            run()
            row[i] = 1000 * (perf_counter() - begin)
    return {
        "operation": pair.operation,
        "against": pair.against,
        "p50_ms": round(float(np.median(times[:, 0])), 4),
        "against_p50_ms": round(float(np.median(times[:, 1])), 4),
        "times_faster": spread(times[:, 1] / times[:, 0], 2),
    }


def main(
    calls: Annotated[int, typer.Option(min=5)] = 200,
    threads: Annotated[int, typer.Option(min=1, help="Threads of our kernels and of torch.")] = 1,
    output: Annotated[Path | None, typer.Option(help="JSON lines to append to.")] = None,
) -> None:
    """Time each CPU kernel and what it replaces."""
    torch.set_num_threads(threads)
    common = facts("kernels", ("numpy", "torch", "scipy", "pillow"))
    common |= {"kernels": IMPLEMENTATION, "threads": threads, "calls": calls}
    rows = [common | measure(pair, calls) for pair in pairs(threads)]
    title = f"{common['cpu']}; {IMPLEMENTATION}; {threads} threads; {calls} calls in turn; ms"
    table = Table("operation", "ours", "compared with", "its", "speed-up", title=title)
    for row in rows:
        table.add_row(
            row["operation"],
            f"{row['p50_ms']:.3f}",
            row["against"],
            f"{row['against_p50_ms']:.3f}",
            spread_text(row["times_faster"]),
        )
    Console(width=120).print(table)
    if output is not None:
        append(output, rows)


if __name__ == "__main__":
    typer.run(main)
