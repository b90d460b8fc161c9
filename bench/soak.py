"""Scoring at a fixed rate for a long time: ``python -m rdx_fast.bench.soak --help``.

Latency and memory must not drift: the first tenth of the run is compared with the last.
"""

from __future__ import annotations

import gc
import itertools
import time
from pathlib import Path
from time import perf_counter
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table

from rdx_fast.bench.charts import new_figure
from rdx_fast.bench.measure import drawn_frame
from rdx_fast.bench.memory import memory_mb
from rdx_fast.bench.result_rows import append, facts, network_facts
from rdx_fast.bench.timing import summary
from rdx_fast.detector import Detector
from rdx_fast.images import list_images, read_image
from rdx_fast.preprocess import Frame

PARTS = 10


def soak(
    detector: Detector, frames: list[Frame], rate: float, minutes: float
) -> NDArray[np.float64]:
    """Score frames at a fixed rate.

    Args:
        detector: to measure
        frames: used in turn
        rate: frames per second
        minutes: duration

    Returns:
        ``[calls, 4]`` float64: seconds from the start to when the frame was due, milliseconds from
        then to the result, milliseconds of the call itself, MB of the process after it
    """
    count = round(60 * minutes * rate)
    kept = np.empty((count, 4))
    detector.warmup(10)
    gc.collect()
    begin = perf_counter()
    for call, frame in zip(
        track(range(count), "soak", transient=True), itertools.cycle(frames), strict=False
    ):
        due = begin + call / rate
        if (early := due - perf_counter()) > 0:
            time.sleep(early)
        called = perf_counter()
        detector.score(frame)
        done = perf_counter()
        kept[call] = due - begin, 1e3 * (done - due), 1e3 * (done - called), memory_mb()
    return kept


def parts(kept: NDArray[np.float64]) -> list[dict[str, Any]]:
    """Summary of each tenth of the run."""
    return [
        {
            "from_s": round(float(part[0, 0]), 1),
            "call_ms": summary(part[:, 2]),
            "after_due_ms": summary(part[:, 1]),
            "memory_mb": round(float(np.median(part[:, 3])), 2),
            "memory_mb_most": round(float(part[:, 3].max()), 2),
        }
        for part in np.array_split(kept, PARTS)
    ]


def main(
    bundle: Annotated[Path, typer.Argument(help="Engine bundle.")],
    images: Annotated[
        Path | None, typer.Option(help="Folder of images; drawn frames if left out.")
    ] = None,
    rate: Annotated[float, typer.Option(min=0.1, help="Frames per second.")] = 20.0,
    minutes: Annotated[float, typer.Option(min=0.01)] = 20.0,
    threads: Annotated[int | None, typer.Option(min=1)] = None,
    output: Annotated[Path | None, typer.Option(help="JSON lines to append to.")] = None,
    picture: Annotated[Path | None, typer.Option("--plot", help="Picture to write.")] = None,
) -> None:
    """Score at a fixed rate and compare the first tenth with the last."""
    files = [] if images is None else list_images(images)
    frames = [read_image(file) for file in files] or [drawn_frame(1024, 1024)]
    with Detector(bundle, threads=threads, check_frames=False) as detector:
        kept = soak(detector, frames, rate, minutes)
        row = facts("soak", ("openvino", "numpy")) | {
            **network_facts(detector),
            "engine": detector.description,
            "frame": list(frames[0].shape),
            "rate": rate,
            "minutes": minutes,
            "calls": len(kept),
            "late": int((kept[:, 1] > 1e3 / rate).sum()),
            "parts": parts(kept),
        }
    first, last = row["parts"][0], row["parts"][-1]
    row["latency_last_to_first"] = round(last["call_ms"]["p50"] / first["call_ms"]["p50"], 4)
    row["memory_mb_last_minus_first"] = round(last["memory_mb"] - first["memory_mb"], 2)
    Console(width=120).print(table(row))
    if output is not None:
        append(output, [row])
    if picture is not None:
        plot(kept, row, picture)


def table(row: dict[str, Any]) -> Table:
    caption = (
        f"{row['calls']} calls, {row['late']} later than the next was due; last to first: "
        f"latency {row['latency_last_to_first']:.3f}, "
        f"memory {row['memory_mb_last_minus_first']:+.1f} MB"
    )
    title = f"{row['backbone']} {row['precision']}, {row['rate']:g} frames a second; {row['cpu']}"
    found = Table("from s", "p50 ms", "p99 ms", "worst ms", "MB", title=title, caption=caption)
    for part in row["parts"]:
        call = part["call_ms"]
        cells = (part["from_s"], call["p50"], call.get("p99", "-"), call["worst"])
        found.add_row(*map(str, cells), str(part["memory_mb"]))
    return found


def plot(kept: NDArray[np.float64], row: dict[str, Any], file: Path) -> None:
    figure = new_figure(10, 4.5)
    latency, memory = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    minutes = kept[:, 0] / 60
    latency.plot(minutes, kept[:, 2], ",", alpha=0.5)
    middles = [(p["from_s"] / 60, p["call_ms"]["p50"]) for p in row["parts"]]
    middles.append((minutes[-1], middles[-1][1]))
    latency.step(
        *zip(*middles, strict=True), where="post", color="black", label="median of a tenth"
    )
    latency.set(ylabel="ms a call", ylim=(0, float(np.percentile(kept[:, 2], 99.9))))
    latency.legend(loc="lower right")
    memory.plot(minutes, kept[:, 3])
    memory.set(xlabel="minutes", ylabel="MB", ylim=(0, 1.2 * float(kept[:, 3].max())))
    figure.suptitle(
        f"{row['backbone']} {row['precision']}, {row['rate']:g} frames a second; {row['cpu']}",
        fontsize=10,
    )
    figure.savefig(file, dpi=100)


if __name__ == "__main__":
    typer.run(main)
