"""Cost of frames in tiles, relative to frames of the network's size:
``python -m rdx_fast.bench.tiles --help``.

A batch of frames of the network's size, which need no tiles, and larger frames in tiles of that
size are scored in turn, so that both have the same number of network pixels for each image or tile.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from time import perf_counter, process_time
from typing import Annotated, Any, NamedTuple

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from rdx_fast.bench.fresh import peak_mb
from rdx_fast.bench.measure import drawn_frame
from rdx_fast.bench.memory import memory_mb
from rdx_fast.bench.recipes import (
    Backbone,
    Backend,
    GivenBundle,
    Threads,
    measured_bundle,
    row_facts,
    under,
)
from rdx_fast.bench.result_rows import append, spread
from rdx_fast.bundle.bundle import open_bundle
from rdx_fast.detector import Detector
from rdx_fast.engines import open_engine
from rdx_fast.recipe.recipe import InspectionRecipe
from rdx_fast.recipe.tiling import TileSpec, tiling

BATCH = 32  # frames that need no tiles
FRAMES = ((3000, 4096), (2048, 20000), (20000, 2048))
OVERLAPS = (0, 32)


class Case(NamedTuple):
    """Frames of one size, and their tiles.

    Attributes:
        height: of the frame in pixels
        width: likewise
        tiles: of the network's size
    """

    height: int
    width: int
    tiles: TileSpec

    def count(self, size: tuple[int, int]) -> int:
        """Number of tiles; ``size`` is that of the network's input."""
        return len(tiling(self.tiles, (self.height, self.width), size).windows())


def measure(
    path: Path, cases: list[Case], backend: str, threads: int | None, rounds: int
) -> list[dict[str, Any]]:
    """Score frames of each case, and a batch that needs no tiles, in turn.

    Returns:
        A row for each case. ``throughput`` is that of a tile relative to that of an image of the
        batch, as percentiles over the rounds (see ``spread``), ``throughput_cpu`` the same by the
        CPU time of the process; ``blend_ms_per_tile`` the median of blending alone; ``peak_mb`` the
        memory that scoring takes beside the frame.
    """
    with Detector(path, backend, threads) as plain:
        spec = plain.manifest.input
        size = (spec.height, spec.width)
        batch = [drawn_frame(*size, seed) for seed in range(BATCH)]
        common = row_facts("tiles", backend, plain, threads, rounds)
        runs: list[tuple[int, Callable[[], Any]]] = [(BATCH, lambda: plain.score(batch, False))]
        for case in cases:
            detector = under(InspectionRecipe(tiles=case.tiles), plain.engine)
            frame = drawn_frame(case.height, case.width)
            runs.append((case.count(size), _scoring(detector, frame)))
        times = np.empty((rounds, len(runs), 2))
        blend = np.empty((rounds, len(runs), 2))  # milliseconds, and share of the whole
        for number in range(-1, rounds):
            for i, (count, run) in enumerate(runs):
                wall, cpu = perf_counter(), process_time()
                result = run()
                taken = np.array([perf_counter() - wall, process_time() - cpu])
                if number >= 0:
                    times[number, i] = 1e3 * taken / count
                    timings = result.timings_ms
                    blending = timings.get("blend", 0.0)
                    blend[number, i] = blending, blending / timings["total"]
    ratios = times[:, :1] / times
    return [
        common
        | {
            "frame": [case.height, case.width],
            "tile": [case.tiles.height, case.tiles.width],
            "overlap": case.tiles.overlap,
            "tiles": count,
            "frame_p50_ms": round(count * float(np.median(times[:, i, 0])), 1),
            "throughput": spread(ratios[:, i, 0], 3),
            "throughput_cpu": spread(ratios[:, i, 1], 3),
            "blend_share": spread(blend[:, i, 1], 4),
            "blend_ms_per_tile": round(float(np.median(blend[:, i, 0])) / count, 4),
            "peak_mb": round(_peak(path, case, threads), 1) if backend == "openvino" else None,
        }
        for i, (case, (count, _)) in enumerate(zip(cases, runs[1:], strict=True), 1)
    ]


def _scoring(detector: Detector, frame: Any) -> Callable[[], Any]:
    return lambda: detector.score(frame, False)


def _peak(path: Path, case: Case, threads: int | None) -> float:
    """Memory in MB that scoring a frame takes, in a fresh process."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(_peak_here, path, case, threads).result()


def _peak_here(path: Path, case: Case, threads: int | None) -> float:
    engine = open_engine(open_bundle(path), "openvino", threads)
    with under(InspectionRecipe(tiles=case.tiles), engine) as detector:
        detector.warmup(1)
        frame = np.resize(np.arange(256, dtype=np.uint8), (case.height, case.width, 3))
        Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
        before = memory_mb()
        detector.score(frame, False)
        return peak_mb() - before


def main(
    bundle: GivenBundle = None,
    backbone: Backbone = "efficientnet_lite0",
    backend: Backend = "openvino",
    threads: Threads = 2,
    rounds: Annotated[int, typer.Option(min=1)] = 7,
    output: Annotated[Path | None, typer.Option(help="JSON lines to append to.")] = None,
) -> None:
    """Time frames in tiles of 256 x 256 pixels, and measure their memory."""
    on_cpu = backend == "openvino"
    cases = [Case(*FRAMES[0], TileSpec(256, 256, overlap)) for overlap in OVERLAPS]
    if on_cpu:  # where memory is measured
        cases += [Case(*frame, TileSpec(256, 256, OVERLAPS[-1])) for frame in FRAMES[1:]]
    with measured_bundle(bundle, backbone, backend) as path:
        rows = measure(path, cases, backend, threads if on_cpu else None, rounds)
    table = Table(title=f"{rows[0]['cpu']}; {rows[0]['engine']}")
    columns = (
        "frame",
        "overlap",
        "tiles",
        "ms",
        "throughput",
        "by CPU time",
        "blending",
        "ms a tile",
        "MB",
    )
    for column in columns:
        table.add_column(column)
    for row in rows:
        table.add_row(
            " x ".join(map(str, row["frame"])),
            str(row["overlap"]),
            str(row["tiles"]),
            f"{row['frame_p50_ms']:.0f}",
            *("{1} ({0} to {2})".format(*row[k]) for k in ("throughput", "throughput_cpu")),
            f"{row['blend_share'][1]:.1%}",
            f"{row['blend_ms_per_tile']:.3f}",
            "-" if row["peak_mb"] is None else f"{row['peak_mb']:.0f}",
        )
    Console(width=120).print(table)
    if output is not None:
        append(output, rows)


if __name__ == "__main__":
    typer.run(main)
