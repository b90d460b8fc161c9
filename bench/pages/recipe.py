"""Tables of regions and tiles, in docs/measured and docs/reference/gpu.md."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from rdx_fast.bench.pages.rows import Row, markdown, measured, newest_run, rows_of
from rdx_fast.bench.pages.training import mean_text, measured_all
from rdx_fast.bench.result_rows import spread_text

_ON_GPU = " --backend torch --backbone wide_resnet50_2"


def _cost(rows: Sequence[Row], bench: str, options: str = "") -> str:
    found = newest_run(rows, bench)
    lines = [(row["recipe"], f"{row['ms']:.2f}", spread_text(row["ratio"])) for row in found]
    header = ("recipe", "ms", "ratio")
    first = found[0]
    command = f"python -m rdx_fast.bench.recipe_cost{options}"
    return markdown(header, lines) + _title(first) + measured(first, command)


def _title(row: Row) -> str:
    how = row["gpu"] if "gpu" in row else f"{row['threads']} threads"
    return f"\n{row['backbone']} {row['precision']}, {how}.\n"


def _accuracy(rows: Sequence[Row]) -> str:
    runs: dict[tuple[str, str, int], dict[int, Row]] = {}
    for row in rows_of(rows, "tiles-accuracy", lambda row: True):
        runs.setdefault((row["dataset"], row["name"], row["batches"]), {})[row["seed"]] = row
    lines = []
    for (dataset, name, batches), by_seed in sorted(
        runs.items(), key=lambda run: (run[0][0], run[0][2])
    ):
        figures = [row["figures"] for row in by_seed.values()]
        images = f"{figures[0]['good']} good, {figures[0]['defective']} defective"
        lines.append(
            (
                dataset,
                images,
                batches,
                name,
                len(figures),
                *(
                    mean_text([f[key] for f in figures])
                    for key in ("image_auroc", "aupro", "pixel_ap")
                ),
            )
        )
    header = (
        *("data set", "test images", "batches", "network sees", "seeds"),
        *("image AUROC", "AUPRO", "pixel AP"),
    )
    command = "python -m rdx_fast.bench.tiles_accuracy DATASET RUNS --tile HEIGHT WIDTH"
    every = sorted((r for of in runs.values() for r in of.values()), key=lambda row: row["time"])
    return markdown(header, lines) + measured_all(every, command)


def _tiles(rows: Sequence[Row], bench: str, options: str = "") -> str:
    found = newest_run(rows, bench)
    on_cpu = bench == "tiles"
    lines = [
        (
            " x ".join(map(str, row["frame"])),
            row["overlap"],
            row["tiles"],
            f"{row['frame_p50_ms']:.0f}",
            spread_text(row["throughput"]),
            f"{row['blend_share'][1]:.1%}",
            *((spread_text(row["throughput_cpu"]), f"{row['peak_mb']:.0f}") if on_cpu else ()),
        )
        for row in found
    ]
    header = [*("frame", "overlap", "tiles", "ms a frame", "throughput", "share of blending")]
    if on_cpu:
        header += ["throughput by CPU time", "MB"]
    first = found[0]
    command = f"python -m rdx_fast.bench.tiles{options}"
    return markdown(header, lines) + _title(first) + measured(first, command)


TABLES: dict[str, Callable[[Sequence[Row]], str]] = {
    "recipe-cost": partial(_cost, bench="recipe-cost"),
    "recipe-cost-gpu": partial(_cost, bench="recipe-cost-gpu", options=_ON_GPU),
    "tiles-accuracy": _accuracy,
    "tiles": partial(_tiles, bench="tiles"),
    "tiles-gpu": partial(_tiles, bench="tiles-gpu", options=_ON_GPU),
}
