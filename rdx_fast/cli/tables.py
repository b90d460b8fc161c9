"""Tables that the commands print."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.table import Table

from rdx_fast.station.plc.registers import MAP

if TYPE_CHECKING:
    from rdx_fast.doctor import Finding
    from rdx_fast.evaluation import BadImage, Difference, Evaluation, Figures
    from rdx_fast.evaluation.experiment import Experiment
    from rdx_fast.manifest import Manifest
    from rdx_fast.station.records.store import InspectionRecord


def executions_table(manifest: Manifest) -> Table:
    """Stored and executed precisions, and the results of the check at export."""
    caption = (
        "differences from the trained network: score and map in percent of the threshold (limit in "
        "brackets), score in percent of the spread of good scores, changed verdicts of good images"
    )
    table = Table(title="Precisions", title_justify="left", caption=caption)
    for column in ("executed", "stored", "threshold", "score", "map", "of spread", "verdicts"):
        table.add_column(column)
    table.add_column("checked by")
    for e in manifest.executions:
        c = e.check
        of_spread, differ = c.score_difference_of_spread, c.verdicts_that_differ
        table.add_row(
            e.executed,
            e.stored,
            f"{e.threshold.value:.6f}",
            f"{c.score_difference:.2%} ({c.score_tolerance:.1%})",
            f"{c.map_difference:.2%} ({c.map_tolerance:.1%})",
            "-" if of_spread is None else f"{of_spread:.1%}",
            "-" if differ is None else f"{differ} of {c.images}",
            c.checked_by,
        )
    for left in manifest.left_out:
        table.add_row(left.executed, left.stored, "left out", *[""] * 4, left.reason)
    return table


def _told(value: object) -> str:
    """Format a value of the training for reading."""
    if isinstance(value, dict):
        return ", ".join(f"{k.replace('_', ' ')} {_told(v)}" for k, v in value.items())
    if isinstance(value, list | tuple):
        return " x ".join(map(_told, value)) or "none"
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "not given"}[value]
    return f"{value:g}" if isinstance(value, float) else str(value)


def pairs_table(title: str, rows: list[tuple[str, str]]) -> Table:
    table = Table(title=title, show_header=False, title_justify="left")
    for key, value in rows:
        table.add_row(key, value)
    return table


def manifest_table(manifest: Manifest) -> Table:
    """The content of a bundle's manifest."""
    m = manifest
    t = m.executions[0].threshold
    sizes = {stored: m.files[name].bytes / 1e6 for stored, name in m.networks.items()}
    rows = [
        ("name", m.name),
        ("created", m.created),
        ("method, backbone", f"{m.method}, {m.backbone}"),
        ("networks", ", ".join(f"{stored} {mb:.1f} MB" for stored, mb in sizes.items())),
        ("input", f"RGB {m.input.height} x {m.input.width}, resized {m.input.resize}"),
        ("mean", ", ".join(f"{v:.4f}" for v in m.input.mean)),
        ("std", ", ".join(f"{v:.4f}" for v in m.input.std)),
        ("scales", "; ".join(f"{s.channels} x {s.height} x {s.width}" for s in m.scales)),
        (
            "map",
            f"{m.map.height} x {m.map.width}, scales fused by {m.map.fusion}, Gaussian sigma "
            f"{m.map.sigma:g} truncated at {m.map.truncate:g} sigma, border {m.map.border}",
        ),
        (
            "false rejects",
            f"at most {t.expected_false_reject_rate:.2%} expected from {t.good_images} good images "
            f"({t.false_reject_rate:.2%} requested)",
        ),
        *((f"training {key.replace('_', ' ')}", _told(v)) for key, v in m.training.items()),
        ("versions", ", ".join(f"{k} {v}" for k, v in m.versions.items())),
        *((f"file {k}", f"{v.bytes:,} bytes, sha256 {v.sha256}") for k, v in m.files.items()),
    ]
    return pairs_table("Engine bundle", rows)


# Labels of the metrics, in order; AUPRO's names its limit.
_RATES = {
    "image_auroc": "image AUROC",
    "image_ap": "image AP",
    "image_best_f1": "image best F1",
    "pixel_auroc": "pixel AUROC",
    "pixel_ap": "pixel AP",
    "pixel_best_f1": "pixel best F1",
    "aupro": "AUPRO to {:g}",
    "aupro_per_image_mean": "AUPRO, per-image mean",
}
_LAST_OF_SECTION = ("image_best_f1", "aupro_per_image_mean")


def _figure_rows(table: Table, figures: Sequence[Figures], fpr_limit: float) -> None:
    """Add the rows of an evaluation, one column for each of ``figures``."""

    for name, label in _RATES.items():
        values = [getattr(f, name) for f in figures]
        cells = ["-" if value is None else f"{100 * value:.2f}" for value in values]
        table.add_row(label.format(fpr_limit), *cells, end_section=name in _LAST_OF_SECTION)
    table.add_row("escapes", *(f"{f.escapes} of {f.defective}" for f in figures))
    table.add_row("false rejects", *(f"{f.false_rejects} of {f.good}" for f in figures))


def _caption(mask_threshold: float) -> str:
    return f"rates in percent; masks resized to the map, threshold {mask_threshold:g}"


def evaluation_table(result: Evaluation) -> Table:
    """An evaluation with one column per defect type, so that a typical set fits a terminal."""
    title = f"{result.bundle}: {result.engine}; threshold {result.threshold:.4f}"
    table = Table(title=title, title_justify="left", caption=_caption(result.mask_threshold))
    table.add_column("against good parts")
    for name in [*(n.replace("_", " ") for n in result.by_type), "all"]:
        table.add_column(name, justify="right")
    _figure_rows(table, [*result.by_type.values(), result.overall], result.aupro_fpr_limit)
    return table


def comparison_table(bundles: Sequence[Path], results: Sequence[Evaluation]) -> Table:
    """Evaluations of several bundles, one column per bundle.

    Args:
        bundles: paths of the bundles, used as titles if their names are not unique
        results: the evaluations, in the same order
    """
    table = Table(title_justify="left", caption=_caption(results[0].mask_threshold))
    table.add_column("all defects")
    names = [r.bundle for r in results]
    if len(set(names)) < len(names):
        names = [str(path) for path in bundles]
    for name in names:
        table.add_column(name, justify="right", overflow="fold")
    _figure_rows(table, [r.overall for r in results], results[0].aupro_fpr_limit)
    return table


def difference_table(differences: Sequence[Difference]) -> Table:
    """Differences between bundles with their confidence intervals."""
    table = Table(caption="in percent; paired bootstrap over the images, 95% interval")
    for column in ("difference", "of", "to", "estimate", "from", "to"):
        table.add_column(column)
    for d in differences:
        values = (f"{100 * v:+.2f}" for v in (d.difference, d.low, d.high))
        table.add_row(d.figure, d.name, d.baseline, *values)
    return table


def left_out_table(left_out: Sequence[BadImage], what: str = "test images") -> Table:
    """The images that could not be used; ``what``: the kind of them."""
    table = Table(title=f"left out: {len(left_out)} {what}", title_justify="left")
    table.add_column("image", overflow="fold")
    table.add_column("reason", overflow="fold")
    for bad in left_out:
        table.add_row(escape(bad.path), escape(bad.reason))
    return table


def comparison_dict(
    bundles: Sequence[Path], results: Sequence[Evaluation], differences: Sequence[Difference]
) -> dict[str, Any]:
    """A comparison of bundles as JSON data: evaluations by path, and differences.

    Args:
        bundles: paths of the bundles
        results: the evaluations, in the same order
        differences: the differences to the first bundle
    """
    return {
        "bundles": {str(p): r.to_dict() for p, r in zip(bundles, results, strict=True)},
        "differences": [asdict(d) for d in differences],
    }


def experiment_table(result: Experiment, oracle: bool = False) -> Table:
    """An experiment with one column per method: mean and standard deviation over its seeds.

    Args:
        result: the experiment
        oracle: show the oracle epochs instead of the last ones
    """
    summary = result.summary(oracle)
    which = (
        "oracle epoch: CHOSEN ON THE TEST SET, do not compare with last-epoch results"
        if oracle
        else "last epoch"
    )
    seeds = len({run.seed for run in result.runs})
    table = Table(
        title=f"{result.dataset} ({result.layout}), {which}, {seeds} seed{'s' * (seeds > 1)}",
        title_justify="left",
        caption=_caption(result.mask_threshold)
        + ("; mean ± standard deviation over the seeds" if seeds > 1 else "; no spread: one seed"),
    )
    table.add_column("")
    for method in summary:
        table.add_column(method, justify="right")
    for name in (
        "image_auroc",
        "pixel_auroc",
        "aupro",
        "aupro_per_image_mean",
        "image_ap",
        "pixel_ap",
    ):
        cells = [
            ("{:.2f} ± {:.2f}" if seeds > 1 else "{:.2f}").format(*(100 * v for v in figures[name]))
            if name in figures
            else "-"
            for figures in summary.values()
        ]
        table.add_row(_RATES[name].format(result.aupro_fpr_limit), *cells)
    runs = {m: [run for run in result.runs if run.method == m] for m in summary}
    spent: dict[str, dict[str, list[float]]] = {
        "batches": {m: [run.steps for run in runs[m]] for m in runs},
        "minutes of training": {m: [round(run.minutes, 1) for run in runs[m]] for m in runs},
    }
    waited = [max(run.waiting for run in runs[m]) for m in runs]
    table.add_row("time waiting for data", *(f"{share:.1%}" for share in waited))
    for label, by_method in spent.items():
        ends = [(min(values), max(values)) for values in by_method.values()]
        table.add_row(label, *(f"{a}" if a == b else f"{a} to {b}" for a, b in ends))
    return table


def doctor_table(findings: list[Finding]) -> Table:
    """The findings of ``doctor``."""
    table = Table(show_header=False)
    for f in findings:
        lacks = "refused" if f.part.startswith("bundle ") else "missing"
        mark = "[green]found[/]" if f.present else f"[yellow]{lacks}[/]"
        table.add_row(mark, *map(escape, (f.part, f.found, f.advice)))
    return table


def register_table() -> Table:
    """The Modbus register map."""
    table = Table(caption="holding registers, addresses counted from 0; unsigned, high word first")
    for column in ("register", "written by", "name", "type", "meaning"):
        table.add_column(column)
    writer = MAP[0].writer
    for register in MAP:
        if register.writer != writer:
            table.add_section()
            writer = register.writer
        table.add_row(str(register.address), writer, register.name, register.type, register.meaning)
    return table


def records_table(found: Iterable[InspectionRecord]) -> Table:
    """The main columns of records; exported files have all columns."""
    table = Table()
    columns = ("inspection", "part", "job", "triggered, UTC", "result", "score", "threshold")
    for column in (*columns, "executed", "ms", "error"):
        table.add_column(column)
    for r in found:
        table.add_row(
            str(r.inspection_id),
            str(r.part_id),
            str(r.job),
            r.triggered_at[:-9].replace("T", " "),
            r.result,
            *("-" if v is None else f"{v:.4f}" for v in (r.score, r.threshold)),
            r.executed or "-",
            f"{r.decided_ms:.1f}",
            r.error or "",
        )
    return table
