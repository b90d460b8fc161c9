"""Speed of a bundle's networks with fewer of the CPU's instruction sets:
``python -m rdx_fast.bench.instructions --help``.

OpenVINO's kernels use no more than the instruction set in ONEDNN_MAX_CPU_ISA. This shows what each
set gains on this CPU, not how fast another CPU without it is.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from rdx_fast.bench.result_rows import append, facts, spread, spread_text
from rdx_fast.bundle.bundle import open_bundle
from rdx_fast.cpu import cpu_features
from rdx_fast.engines.openvino.network import OpenVINONetwork

# oneDNN's names, and the one of ``cpu_features`` that each adds to the set before.
SETS = {
    "AVX2": "AVX2",
    "AVX512_CORE": "AVX-512",
    "AVX512_CORE_VNNI": "VNNI",
    "AVX512_CORE_BF16": "BF16",
    "AVX512_CORE_FP16": "FP16",
    "DEFAULT": "AMX",
}
EXECUTIONS = (("fp32", "fp32"), ("fp32", "bf16"), ("fp32", "fp16"), ("int8", "int8"))
VISIT = 4


def time_networks(
    path: Path, threads: int, rounds: int, precisions: Sequence[str]
) -> dict[str, list[float]]:
    """Milliseconds of the network alone by executed precision, a median for each visit."""
    bundle = open_bundle(path)
    spec = bundle.manifest.input
    shape = (1, 3, spec.height, spec.width)
    image = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    networks = {
        executed: OpenVINONetwork(bundle.network(stored), executed, threads)
        for stored, executed in EXECUTIONS
        if executed in precisions
    }
    times: dict[str, list[float]] = {executed: [] for executed in networks}
    for _ in range(rounds):
        for executed, network in networks.items():
            visit = []
            for _ in range(VISIT):
                begin = perf_counter()
                for _ in network.run(image):
                    pass
                visit.append(1e3 * (perf_counter() - begin))
            times[executed].append(float(np.median(visit[1:])))
    return times


def measure(path: Path, threads: int, rounds: int) -> list[dict[str, Any]]:
    """Rows for each instruction set of this CPU and each precision that it executes natively.

    Other half precisions are left out, since OpenVINO would emulate them.
    """
    manifest = open_bundle(path).manifest
    script = (
        "import json, sys; from pathlib import Path; "
        "from rdx_fast.bench.instructions import time_networks; "
        "threads, rounds = map(int, sys.argv[2:4]); "
        "print(json.dumps(time_networks(Path(sys.argv[1]), threads, rounds, sys.argv[4:])))"
    )
    rows = []
    features = cpu_features()
    there = {isa: adds for isa, adds in SETS.items() if adds in features}
    for isa, adds in track(there.items(), path.name, transient=True):
        up_to = features[: features.index(adds) + 1]
        native = ["fp32", "int8", *(p for p in ("bf16", "fp16") if p.upper() in up_to)]
        command = [sys.executable, "-c", script, str(path), str(threads), str(rounds), *native]
        environment = os.environ | {"ONEDNN_MAX_CPU_ISA": isa}
        done = subprocess.run(
            command, env=environment, check=True, stdout=subprocess.PIPE, text=True
        )
        times = json.loads(done.stdout)
        rows += [
            {
                "backbone": manifest.backbone,
                "instructions": adds,
                "executed": executed,
                "p50_ms": round(float(np.median(visits)), 3),
                "times_fp32": spread(np.array(visits) / np.array(times["fp32"]), 3),
            }
            for executed, visits in times.items()
        ]
    return rows


def main(
    bundles: Annotated[
        list[Path], typer.Argument(help="Engine bundles that contain fp32 and int8.")
    ],
    threads: Annotated[int, typer.Option(min=1)] = 2,
    rounds: Annotated[int, typer.Option(min=3)] = 40,
    output: Annotated[Path | None, typer.Option(help="JSON lines to append to.")] = None,
) -> None:
    """Time networks with all of this CPU's instruction sets, and with fewer."""
    common = facts("instructions", ("openvino",)) | {"threads": threads, "rounds": rounds}
    rows = [common | row for path in bundles for row in measure(path, threads, rounds)]
    table = Table("backbone", "instructions up to", "executed", "ms", "time relative to fp32")
    for row in rows:
        ratio = spread_text(row["times_fp32"])
        table.add_row(
            row["backbone"], row["instructions"], row["executed"], f"{row['p50_ms']:.2f}", ratio
        )
    Console(width=120).print(table)
    if output is not None:
        append(output, rows)


if __name__ == "__main__":
    typer.run(main)
