"""Tables and plots of the rows of ``measure``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from rdx_fast.bench.charts import new_figure
from rdx_fast.bench.measure import STAGES
from rdx_fast.bench.result_rows import spread_text

_COLUMNS = ("p50", "p90", "p99", "p99.9", "worst", "jitter")


def tables(row: dict[str, Any]) -> Iterator[Table | str]:
    """A heading, then tables of latency by stage, frames per second, and start and limits."""
    height, width = row["frame"][:2]
    yield f"\n{row['bundle']}: {row['method']}, {row['backbone']}, {row['precision']}"
    yield f"{row['cpu']}; {row['engine']}"
    yield _latency(row, f"latency of {height} x {width} frames, ms")
    yield _throughput(row["throughput"])
    yield _facts(row)


def _latency(row: dict[str, Any], title: str) -> Table:
    caption = f"{row['calls']} calls; decode is not in total"
    if row["times_first_bundle"] != [1.0, 1.0, 1.0]:
        caption += f"; {spread_text(row['times_first_bundle'])} times the first bundle's"
    table = Table("stage", title=title, title_justify="left", caption=caption)
    for column in _COLUMNS:
        table.add_column(column, justify="right")
    for stage in STAGES:
        found = row["latency_ms"][stage]
        if any(found.values()):
            cells = (f"{found[c]:.3f}" if c in found else "-" for c in _COLUMNS)
            table.add_row(stage, *cells)
        else:
            table.add_row(stage, *("none" for _ in _COLUMNS))
    return table


def _throughput(entries: Sequence[dict[str, Any]]) -> Table:
    table = Table("threads", "mode", title="frames a second, by batch", title_justify="left")
    batches = sorted({entry["batch"] for entry in entries})
    for batch in batches:
        table.add_column(str(batch), justify="right")
    for threads, mode in dict.fromkeys((e["threads"], e["mode"]) for e in entries):
        found = {
            e["batch"]: e["frames_per_s"]
            for e in entries
            if (e["threads"], e["mode"]) == (threads, mode)
        }
        cells = (f"{found[batch]:.1f}" for batch in batches)
        table.add_row("GPU" if threads is None else str(threads), mode, *cells)
    return table


def _facts(row: dict[str, Any]) -> Table:
    start, limits = row["start"], row["limits"]
    table = Table(show_header=False, title="start and limits", title_justify="left")
    table.add_row("import, open", f"{start['import_s']:.2f} s, {start['open_s']:.2f} s")
    calls = f"{start['first_call_ms']:.1f} ms, {start['second_call_ms']:.1f} ms"
    table.add_row("first call, second call", calls)
    table.add_row("memory of that process at most", f"{start['peak_mb']:.0f} MB")
    threads = limits["threads"]
    rate, most = limits["network_gflops"], limits["matrix_product_gflops"]
    table.add_row(
        "network",
        f"{limits['network_gflop']:.1f} GFLOP an image, {rate:.0f} GFLOP/s: {rate / most:.0%} of "
        f"what a float32 matrix product gets on {threads} threads ({most:.0f})",
    )
    copy = limits["copy_gb_s"]
    for stage, what in (("preprocess", "frame"), ("map", "features")):
        if (read := limits.get(f"{stage}_reads_gb_s")) is not None:
            table.add_row(
                stage,
                f"reads its {what} at {read:.1f} GB/s: {read / copy:.0%} of what a copy moves on "
                f"{threads} threads ({copy:.0f})",
            )
    around = row["around_network_ms"]["p50"]
    table.add_row("around the network", f"{around:.2f} ms, {row['around_network_share']:.1%}")
    return table


def plot(rows: Sequence[dict[str, Any]], file: Path) -> None:
    """Plot latency by stage and frames per second by batch.

    Raises:
        MissingDependencyError: Matplotlib is not installed
    """
    figure = new_figure(11, 1.2 * len(rows) + 3.4)
    bars, lines = figure.subplots(1, 2)
    names = [f"{row['bundle']}\n{row['precision']}" for row in rows]
    left = [0.0] * len(rows)
    for stage in STAGES[1:-1]:
        widths = [row["latency_ms"][stage]["p50"] for row in rows]
        if any(widths):
            bars.barh(names, widths, left=left, label=stage)
            left = [a + b for a, b in zip(left, widths, strict=True)]
    for i, row in enumerate(rows):
        found = row["latency_ms"]["total"]
        tail = "p99" if "p99" in found else "worst"
        bars.plot([left[i], found[tail]], [i, i], color="black", linewidth=1)
        bars.annotate(f" {tail} {found[tail]:.1f}", (found[tail], i), va="center", fontsize=8)
    bars.set(title="latency of one frame, p50 by stage", xlabel="ms")
    bars.margins(x=0.2)
    bars.invert_yaxis()
    bars.legend(loc="lower right", fontsize=8)
    for row in rows:
        for threads, mode in dict.fromkeys((e["threads"], e["mode"]) for e in row["throughput"]):
            points = [
                (e["batch"], e["frames_per_s"])
                for e in row["throughput"]
                if (e["threads"], e["mode"]) == (threads, mode)
            ]
            where = "GPU" if threads is None else f"{threads} threads"
            label = f"{row['bundle']}, {where}, {mode}"
            lines.plot(*zip(*points, strict=True), marker="o", label=label)
    lines.set(title="frames a second", xlabel="batch", xscale="log", ylim=(0, None))
    ticks = sorted({e["batch"] for row in rows for e in row["throughput"]})
    lines.set_xticks(ticks, [str(t) for t in ticks])
    lines.minorticks_off()
    lines.legend(fontsize=7, loc="upper left", bbox_to_anchor=(0, -0.12))
    figure.suptitle(rows[0]["cpu"], fontsize=10)
    figure.savefig(file, dpi=110)
