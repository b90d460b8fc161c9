"""How soon drift is found, and how often by mistake: ``python -m rdx_fast.bench.drift --help``.

Score, brightness and sharpness of real photographs are measured as they are and after simulated
changes. Lines of parts are then drawn from these values.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from rdx_fast.bench.charts import new_figure
from rdx_fast.bench.drift_changes import CHANGES, Frame, changed, good_frames
from rdx_fast.bench.drift_generated import BEFORE, EVERY, percentiles, rate, rows_of_normal
from rdx_fast.bench.result_rows import append, facts, network_facts
from rdx_fast.detector import Detector
from rdx_fast.drift import SIGNALS, DriftMonitor
from rdx_fast.recipe.frame_check import look_at, sharpness_of

AFTER = 2000  # parts after a change, at most
RUNS = 100
BATCH = 100  # parts
# Stated rate, runs, parts of each.
RATES = ((100, 1000, 500), (1000, 1000, 2000), (10_000, 50, 20_000))
EXAMPLE = (CHANGES[0][2], 0.95)  # of the picture: the lamp
AGEING = 10_000  # parts
Values = NDArray[np.float64]  # [n, 3]: score as a share of the limit, brightness, sharpness
Part = dict[str, float]


def values_of(detector: Detector, frames: list[Frame]) -> Values:
    """What the station measures of each frame."""
    limit = detector.threshold.value
    return np.array(
        [
            (
                float(detector.score(frame, maps=False).scores[0]) / limit,
                look_at(frame).brightness,
                sharpness_of(frame),
            )
            for frame in frames
        ]
    )


def drawn(values: Values, count: int, rng: np.random.Generator) -> Iterator[Part]:
    """Values of parts as a monitor takes them: scores of those that pass alone."""
    for row in values[rng.integers(len(values), size=count)].tolist():
        part = dict(zip(SIGNALS, row, strict=True))
        if part["score"] > 1:
            del part["score"]
        yield part


# Changes


def detect(usual: Values, after: Iterable[Part], seed: int) -> tuple[float, str]:
    """Parts from a change to the alarm, and its cause; infinite if there is none."""
    monitor = DriftMonitor(EVERY, seed)
    for part in drawn(usual, BEFORE, np.random.default_rng([seed, 0])):
        if monitor.add(part) is not None:
            monitor.acknowledge()
    for i, part in enumerate(after, 1):
        alarm = monitor.add(part)
        if alarm is not None:
            return i, alarm.cause
    return np.inf, ""


def detection(
    usual: Values, after: Callable[[np.random.Generator], Iterable[Part]]
) -> dict[str, Any]:
    """Delays and causes of many lines with a change.

    Args:
        usual: values before it
        after: draws the parts after it
    """
    found = [detect(usual, after(np.random.default_rng([seed, 1])), seed) for seed in range(RUNS)]
    delays = [delay for delay, _ in found]
    return {
        "before": BEFORE,
        "runs": RUNS,
        "found": int(np.isfinite(delays).sum()),
        "delay": percentiles(delays),
        "causes": dict(Counter(cause for _, cause in found if cause).most_common()),
    }


def shifts(usual: Values, after: Values) -> dict[str, Any]:
    """Means after a change, in standard deviations of parts that passed before, and the share that
    is rejected."""
    passed = usual[usual[:, 0] <= 1]
    moved = (after.mean(0) - passed.mean(0)) / passed.std(0)
    return {
        "shifts": dict(zip(SIGNALS, moved.round(2).tolist(), strict=True)),
        "rejected": round(float((after[:, 0] > 1).mean()), 3),
    }


def ageing(usual: Values, per_thousand: float) -> Callable[[np.random.Generator], Iterator[Part]]:
    """Parts under a lamp that loses a share of its light in each 1000 of them."""

    def parts(rng: np.random.Generator) -> Iterator[Part]:
        for i, part in enumerate(drawn(usual, AGEING, rng), 1):
            gain = 1 - per_thousand * i / 1000
            yield {name: v * (1 if name == "score" else gain) for name, v in part.items()}

    return parts


# False alarms


def false_alarms(usual: Values, every: int, runs: int, parts: int, batch: float = 0) -> int:
    """Alarms of lines without a change, in all runs; each is acknowledged at once.

    Args:
        usual: values of parts
        every: the stated number of parts
        runs: number of lines
        parts: of each
        batch: standard deviation of the brightness among batches, in those of the parts
    """
    alarms = 0
    spread = batch * usual[:, 1].std()
    for seed in range(runs):
        rng = np.random.default_rng(seed)
        monitor = DriftMonitor(every, seed)
        offset = 0.0
        for i, part in enumerate(drawn(usual, parts, rng)):
            if i % BATCH == 0:
                offset = spread * rng.normal()
            part["brightness"] += offset
            if monitor.add(part) is not None:
                alarms += 1
                monitor.acknowledge()
    return alarms


# The command


def rows_of_images(
    detector: Detector, frames: list[Frame], tell: Callable[[str], None]
) -> Iterator[dict[str, Any]]:
    """Rows about real photographs."""
    usual = values_of(detector, frames)
    for name, unit, change, strengths in CHANGES:
        if name.startswith("colour") and frames[0].ndim == 2:
            continue
        for strength in strengths:
            after = values_of(detector, changed(frames, change, strength))
            what = {"step": "detection", "change": name, "unit": unit, "strength": strength}
            tell(f"{name} {strength}")
            yield what | shifts(usual, after) | detection(usual, partial(drawn, after, AFTER))
    for loss in (0.01, 0.05):
        tell(f"lamp that ages {loss}")
        what = {"step": "detection", "change": "lamp that ages", "unit": "loss in 1000 parts"}
        yield what | {"strength": loss} | detection(usual, ageing(usual, loss))
    for every, runs, parts in RATES:
        tell(f"false alarms {every}")
        found = false_alarms(usual, every, runs, parts)
        yield rate("resampled", every, runs, parts, found)
    for batch in (0.1, 0.25, 0.5, 1.0):
        tell(f"batches {batch}")
        found = false_alarms(usual, 1000, 40, 5000, batch)
        yield rate("batches", 1000, 40, 5000, found) | {"batch": BATCH, "batch_spread": batch}


def main(
    bundle: Annotated[Path, typer.Argument(help="Engine bundle.")],
    frames: Annotated[
        Path | None,
        typer.Option(
            help="Folder of good images that were not trained on. Default: those of the demo."
        ),
    ] = None,
    name: Annotated[str, typer.Option(help="Name of the images.")] = "solar cells",
    generated: Annotated[bool, typer.Option(help="Also measure generated values.")] = False,
    output: Annotated[Path | None, typer.Option(help="JSON lines to append to.")] = None,
    picture: Annotated[Path | None, typer.Option("--plot", help="Picture to write.")] = None,
) -> None:
    """Measure delays of simulated changes, and false alarms."""
    images = good_frames(frames)
    with Detector(bundle) as detector:
        common = facts("drift", ("numpy",)) | network_facts(detector)
        common |= {"dataset": name, "images": len(images)}
        rows = [common | row for row in rows_of_images(detector, images, print)]
        if picture is not None:
            usual = values_of(detector, images)
            after = values_of(detector, changed(images, *EXAMPLE))
            plot(name, trace(usual, after), rows, picture)
    if generated:
        rows += [common | row for row in rows_of_normal(print)]
    for row in rows:
        print({k: v for k, v in row.items() if k not in common})
    if output is not None:
        append(output, rows)


# The picture


def trace(usual: Values, after: Values, seed: int = 0) -> dict[str, Values]:
    """Decimal logarithms of the statistics, relative to the limit, from 200 parts before a change
    to the alarm."""
    rng = np.random.default_rng(seed)
    monitor = DriftMonitor(EVERY, seed)
    found: dict[str, list[float]] = {name: [] for name in SIGNALS}
    for values, count in ((usual, BEFORE), (after, AFTER)):
        for part in drawn(values, count, rng):
            monitor.add(part)
            for name, statistic in monitor.statistics.items():
                found[name].append(np.log10(max(statistic, 0.1) / monitor.limit))
            if monitor.alarm is not None:
                break
    return {name: np.array(of[BEFORE - 200 :]) for name, of in found.items()}


def plot(name: str, traced: dict[str, Values], rows: list[dict[str, Any]], file: Path) -> None:
    """Draw one line with a change, and the delays of all changes."""
    figure = new_figure(11, 4.5)
    line, delays = figure.subplots(1, 2, width_ratios=(1, 1.2))
    for signal, of in traced.items():
        line.plot(np.arange(len(of)) - 200 + 1, of, label=signal)
    line.axhline(0, color="black", linewidth=1)
    line.axvline(0, color="grey", linestyle=":")
    line.set(
        title=f"lamp at {EXAMPLE[1]:.0%} from part 0 on",
        xlabel="parts",
        ylabel="log10 of S / limit",
    )
    line.legend(loc="upper left", fontsize=8)
    found = [row for row in rows if row["step"] == "detection" and row["delay"]["p90"]]
    for i, row in enumerate(reversed(found)):
        low, high = row["delay"]["p50"], row["delay"]["p90"]
        delays.plot([low, high], [i, i], color="tab:blue")
        delays.plot(low, i, "o", color="tab:blue")
    labels = [f"{row['change']}, {row['strength']:g} {row['unit']}" for row in reversed(found)]
    delays.set_yticks(range(len(labels)), labels, fontsize=7)
    delays.set(xscale="log", xlabel="parts until the alarm: median, 90 %")
    delays.grid(axis="x", which="both", alpha=0.3)
    figure.suptitle(f"{name}; one false alarm in {EVERY:,} parts", fontsize=10)
    figure.savefig(file, dpi=100)


if __name__ == "__main__":
    typer.run(main)
