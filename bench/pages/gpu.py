"""Tables of what was measured on a GPU, in docs/reference/gpu.md and docs/measured/."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from rdx_fast.bench.pages.rows import Row, markdown, measured, milliseconds, rows_of

COMMAND = "python -m rdx_fast.bench.gpu --output bench/results/gpu.jsonl"


def _engines(rows: Sequence[Row]) -> str:
    """Latency and frames per second by engine and batch size."""
    found = rows_of(rows, "gpu", lambda row: "latency_ms" in row or "fps" in row)
    found = [row for row in found if "read_in_place" not in row]
    lines: dict[tuple[str, int, bool], dict[str, Any]] = {}
    for row in found:  # the newest comes last
        key = (f"{row['gpu']}: {row['engine']}", row["batch"], row.get("maps", False))
        line = lines.setdefault(key, {"p50": "-", "p99": "-", "fps": "-", "share": "-"})
        if "fps" in row:
            line |= {"fps": f"{row['fps']:.0f}", "share": f"{row['share_of_limit']:.0%}"}
        else:
            line |= {name: milliseconds(row["latency_ms"][name]) for name in ("p50", "p99")}
    engines = list(dict.fromkeys(engine for engine, *_ in lines))
    table = [
        (1 + engines.index(engine), batch, "yes" if maps else "no", *line.values())
        for (engine, batch, maps), line in sorted(lines.items())
    ]
    header = ("engine", "batch", "maps", "p50 ms", "p99 ms", "frames/s", "of a matrix product")
    named = "".join(f"\n{number}. {engine}" for number, engine in enumerate(engines, 1))
    return markdown(header, table) + f"{named}\n" + _measured(found, COMMAND)


def _kernels(rows: Sequence[Row]) -> str:
    found = rows_of(rows, "gpu", lambda row: row["step"] == "kernels" and "us" in row)
    newest = {
        (
            row["gpu"],
            row["operation"],
            row.get("channels"),
            row["batch"],
            str(row.get("frame")),
        ): row
        for row in found
    }
    lines = []
    for row in newest.values():
        frame = row.get("frame")
        what = row["operation"] + ("" if frame is None else f" {' x '.join(map(str, frame))}")
        share = row.get("share_of_copy")
        eager = row.get("torch_eager_us")
        lines.append(
            (
                what,
                row.get("channels", "-"),
                row["batch"],
                f"{row['us']:.1f}",
                "-" if share is None else f"{share:.0%}",
                "-" if eager is None else f"{eager:.0f}",
            )
        )
    header = ("", "channels", "batch", "us", "of a copy's bandwidth", "torch's operators us")
    return markdown(header, lines) + _measured(list(newest.values()), COMMAND)


def _targets(rows: Sequence[Row]) -> str:
    """The newest value of each target that the kernels and the torch engine reach; of one that is
    judged at each batch size, the best."""
    found = rows_of(rows, "gpu", lambda row: bool(row.get("targets")))
    of_torch = ("kernels", "torch:", "published")  # steps of the kernels and the torch engine
    found = [row for row in found if row["step"].startswith(of_torch)]
    values: dict[str, dict[str, tuple[Row, dict[str, Any]]]] = {}
    for row in found:
        for judged in row["targets"]:
            where = f"{row['step']} {row.get('channels')}"
            values.setdefault(judged["target"], {})[where] = (row, judged)
    lines, used = [], []
    for target, by_step in values.items():
        at_most = "<=" in target
        row, judged = (min if at_most else max)(by_step.values(), key=lambda v: v[1]["value"])
        used.append(row)
        value = judged["value"]
        shown = f"{value:.0f}" if value >= 100 else f"{value:.3g}"
        lines.append((target, shown, "yes" if judged["met"] else "no"))
    return markdown(("target", "measured", "met"), lines) + _measured(used, COMMAND)


def _steps(rows: Sequence[Row]) -> str:
    found = rows_of(rows, "training-gpu", lambda row: True)
    by_kind: dict[tuple[str, ...], dict[bool, Row]] = {}
    for row in found:
        size = " x ".join(map(str, row["image_size"]))
        key = (row["method"], row["backbone"], size, row["precision"])
        by_kind.setdefault(key, {})[row["graphs"]] = row
    lines = [
        (
            *key,
            f"{1000 * runs[True]['seconds']:.1f}",
            f"{1000 * runs[False]['seconds']:.1f}" if False in runs else "-",
        )
        for key, runs in by_kind.items()
        if True in runs
    ]
    header = ("method", "backbone", "input", "precision", "ms a batch", "without graphs")
    command = "python -m rdx_fast.bench.training DATASET --device cuda --steps 60 [--eager]"
    return markdown(header, lines) + _measured(found, command)


def _measured(rows: Sequence[Row], command: str) -> str:
    rows = sorted(rows, key=lambda row: str(row["time"]))
    commits = ", ".join(dict.fromkeys(row["commit"] for row in rows))
    versions = {k: v for k, v in rows[-1]["versions"].items() if v is not None}
    machines = ", ".join(dict.fromkeys(f"{row['gpu']}, {row['cpu']}" for row in rows))
    named = {"cpu": machines, "commit": commits, "versions": versions}
    return measured(rows[-1] | named, command)


TABLES: dict[str, Callable[[Sequence[Row]], str]] = {
    "gpu-engines": _engines,
    "gpu-kernels": _kernels,
    "gpu-targets": _targets,
    "training-steps-gpu": _steps,
}
