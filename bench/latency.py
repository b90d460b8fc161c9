"""Latency of ``Detector.score`` by stage: ``python -m rdx_fast.bench.latency --help``.

Several bundles are called in turn, one frame each, so that a drifting machine hurts all alike; the
ratios are of calls that followed each other.
"""

from __future__ import annotations

import itertools
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from rdx_fast.bench.generated import generated_bundle
from rdx_fast.bench.records import append, facts, spread, spread_text
from rdx_fast.detector import Detector

STAGES = ("preprocess", "network", "postprocess", "total")


def measure(
    detectors: list[Detector], frame: NDArray[np.uint8], calls: int
) -> list[dict[str, NDArray[np.float64]]]:
    """Milliseconds by stage of each detector's calls, ``[calls]`` float64."""
    times = [{stage: np.empty(calls) for stage in STAGES} for _ in detectors]
    for detector in detectors:
        detector.warmup(5)
    for call in range(calls):
        for detector, kept in zip(detectors, times, strict=True):
            timings = detector.score(frame).timings_ms
            for stage in STAGES:
                kept[stage][call] = timings[stage]
    return times


def record(
    detector: Detector,
    times: dict[str, NDArray[np.float64]],
    first: dict[str, NDArray[np.float64]],
    frame: NDArray[np.uint8],
) -> dict[str, Any]:
    manifest = detector.manifest
    around = 1 - times["network"] / times["total"]
    return {
        **facts("latency", ("openvino", "numpy")),
        "bundle_sha256": manifest.files[manifest.network].sha256,
        "method": manifest.method,
        "backbone": manifest.backbone,
        "precision": manifest.precision,
        "engine": detector.description,
        "frame": list(frame.shape),
        "calls": len(times["total"]),
        "p50_ms": {stage: round(float(np.median(times[stage])), 3) for stage in STAGES},
        "p90_ms": round(float(np.percentile(times["total"], 90)), 3),
        "p99_ms": round(float(np.percentile(times["total"], 99)), 3),
        "share_around_network": round(float(np.median(around)), 4),
        "ratio_to_first": spread(times["total"] / first["total"], 3),
    }


def main(
    bundles: Annotated[list[Path] | None, typer.Argument(help="Engine bundles.")] = None,
    backbone: Annotated[
        list[str] | None, typer.Option(help="Also untrained networks of this backbone.")
    ] = None,
    precision: Annotated[list[str] | None, typer.Option(help="Their precisions.")] = None,
    method: Annotated[list[str] | None, typer.Option(help="Their methods.")] = None,
    frame: Annotated[tuple[int, int], typer.Option(help="Height and width.")] = (256, 256),
    calls: Annotated[int, typer.Option(min=10)] = 200,
    threads: Annotated[int, typer.Option(min=1)] = 2,
    output: Annotated[Path | None, typer.Option(help="JSON lines to append to.")] = None,
) -> None:
    """Time ``Detector.score`` of one RGB frame."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        paths = list(bundles or [])
        for name in backbone or []:
            for kind, how in itertools.product(precision or ["fp32"], method or ["rd4ad"]):
                paths.append(generated_bundle(name, kind, folder, method=how).path)
        if not paths:
            raise typer.BadParameter("give a bundle, or --backbone")
        detectors = [stack.enter_context(Detector(path, threads=threads)) for path in paths]
        picture = np.random.default_rng(0).integers(0, 256, (*frame, 3), dtype=np.uint8)
        times = measure(detectors, picture, calls)
        rows = [record(d, t, times[0], picture) for d, t in zip(detectors, times, strict=True)]
    table = Table(title=f"{rows[0]['cpu']}; {threads} threads; {calls} calls in turn; ms")
    for column in (
        "method",
        "backbone",
        "precision",
        *STAGES,
        "p90",
        "p99",
        "around network",
        "ratio to first",
    ):
        table.add_column(column)
    for row, t in zip(rows, times, strict=True):
        table.add_row(
            str(row["method"]),
            str(row["backbone"]),
            str(row["precision"]),
            *(f"{np.median(t[stage]):.2f}" for stage in STAGES),
            str(row["p90_ms"]),
            str(row["p99_ms"]),
            f"{row['share_around_network']:.1%}",
            spread_text(row["ratio_to_first"]),
        )
    Console(width=140).print(table)
    if output is not None:
        append(output, rows)


if __name__ == "__main__":
    typer.run(main)
