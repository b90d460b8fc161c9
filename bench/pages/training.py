"""Tables on training: accuracy over batches, methods and options in pairs, the time of a step."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from rdx_fast.bench.pages.rows import Row, markdown, measured, newest, rows_of
from rdx_fast.bench.result_rows import spread_text

FIGURES = {
    "image AUROC": "image_auroc",
    "pixel AUROC": "pixel_auroc",
    "AUPRO": "aupro",
    "pixel AP": "pixel_ap",
}
EXPERT, BASELINE = "rd-expert", "rd4ad"  # in names of recipes, after the backbone
PUBLISHED = (BASELINE, EXPERT, f"{EXPERT} grabcut")
TEACHERS = ("lite0", "lite1", "lite2", "resnet18")
CONFIDENCE = 0.95
ON_CPU, ON_GPU = "convergence", "convergence-gpu"  # benchmarks, by what trained
COMMAND = "python -m rdx_fast.bench.convergence DATASET RUNS --output ROWS --name NAME ..."

Key = tuple[str, str, int]  # dataset, name of the recipe, batches


def by_setting(rows: Sequence[Row], bench: str = ON_CPU) -> dict[Key, dict[int, Row]]:
    """Rows of ``bench.convergence``, of one machine, by setting and seed; the newest of each."""
    found: dict[Key, dict[int, Row]] = {}
    for row in rows_of(rows, bench, lambda row: True):
        key = (row["dataset"], row["name"], row["step"])
        found.setdefault(key, {})[row["seed"]] = row
    return found


def _over_batches(rows: Sequence[Row], bench: str = ON_CPU) -> str:
    settings = by_setting(rows, bench)
    lines = []
    for (dataset, name, step), runs in sorted(settings.items()):
        if name.partition(" ")[2] not in PUBLISHED:
            continue
        cells = []
        for figure in FIGURES.values():
            cells.append(mean_text([row["figures"][figure] for row in runs.values()]))
        lines.append((dataset, name, step, len(runs), *cells))
    header = ("data set", "recipe", "batches", "seeds", *FIGURES)
    return markdown(header, lines) + measured_all(_rows(settings), COMMAND)


def mean_text(values: ArrayLike) -> str:
    """Mean and standard deviation of shares, in percent."""
    percent = 100 * np.asarray(values)
    spread = f" ± {percent.std(ddof=1):.2f}" if len(percent) > 1 else ""
    return f"{percent.mean():.2f}{spread}"


def paired(ours: Mapping[int, float], theirs: Mapping[int, float]) -> tuple[float, float, float]:
    """Mean difference over the seeds that both have, and its 95% interval (Student's t).

    Raises:
        ValueError: fewer than two seeds in common
    """
    seeds = sorted(ours.keys() & theirs.keys())
    if len(seeds) < 2:
        raise ValueError(f"{len(seeds)} seeds in common: an interval needs at least two")
    differences = [ours[seed] - theirs[seed] for seed in seeds]
    mean, error = float(np.mean(differences)), float(stats.sem(differences))
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, len(seeds) - 1)) * error
    return mean, mean - half, mean + half


def _in_pairs(rows: Sequence[Row], bench: str = ON_CPU) -> str:
    """Each recipe of RD with Expert minus RD4AD with as many batches, and with its most batches."""
    settings = by_setting(rows, bench)
    lines = []
    for dataset, name, step in sorted(settings):
        ours = settings[dataset, name, step]
        backbone, _, recipe = name.partition(" ")
        if recipe not in PUBLISHED or recipe == BASELINE or len(ours) < 2:
            continue
        baseline = f"{backbone} {BASELINE}"
        lengths = sorted(
            length
            for (on, of, length), runs in settings.items()
            if (on, of) == (dataset, baseline) and len(runs.keys() & ours.keys()) > 1
        )
        for length in sorted({step, *lengths[-1:]} & set(lengths)):
            theirs = settings[dataset, baseline, length]
            common = len(ours.keys() & theirs.keys())
            lines.append((dataset, name, step, length, common, *_differences(ours, theirs)))
    if not lines:
        raise ValueError("no recipe of RD with Expert has rows of two seeds beside RD4AD's")
    header = ("data set", "RD with Expert", "batches", "RD4AD's batches", "seeds", *FIGURES)
    return markdown(header, lines) + measured_all(_rows(settings), COMMAND)


def _options(rows: Sequence[Row]) -> str:
    """Each recipe with an option or addition minus that without it."""

    def without(backbone: str, recipe: str) -> str | None:
        method = recipe.replace(",", " ").partition(" ")[0]
        return None if recipe == method else f"{backbone} {method}"

    return _against_others(rows, without)


def _teachers(rows: Sequence[Row]) -> str:
    """RD4AD with each further teacher minus RD4AD with the first one."""

    def first(backbone: str, recipe: str) -> str | None:
        further = backbone in TEACHERS[1:] and recipe == BASELINE
        return f"{TEACHERS[0]} {BASELINE}" if further else None

    return _against_others(rows, first)


def _against_others(rows: Sequence[Row], other: Callable[[str, str], str | None]) -> str:
    """Recipes minus others after as many batches.

    Args:
        rows: of ``bench.convergence``
        other: the name of the recipe that one is held against, by its backbone and the rest of its
            name; None for none
    """
    settings = by_setting(rows)
    lines = []
    for (dataset, name, step), ours in sorted(settings.items()):
        backbone, _, recipe = name.partition(" ")
        theirs = settings.get((dataset, other(backbone, recipe) or "", step), {})
        if common := len(ours.keys() & theirs.keys()):
            lines.append((dataset, name, step, common, *_differences(ours, theirs)))
    if not lines:
        raise ValueError("no recipe has rows beside those of the recipe it is held against")
    header = ("data set", "recipe", "batches", "seeds", *FIGURES)
    return markdown(header, lines) + measured_all(_rows(settings), COMMAND)


def _differences(ours: Mapping[int, Row], theirs: Mapping[int, Row]) -> list[str]:
    """Of each figure, in percentage points; with an interval where both have two seeds."""
    cells = []
    for figure in FIGURES.values():
        a, b = ({seed: row["figures"][figure] for seed, row in of.items()} for of in (ours, theirs))
        common = a.keys() & b.keys()
        if len(common) > 1:
            mean, low, high = (100 * value for value in paired(a, b))
            cells.append(f"{mean:+.2f} ({low:+.2f} to {high:+.2f})")
        else:
            cells.extend(f"{100 * (a[seed] - b[seed]):+.2f}" for seed in common)
    return cells


def _cells(rows: Sequence[Row]) -> str:
    runs: dict[str, dict[int, Row]] = {}
    for row in rows_of(rows, "cells", lambda row: True):
        runs.setdefault(row["name"], {})[row["seed"]] = row
    lines = []
    for name, by_seed in runs.items():
        found = list(by_seed.values())
        auroc, rejects, escapes, seconds = (
            np.array([row[key] for row in found])
            for key in ("image_auroc", "false_rejects", "escapes", "training_cpu_s")
        )
        lines.append(
            (
                name,
                len(found),
                mean_text(auroc),
                f"{rejects.mean():.1f}",
                f"{escapes.mean():.1f}",
                f"{seconds.mean():.0f}",
            )
        )
    header = ("recipe", "seeds", "image AUROC", "false rejects", "escapes", "training, CPU s")
    command = "python -m rdx_fast.bench.cells RUNS --output ROWS --name NAME --recipe RECIPE"
    every = sorted((row for by_seed in runs.values() for row in by_seed.values()), key=_time)
    return markdown(header, lines) + measured_all(every, command)


def _step_times(rows: Sequence[Row]) -> str:
    found = newest(rows, "training", "method", "backbone", "image_size", "threads", "precision")
    lines = [
        (
            *_timed_step(row),
            spread_text(row["against_fp32"]),
            f"{row['share_of_limit']:.0%}",
        )
        for row in found
    ]
    header = (
        "method",
        "backbone",
        "input",
        "precision",
        "s a batch",
        "relative to fp32",
        "of a matrix product",
    )
    command = "python -m rdx_fast.bench.training DATASET --method METHOD --backbone BACKBONE"
    return markdown(header, lines) + measured_all(found, command)


def _timed_step(row: Row) -> tuple[str, ...]:
    """What both tables on the time of a step begin with."""
    size = " x ".join(map(str, row["image_size"]))
    return row["method"], row["backbone"], size, row["precision"], f"{row['seconds']:.2f}"


def _against(rows: Sequence[Row]) -> str:
    same = ("method", "backbone", "image_size", "threads", "precision")
    found = newest(rows, "training-against", *same)
    lines = [
        (
            *_timed_step(row),
            f"{row['seconds_against']:.2f}",
            spread_text(row["ratio"]),
        )
        for row in found
    ]
    header = ("method", "backbone", "input", "precision", "s a batch", "before", "ratio")
    command = "python -m rdx_fast.bench.training_against DATASET CHECKOUT --method METHOD ..."
    return markdown(header, lines) + measured(found[0], command)


def _rows(settings: Mapping[Key, Mapping[int, Row]]) -> list[Row]:
    return sorted((row for runs in settings.values() for row in runs.values()), key=_time)


def measured_all(rows: Sequence[Row], command: str) -> str:
    """The caption of rows of several runs: every CPU and commit, in the order of their time."""
    cpus = [
        f"trained on {r['trained_on']}, {r['cpu']}" if "trained_on" in r else r["cpu"] for r in rows
    ]
    of_all = {"cpu": cpus, "commit": [row["commit"] for row in rows]}
    told = {key: ", ".join(dict.fromkeys(values)) for key, values in of_all.items()}
    return measured(rows[-1] | told, command)


def _time(row: Row) -> str:
    return str(row["time"])


TABLES: dict[str, Callable[[Sequence[Row]], str]] = {
    "convergence": _over_batches,
    "methods": _in_pairs,
    "convergence-gpu": partial(_over_batches, bench=ON_GPU),
    "methods-gpu": partial(_in_pairs, bench=ON_GPU),
    "options": _options,
    "teachers": _teachers,
    "cells": _cells,
    "training-steps": _step_times,
    "training-against": _against,
}
