"""Tables of rdx_fast alone, in docs/measured/performance.md and docs/explanation/kernels.md."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rdx_fast.bench.pages.rows import (
    Row,
    markdown,
    measured,
    milliseconds,
    newest,
    newest_run,
)
from rdx_fast.bench.result_rows import spread_text


def _latency(rows: Sequence[Row]) -> str:
    stages = ("preprocess", "network", "map", "verdict", "total")
    found = newest(rows, "bench", "backbone", "precision")
    lines = [
        (
            row["backbone"],
            row["precision"],
            *(milliseconds(row["latency_ms"][stage]["p50"]) for stage in stages),
            milliseconds(row["latency_ms"]["total"].get("p99")),
            f"{max(e['frames_per_s'] for e in row['throughput']):.1f}",
            f"{row['limits']['network_gflops'] / row['limits']['matrix_product_gflops']:.0%}",
            f"{row['start']['open_s']:.1f}",
        )
        for row in found
    ]
    header = (
        "backbone",
        "precision",
        *(f"{s} ms" for s in stages),
        "p99 ms",
        "max frames/s",
        "share of the float32 matrix product rate",
        "open s",
    )
    return markdown(header, lines) + measured(found[0], "rdx-fast bench BUNDLE...")


def _kernels(rows: Sequence[Row]) -> str:
    found = newest_run(rows, "kernels")
    lines = [
        (
            row["operation"],
            row["threads"],
            f"{row['p50_ms']:.2f}",
            row["against"],
            f"{row['against_p50_ms']:.2f}",
            spread_text(row["times_faster"]),
        )
        for row in found
    ]
    header = ("", "threads", "ms", "compared with", "its ms", "speed-up")
    return markdown(header, lines) + measured(found[0], "python -m rdx_fast.bench.kernels")


def _overhead(rows: Sequence[Row]) -> str:
    found = newest(rows, "overhead", "backbone", "precision", "frame")
    lines = [
        (
            row["backbone"],
            row["precision"],
            " x ".join(map(str, row["frame"][:2])),
            milliseconds(row["detector_p50_ms"]),
            milliseconds(row["network_p50_ms"]),
            milliseconds(row["overhead_ms"][1]),
            f"{row['overhead_share'][1]:.1%}",
        )
        for row in found
    ]
    header = (
        "backbone",
        "precision",
        "frame",
        "Detector ms",
        "network alone ms",
        "overhead ms",
        "overhead share",
    )
    return markdown(header, lines) + measured(found[0], "python -m rdx_fast.bench.overhead")


def _growth(rows: Sequence[Row]) -> str:
    found = newest(rows, "growth", "backbone")
    names = list(found[0]["slopes"])
    lines = []
    for row in found:
        one = next(r for r in row["parallel"] if r["detectors"] == 1)
        most = [r for r in row["parallel"] if r["detectors"] == row["parallel"][-1]["detectors"]]
        memory = [f"{r['memory_mb'] / r['detectors']:.0f}" for r in (one, *most)]
        lines.append((row["backbone"], *(row["slopes"][n] for n in names), *memory))
    count = found[0]["parallel"][-1]["detectors"]
    header = (
        "backbone",
        *(f"slope: {n}" for n in names),
        "MB, one Detector",
        f"MB each, {count} in one process",
        f"MB each, {count} processes",
    )
    return markdown(header, lines) + measured(found[0], "python -m rdx_fast.bench.growth")


def _soak(rows: Sequence[Row]) -> str:
    found = newest(rows, "soak", "backbone", "precision")
    lines = []
    for row in found:
        first, last = row["parts"][0], row["parts"][-1]
        lines.append(
            (
                f"{row['backbone']} {row['precision']}",
                f"{row['rate']:g}",
                f"{row['minutes']:g}",
                row["calls"],
                milliseconds(first["call_ms"]["p50"]),
                milliseconds(last["call_ms"]["p50"]),
                f"{row['latency_last_to_first']:.3f}",
                f"{first['memory_mb']:.1f}",
                f"{last['memory_mb']:.1f}",
            )
        )
    header = (
        "",
        "frames/s",
        "minutes",
        "calls",
        "p50 ms, first tenth",
        "p50 ms, last tenth",
        "ratio",
        "MB, first tenth",
        "MB, last tenth",
    )
    return markdown(header, lines) + measured(found[0], "python -m rdx_fast.bench.soak BUNDLE")


TABLES: dict[str, Callable[[Sequence[Row]], str]] = {
    "latency": _latency,
    "kernels": _kernels,
    "overhead": _overhead,
    "growth": _growth,
    "soak": _soak,
}
