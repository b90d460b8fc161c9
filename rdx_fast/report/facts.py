"""Facts about a bundle and a test set, as titled tables of texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from importlib.metadata import version
from pathlib import Path

from rdx_fast.bundle.bundle_history import bundle_history, what_changed
from rdx_fast.datasets import find_dataset
from rdx_fast.detector import Detector
from rdx_fast.doctor import describe_cpu
from rdx_fast.evaluation import CheckedSet
from rdx_fast.limits.limits import Limits, ThresholdSpec, rates_of_parts
from rdx_fast.preprocess import FrameOptions
from rdx_fast.recipe.recipe_rows import recipe_rows
from rdx_fast.wording import told

Row = Sequence[str]
_MINUTE = "%Y-%m-%d %H:%M %Z"


@dataclass(frozen=True, slots=True)
class Table:
    """A table of texts.

    Attributes:
        title: its heading
        rows: the cells of each row; the first is the row's name
        columns: heading of each column; empty for names and values without headings
        note: a sentence below the table
        numbers: whether the values are numbers
    """

    title: str
    rows: Sequence[Row]
    columns: Sequence[str] = ()
    note: str = ""
    numbers: bool = False


def header(detector: Detector, checked: CheckedSet, dataset: Path) -> list[Row]:
    """What was inspected by what, where and when."""
    m = detector.manifest
    good = sum(not image.is_defective for image in checked.images)
    counts = f"{good} good, {len(checked.images) - good} defective"
    if checked.left_out:
        counts += f"; {len(checked.left_out)} left out"
    return [
        ("Bundle", f"{m.name}, exported {_time(m.created)}"),
        ("Data set", f"{dataset} ({find_dataset(dataset).layout})"),
        ("Images", counts),
        ("CPU", describe_cpu()),
        ("Date", f"{datetime.now().astimezone():{_MINUTE}}"),
        ("Made by", f"rdx_fast {version('rdx_fast')}"),
        ("Engine", detector.description),
    ]


def facts(detector: Detector, checked: CheckedSet) -> list[Table]:
    """Recipe, limits, training and history of the bundle."""
    m = detector.manifest
    return [
        Table("Recipe", _recipe(detector, checked)),
        _limits(detector),
        Table("Training", [(key.replace("_", " "), told(v)) for key, v in m.training.items()]),
        _history(detector),
    ]


def _recipe(detector: Detector, checked: CheckedSet) -> list[Row]:
    m, execution = detector.manifest, detector.engine.execution
    file = m.files[m.networks[execution.stored]]
    given = (checked.pixel_format, checked.crop, checked.levels)
    options = FrameOptions.of_recipe(m.recipe, *given)
    # What the recipe leaves open may have been given for this report.
    frame = options._asdict()
    frame.pop("tiles")
    read = replace(m.recipe, frame=replace(m.recipe.frame, **frame))
    return [
        *recipe_rows(read),
        ("network input", f"{m.input.height} x {m.input.width} pixels, {m.input.resize}"),
        ("method, backbone", f"{m.method}, {m.backbone}"),
        ("precision", execution.label),
        ("network", f"{file.bytes / 1e6:.1f} MB, SHA-256 {file.sha256}"),
        (
            "anomaly map",
            f"{m.map.height} x {m.map.width} pixels, scales fused by {m.map.fusion}, Gaussian "
            f"sigma {m.map.sigma:g}",
        ),
    ]


def _limits(detector: Detector) -> Table:
    """The limits in force first; those of an earlier recipe hold no more and are only named."""
    manifest, label = detector.manifest, detector.engine.execution.label
    stale = [name for name in manifest.stale_executions() if name != label]
    others = [e for e in manifest.executions if e.label not in {label, *stale}]
    rows = _limit_rows(f"{label} (in force)", detector.limits)
    for execution in others:
        rows += _limit_rows(execution.label, execution.limits)
    columns = (
        *("precision", "region", "limit", "value", "by", "false rejects wanted"),
        *("expected at most", "good images"),
    )
    note = (
        "A conformal limit is a quantile of the scores of good images that the network was not "
        "trained on: of new good parts from the same process, on average at most the expected "
        "share exceeds it. Other limits promise nothing."
    )
    if len(detector.limits) > 1:
        note += (
            " The share of a region is of the parts that exceed that region's limit; at most the "
            "sum of the shares exceeds the limit of any region."
        )
    if stale:
        note += f" Left out are limits calibrated under an earlier recipe: {', '.join(stale)}."
    return Table("Limits and how they came about", rows, columns, note, numbers=True)


def _limit_rows(label: str, limits: Sequence[Limits]) -> list[Row]:
    rows: list[Row] = []
    for name, which in (("OK up to", "ok_below"), ("NG above", "ng_above")):
        thresholds: list[ThresholdSpec] = [getattr(of, which) for of in limits]
        for of, t in zip(limits, thresholds, strict=True):
            by = f"by hand: {t.reason}" if t.method == "manual" else t.method
            rates = _shares(t.false_reject_rate, t.expected_false_reject_rate)
            rows.append((label, of.region, name, f"{t.value:.4f}", by, *rates, f"{t.good_images}"))
        if len(limits) > 1:
            parts = rates_of_parts(thresholds)
            rates = _shares(parts.false_reject_rate, parts.expected_false_reject_rate)
            rows.append((label, "parts, by all regions", name, "-", "-", *rates, "-"))
    return rows


def _shares(*rates: float | None) -> tuple[str, ...]:
    return tuple("-" if rate is None else f"{rate:.2%}" for rate in rates)


def _history(detector: Detector) -> Table:
    changes = bundle_history(detector.engine.bundle)
    rows = [(_time(c.time), c.user, c.action, what_changed(c)) for c in changes]
    if not changes:
        rows = [(_time(detector.manifest.created), "-", "export", "-")]
    return Table("History", rows, ("time", "user", "action", "changed"))


def _time(iso: str) -> str:
    """A manifest's time for readers; as it is where it is none, since a manifest is only text."""
    try:
        return f"{datetime.fromisoformat(iso):{_MINUTE}}"
    except ValueError:
        return iso
