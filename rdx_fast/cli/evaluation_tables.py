"""Tables of the commands ``evaluate`` and ``experiment``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from rdx_fast.evaluation import BadImage, Difference, Evaluation, Figures
    from rdx_fast.evaluation.experiment import Experiment

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
    if any(f.good_reviews or f.defective_reviews for f in figures):
        table.add_row("good to review", *(f"{f.good_reviews} of {f.good}" for f in figures))
        reviews = (f"{f.defective_reviews} of {f.defective}" for f in figures)
        table.add_row("defective to review", *reviews)


def _caption(mask_threshold: float) -> str:
    return f"rates in percent; masks resized to the map, threshold {mask_threshold:g}"


def evaluation_table(result: Evaluation) -> Table:
    """An evaluation with one column per defect type, so that a typical set fits a terminal."""
    limit = f"threshold {result.threshold:.4f}"
    if len(result.regions) > 1:
        limit = f"scores relative to the limits of {len(result.regions)} regions"
    title = f"{result.bundle}: {result.engine}; {limit}"
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
    table = Table(title=f"{what} left out: {len(left_out)}", title_justify="left")
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
    from rdx_fast.evaluation.experiment import FIGURES

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
    for name in FIGURES:
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
    if all(run.published_steps for run in result.runs):
        shares = [[run.steps / run.published_steps for run in runs[m]] for m in runs]
        table.add_row("of the published length", *(f"{min(values):.1%}" for values in shares))
    for label, by_method in spent.items():
        ends = [(min(values), max(values)) for values in by_method.values()]
        table.add_row(label, *(f"{a}" if a == b else f"{a} to {b}" for a, b in ends))
    return table
