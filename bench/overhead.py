"""Time that the Detector adds to the network: ``python -m rdx_fast.bench.overhead --help``.

``Detector.score`` of a camera frame and the bare network on a prepared input (the same compiled
network, its own request, outputs not copied) are timed in turn in one run.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from rdx_fast.bench.generated import generated_bundle
from rdx_fast.bench.measure import drawn_frame
from rdx_fast.bench.result_rows import append, facts, network_facts, spread
from rdx_fast.bundle.bundle import open_bundle
from rdx_fast.detector import Detector
from rdx_fast.engines.openvino.engine import OpenVINOEngine

VISIT = 5


def overhead(path: Path, size: int, threads: int, rounds: int) -> dict[str, Any]:
    """Time the Detector and the bare network in turn, with the median of each visit."""
    bundle = open_bundle(path)
    spec = bundle.manifest.input
    engine = OpenVINOEngine(bundle, threads)
    frame = drawn_frame(size, size)
    image = np.zeros((1, 3, spec.height, spec.width), np.float32)
    with Detector(engine, check_frames=False) as detector:

        def network_alone() -> None:
            for _ in engine.run(image):
                pass

        runs: tuple[Callable[[], object], ...] = (lambda: detector.score(frame), network_alone)
        times = np.empty((rounds, 2))
        for number in range(-3, rounds):
            for i, run in enumerate(runs):
                visit = []
                for _ in range(VISIT):
                    begin = perf_counter()
                    run()
                    visit.append(1e3 * (perf_counter() - begin))
                if number >= 0:
                    times[number, i] = np.median(visit)
        about = network_facts(detector) | {"engine": detector.description}
    ours, bare = times.T
    return facts("overhead", ("openvino", "numpy")) | {
        **about,
        "frame": list(frame.shape),
        "rounds": rounds,
        "detector_p50_ms": round(float(np.median(ours)), 3),
        "network_p50_ms": round(float(np.median(bare)), 3),
        "overhead_ms": spread(ours - bare, 3),
        "overhead_share": spread((ours - bare) / bare, 4),
    }


def main(
    bundles: Annotated[list[Path] | None, typer.Argument(help="Engine bundles.")] = None,
    backbone: Annotated[
        list[str] | None, typer.Option(help="Backbones of untrained networks.")
    ] = None,
    precision: Annotated[
        list[str] | None, typer.Option(help="Precisions of the untrained networks.")
    ] = None,
    size: Annotated[int, typer.Option(min=32, help="Height and width of the frame.")] = 1024,
    threads: Annotated[int, typer.Option(min=1)] = 2,
    rounds: Annotated[int, typer.Option(min=5)] = 40,
    output: Annotated[Path | None, typer.Option(help="JSON lines to append to.")] = None,
) -> None:
    """Time ``Detector.score`` and the bare network."""
    with tempfile.TemporaryDirectory() as name:
        paths = list(bundles or [])
        for network in backbone or ([] if paths else ["efficientnet_lite0", "wide_resnet50_2"]):
            for kind in precision or ["fp32"]:
                paths.append(generated_bundle(network, kind, Path(name)).path)
        rows = [overhead(path, size, threads, rounds) for path in paths]
    table = Table(title=f"{rows[0]['cpu']}; {threads} threads; {size} x {size} frames; ms")
    for column in ("backbone", "precision", "Detector", "network", "overhead", "share"):
        table.add_column(column)
    for row in rows:
        table.add_row(
            row["backbone"],
            row["precision"],
            *(f"{row[f'{what}_p50_ms']:.2f}" for what in ("detector", "network")),
            "{1:.3f} ({0:.3f} to {2:.3f})".format(*row["overhead_ms"]),
            f"{row['overhead_share'][1]:.1%}",
        )
    Console(width=120).print(table)
    if output is not None:
        append(output, rows)


if __name__ == "__main__":
    typer.run(main)
