"""Tables that the commands print."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

from rdx_fast.station.plc.registers import MAP
from rdx_fast.wording import told

if TYPE_CHECKING:
    from rdx_fast.doctor import Finding
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
        *((f"training {key.replace('_', ' ')}", told(v)) for key, v in m.training.items()),
        ("versions", ", ".join(f"{k} {v}" for k, v in m.versions.items())),
        *((f"file {k}", f"{v.bytes:,} bytes, sha256 {v.sha256}") for k, v in m.files.items()),
    ]
    return pairs_table("Engine bundle", rows)


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
