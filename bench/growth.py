"""Growth of time and memory: ``python -m rdx_fast.bench.growth --help``.

Measured against the batch size, the size of the network's input (with frames of the same size, so
that every stage keeps its share of the work), and the number of Detectors in parallel, in one
process and in several. A slope is the exponent of growth; steps that grow faster than their work
are reported.
"""

from __future__ import annotations

import multiprocessing
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from time import perf_counter
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from rdx_fast.bench.charts import new_figure
from rdx_fast.bench.generated import generated_bundle
from rdx_fast.bench.measure import drawn_frame, stages
from rdx_fast.bench.memory import memory_mb
from rdx_fast.bench.result_rows import append, facts
from rdx_fast.bench.timing import repeat, slope
from rdx_fast.detector import Detector

SIZES = (128, 256, 512, 1024)
BATCHES = (1, 2, 4, 8, 16, 32)
PARALLEL = (1, 2, 3, 4)
STEPS = ("preprocess", "network", "map")
# A step is reported if its slope exceeds that of its work by more than this; caches are limited, so
# some excess is expected.
ALLOWED = 0.15


def by_size(backbone: str, folder: Path, seconds: float) -> Iterator[dict[str, Any]]:
    """Milliseconds of the stages for one image of each size, measured in turn."""
    detectors = {}
    for size in SIZES:
        own = folder / str(size)
        own.mkdir(parents=True)
        bundle = generated_bundle(backbone, "fp32", own, size)
        detectors[size] = Detector(bundle.path, threads=2)
    times: dict[int, list[dict[str, float]]] = {size: [] for size in SIZES}
    frames = {size: drawn_frame(size, size) for size in SIZES}

    def round_of_sizes() -> None:
        for size, detector in detectors.items():
            detector.score(frames[size])
            times[size].append(stages(detector.score(frames[size]).timings_ms))

    repeat(round_of_sizes, seconds, 5, 200)
    for size, detector in detectors.items():
        detector.close()
        found = {s: float(np.median([t[s] for t in times[size]])) for s in (*STEPS, "total")}
        yield {"size": size, **{f"{s}_ms": round(ms, 4) for s, ms in found.items()}}


def by_batch(path: Path, seconds: float) -> Iterator[dict[str, Any]]:
    """Milliseconds of a batch of each size, measured in turn."""
    frame = drawn_frame(256, 256)
    taken: dict[int, list[float]] = {batch: [] for batch in BATCHES}
    with Detector(path, threads=2) as detector:
        detector.warmup(5)

        def round_of_batches() -> None:
            for batch in BATCHES:
                taken[batch].append(detector.score([frame] * batch).timings_ms["total"])

        repeat(round_of_batches, seconds, 5, 100)
    for batch, ms in taken.items():
        yield {"batch": batch, "total_ms": round(float(np.median(ms)), 4)}


def side_by_side(path: Path, processes: int, each: int, seconds: float) -> dict[str, Any]:
    """Throughput and memory of several fresh processes with ``each`` Detectors in threads.

    All score at the same time with one CPU thread each. Memory is what the Detectors add to their
    processes.
    """
    context = multiprocessing.get_context("spawn")
    with context.Manager() as manager, ProcessPoolExecutor(processes, context) as pool:
        ready: Any = manager.Barrier(processes)
        futures = [pool.submit(_detectors, path, each, seconds, ready) for _ in range(processes)]
        found = [future.result() for future in futures]
    return {
        "processes": processes,
        "detectors": processes * each,
        "frames_per_s": round(sum(rate for rate, _ in found), 2),
        "memory_mb": round(sum(memory for _, memory in found), 1),
    }


def _detectors(path: Path, count: int, seconds: float, ready: Any) -> tuple[float, float]:
    """Frames per second and MB of ``count`` Detectors, measured once all processes are ready."""
    begin = memory_mb()
    detectors = [Detector(path, threads=1) for _ in range(count)]
    for detector in detectors:
        detector.warmup(2)
    ready.wait(300)
    frame = drawn_frame(256, 256)

    def rate(detector: Detector) -> float:
        begin = perf_counter()
        calls = repeat(lambda: detector.score(frame), seconds, 3, 100_000)
        return calls / (perf_counter() - begin)

    with ThreadPoolExecutor(count) as pool:
        rates = list(pool.map(rate, detectors))
    memory = memory_mb() - begin
    for detector in detectors:
        detector.close()
    return sum(rates), memory


def slopes(row: dict[str, Any]) -> dict[str, float]:
    """Exponents of growth: of each step with the image area, of a batch with its images."""
    area = np.array([r["size"] ** 2 for r in row["by_size"]], np.float64)
    batch = np.array([r["batch"] for r in row["by_batch"]], np.float64)
    found = {
        f"{step}, by area": slope(area, np.array([r[f"{step}_ms"] for r in row["by_size"]]))
        for step in STEPS
    }
    found["batch, by images"] = slope(batch, np.array([r["total_ms"] for r in row["by_batch"]]))
    return {name: round(value, 3) for name, value in found.items()}


def plot(rows: Sequence[dict[str, Any]], file: Path) -> None:
    """Plot on log-log axes: steps by image area, a batch by its images, Detectors in parallel."""
    figure = new_figure(4.2 * (len(rows) + 2), 4.2)
    axes = figure.subplots(1, len(rows) + 2)
    for ax in axes:
        ax.set(xscale="log", yscale="log")
    for row, ax in zip(rows, axes, strict=False):
        area = np.array([r["size"] ** 2 for r in row["by_size"]])
        for step in STEPS:
            ms = np.array([r[f"{step}_ms"] for r in row["by_size"]])
            growth = row["slopes"][f"{step}, by area"]
            (line,) = ax.plot(area, ms, marker="o", label=f"{step}, slope {growth:.2f}")
            ax.plot(area, ms[0] * area / area[0], ":", color=line.get_color(), linewidth=1)
        ax.set(title=f"{row['backbone']}, one image", xlabel="pixels", ylabel="ms")
        ax.set_xticks(area, [f"{r['size']}²" for r in row["by_size"]])
    batches, parallel = axes[-2:]
    for row in rows:
        batch = np.array([r["batch"] for r in row["by_batch"]])
        growth = row["slopes"]["batch, by images"]
        total = [r["total_ms"] for r in row["by_batch"]]
        batches.plot(batch, total, marker="o", label=f"{row['backbone']}, slope {growth:.2f}")
        batches.set_xticks(batch, [str(b) for b in batch])
        for many, style in ((False, "-"), (True, "--")):
            points = [
                r for r in row["parallel"] if r["processes"] == (r["detectors"] if many else 1)
            ]
            where = "processes" if many else "one process"
            count = [r["detectors"] for r in points]
            label = f"{row['backbone']}, {where}"
            parallel.plot(
                count, [r["frames_per_s"] for r in points], style, marker="o", label=label
            )
            parallel.set_xticks(count, [str(c) for c in count])
    batches.set(title="a batch", xlabel="images", ylabel="ms")
    parallel.set(title="Detectors side by side", xlabel="Detectors", ylabel="frames a second")
    for ax in axes:
        ax.xaxis.minorticks_off()
        ax.legend(fontsize=8)
    figure.suptitle(f"{rows[0]['cpu']}; dotted: growth as fast as the work", fontsize=10)
    figure.savefig(file, dpi=100)


def main(
    backbone: Annotated[
        list[str] | None, typer.Option(help="Backbones of the untrained networks.")
    ] = None,
    seconds: Annotated[float, typer.Option(min=0.1, help="Seconds of each measurement.")] = 20.0,
    output: Annotated[Path | None, typer.Option(help="JSON lines to append to.")] = None,
    picture: Annotated[Path | None, typer.Option("--plot", help="Picture to write.")] = None,
) -> None:
    """Measure how time and memory of a Detector grow."""
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        for network in backbone or ["efficientnet_lite0", "wide_resnet50_2"]:
            folder = Path(name) / network
            row = facts("growth", ("openvino", "numpy")) | {"backbone": network}
            row["by_size"] = list(by_size(network, folder, seconds))
            bundle = generated_bundle(network, "fp32", folder)
            row["bundle_sha256"] = bundle.manifest.files[bundle.network("fp32").name].sha256
            row["by_batch"] = list(by_batch(bundle.path, seconds))
            ways = [(1, count) for count in PARALLEL] + [(count, 1) for count in PARALLEL[1:]]
            row["parallel"] = [side_by_side(bundle.path, p, n, seconds / 4) for p, n in ways]
            row["slopes"] = slopes(row)
            rows.append(row)
    for row in rows:
        for table in tables(row):
            Console(width=120).print(table)
    if output is not None:
        append(output, rows)
    if picture is not None:
        plot(rows, picture)


def tables(row: dict[str, Any]) -> Iterator[Table]:
    title = f"{row['backbone']}; {row['cpu']}; 2 threads"
    table = Table("input", *(f"{s} ms" for s in (*STEPS, "total")), title=title)
    for entry in row["by_size"]:
        size = entry["size"]
        table.add_row(f"{size} x {size}", *(f"{entry[f'{s}_ms']:.2f}" for s in (*STEPS, "total")))
    exponents = (f"{row['slopes'][f'{s}, by area']:.2f}" for s in STEPS)
    table.add_row("slope by area", *exponents, "", end_section=True)
    yield table
    table = Table("batch", "ms", "ms an image")
    for entry in row["by_batch"]:
        ms = entry["total_ms"]
        table.add_row(str(entry["batch"]), f"{ms:.1f}", f"{ms / entry['batch']:.2f}")
    yield table
    table = Table("processes", "Detectors", "frames a second", "MB a Detector")
    for entry in row["parallel"]:
        memory = entry["memory_mb"] / entry["detectors"]
        cells = (entry["processes"], entry["detectors"], entry["frames_per_s"], round(memory))
        table.add_row(*map(str, cells))
    yield table
    if steep := {k: v for k, v in row["slopes"].items() if v > 1 + ALLOWED}:
        yield Table(title=f"[red]grows faster than its work: {steep}")


if __name__ == "__main__":
    typer.run(main)
