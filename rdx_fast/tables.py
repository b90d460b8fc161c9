"""What the commands print for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table

if TYPE_CHECKING:
    from rdx_fast.demo import DemoResult
    from rdx_fast.doctor import Finding
    from rdx_fast.evaluation import Evaluation
    from rdx_fast.manifest import Manifest


def _pairs(title: str, rows: list[tuple[str, str]]) -> Table:
    table = Table(title=title, show_header=False, title_justify="left")
    for key, value in rows:
        table.add_row(key, value)
    return table


def manifest_table(manifest: Manifest) -> Table:
    m = manifest
    t, check = m.threshold, m.check
    rows = [
        ("name", m.name),
        ("created", m.created),
        ("method, backbone", f"{m.method}, {m.backbone}"),
        ("precision", m.precision),
        ("input", f"RGB {m.input.height} x {m.input.width}, resized {m.input.resize}"),
        ("mean", ", ".join(f"{v:.4f}" for v in m.input.mean)),
        ("std", ", ".join(f"{v:.4f}" for v in m.input.std)),
        ("scales", "; ".join(f"{s.channels} x {s.height} x {s.width}" for s in m.scales)),
        (
            "map",
            f"{m.map.height} x {m.map.width}, scales fused by {m.map.fusion}, Gaussian sigma "
            f"{m.map.sigma:g} cut at {m.map.truncate:g} sigmas, border {m.map.border}",
        ),
        ("threshold", f"{t.value:.6f}"),
        (
            "false rejects",
            f"at most {t.expected_false_reject_rate:.2%} expected from {t.good_images} good images "
            f"({t.false_reject_rate:.2%} asked for)",
        ),
        (
            "check",
            f"over {check.images} images scores differ from the trained network's by up to "
            f"{check.score_difference:.4%} of the threshold, maps by {check.map_difference:.4%} "
            f"(allowed {check.tolerance:.2%}); ran as {check.executed_precision}",
        ),
        *((f"training {key}", str(value)) for key, value in m.training.items()),
        ("versions", ", ".join(f"{k} {v}" for k, v in m.versions.items())),
        *((f"file {k}", f"{v.bytes:,} bytes, sha256 {v.sha256}") for k, v in m.files.items()),
    ]
    return _pairs("Engine bundle", rows)


def evaluation_table(result: Evaluation) -> Table:
    """One column a defect type, so that a usual test set fits a terminal."""
    figures = [*result.by_type.values(), result.overall]
    title = f"{result.bundle}: {result.engine}; threshold {result.threshold:.4f}"
    table = Table(title=title, title_justify="left", caption="rates in percent")
    table.add_column("against good parts")
    for name in [*(n.replace("_", " ") for n in result.by_type), "all"]:
        table.add_column(name, justify="right")

    def rate(value: float | None) -> str:
        return "-" if value is None else f"{100 * value:.2f}"

    table.add_row("image AUROC", *(rate(f.image_auroc) for f in figures))
    table.add_row("image AP", *(rate(f.image_ap) for f in figures))
    table.add_row("image best F1", *(rate(f.image_best_f1) for f in figures), end_section=True)
    table.add_row("pixel AUROC", *(rate(f.pixel_auroc) for f in figures))
    table.add_row("pixel AP", *(rate(f.pixel_ap) for f in figures))
    table.add_row("pixel best F1", *(rate(f.pixel_best_f1) for f in figures))
    table.add_row("AUPRO to 0.3", *(rate(f.aupro) for f in figures), end_section=True)
    table.add_row("escapes", *(f"{f.escapes} of {f.defective}" for f in figures))
    table.add_row("false rejects", *(f"{f.false_rejects} of {f.good}" for f in figures))
    return table


def doctor_table(findings: list[Finding]) -> Table:
    table = Table(show_header=False)
    for f in findings:
        mark = "[green]found[/]" if f.present else "[yellow]missing[/]"
        table.add_row(mark, f.part, f.found, f.advice.replace("[", r"\["))
    return table


def demo_table(result: DemoResult) -> Table:
    good, bad = result.good, result.defective
    rows = [
        ("image AUROC", f"{result.image_auroc:.4f}"),
        ("threshold", f"{result.threshold:.4f}"),
        ("false rejects", f"{result.false_rejects} of {good} good cells"),
        ("escapes", f"{result.escapes} of {bad} defective cells"),
        ("latency p50", f"{result.latency_ms['p50']:.1f} ms a frame"),
        ("latency p99", f"{result.latency_ms['p99']:.1f} ms a frame"),
        ("engine bundle", str(result.bundle)),
        ("overlays to look at", str(result.overlays)),
    ]
    return _pairs("Demo", rows)
