"""Tables that the commands print."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

from rdx_fast.bundle.bundle_history import what_changed
from rdx_fast.limits.limits import rates_of_parts
from rdx_fast.recipe.recipe_rows import recipe_rows
from rdx_fast.station.plc.registers import MAP
from rdx_fast.wording import plain, told

if TYPE_CHECKING:
    from rdx_fast.bundle.history import Change
    from rdx_fast.bundle.manifest import Manifest
    from rdx_fast.doctor import Finding
    from rdx_fast.limits.limits import PartRates, RateSpec, ThresholdSpec
    from rdx_fast.station.records.store import InspectionRecord


def executions_table(manifest: Manifest) -> Table:
    """Stored and executed precisions, and the results of the check at export."""
    caption = (
        "differences from the trained network: score and map in percent of the threshold (limit in "
        "brackets), score in percent of the spread of good scores, changed verdicts of good images"
    )
    table = Table(title="Precisions", title_justify="left", caption=caption)
    for column in ("executed", "stored", "score", "map", "of spread", "verdicts"):
        table.add_column(column)
    table.add_column("checked by")
    for e in manifest.executions:
        c = e.check
        of_spread, differ = c.score_difference_of_spread, c.verdicts_that_differ
        table.add_row(
            e.executed,
            e.stored,
            f"{c.score_difference:.2%} ({c.score_tolerance:.1%})",
            f"{c.map_difference:.2%} ({c.map_tolerance:.1%})",
            "-" if of_spread is None else f"{of_spread:.1%}",
            "-" if differ is None else f"{differ} of {c.images}",
            c.checked_by,
        )
    for left in manifest.left_out:
        table.add_row(left.executed, left.stored, "left out", *[""] * 3, left.reason)
    return table


def pairs_table(title: str, rows: list[tuple[str, str]]) -> Table:
    table = Table(title=title, show_header=False, title_justify="left")
    for key, value in rows:
        table.add_row(key, value)
    return table


def manifest_table(manifest: Manifest) -> Table:
    """The content of a bundle's manifest."""
    m = manifest
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
        *((f"training {key.replace('_', ' ')}", told(v)) for key, v in m.training.items()),
        ("versions", ", ".join(f"{k} {v}" for k, v in m.versions.items())),
        *((f"file {k}", f"{v.bytes:,} bytes, sha256 {v.sha256}") for k, v in m.files.items()),
    ]
    return pairs_table("Engine bundle", rows)


def limits_tables(manifest: Manifest) -> list[Table]:
    """The limits of every execution and region with what they promise, and what was counted.

    A part exceeds a limit where one of its regions does: of several regions, the row "any" states
    what that promises. Counts are of parts, in a table of their own, which is left out if there are
    none.
    """
    table = Table(title="Limits", title_justify="left")
    for column in ("executed", "region", "OK up to", "NG above", "by"):
        table.add_column(column)
    table.add_column("good above,\nat most")
    table.add_column("good\nimages")
    counts = Table(title="Counted at the limits", title_justify="left")
    for column in ("executed", "limit", "good parts above", "defective parts not above"):
        counts.add_column(column)
    stale = manifest.stale_executions()
    for e in manifest.executions:
        name = e.executed if e.stored == e.executed else f"{e.executed} of {e.stored}"
        if e.label in stale:
            table.add_row(name, "(earlier recipe)")
            continue
        label = name
        for limits in e.limits:
            ok, ng = limits.ok_below, limits.ng_above
            values = (f"{t.value:.6f}" for t in (ok, ng))
            by = _pair(*(_by(t) for t in (ok, ng)))
            images = _pair(*(str(t.good_images or "-") for t in (ok, ng)))
            table.add_row(label, escape(limits.region), *values, by, _promised(ok, ng), images)
            label = ""
        ok_below, ng_above = zip(*((of.ok_below, of.ng_above) for of in e.limits), strict=True)
        parts = rates_of_parts(ok_below), rates_of_parts(ng_above)
        if len(e.limits) > 1:
            table.add_row("", "any", "", "", "", _promised(*parts), "")
        one = ok_below == ng_above
        at = {"both": parts[0]} if one else dict(zip(("OK up to", "NG above"), parts, strict=True))
        for limit, of in at.items():
            if of.false_rejects or of.escapes:
                counts.add_row(name, limit, _counted(of.false_rejects), _counted(of.escapes))
    return [table, counts] if counts.row_count else [table]


def _by(t: ThresholdSpec) -> str:
    return f"hand: {escape(t.reason)}" if t.method == "manual" else t.method


def _promised(ok: ThresholdSpec | PartRates, ng: ThresholdSpec | PartRates) -> str:
    rates = (of.expected_false_reject_rate for of in (ok, ng))
    return _pair(*("-" if rate is None else f"{rate:.2%}" for rate in rates))


def _pair(ok: str, ng: str) -> str:
    """What holds for the limits of OK and of NG."""
    return ok if ok == ng else f"{ok} / {ng}"


def _counted(rate: RateSpec | None) -> str:
    if rate is None:
        return "-"
    return f"{rate.count} of {rate.images} ({rate.low:.2%} to {rate.high:.2%})"


def recipe_table(manifest: Manifest) -> Table:
    """The inspection recipe of a bundle."""
    rows = recipe_rows(manifest.recipe)
    return pairs_table("Recipe", [(escape(name), escape(value)) for name, value in rows])


def history_table(changes: Iterable[Change]) -> Table:
    """The history of a bundle, the oldest change first."""
    table = Table(title="History", title_justify="left")
    for column in ("time, UTC", "user", "action", "changed", "hash"):
        table.add_column(column)
    for c in changes:
        time = c.time[:19].replace("T", " ")
        what = escape(plain(what_changed(c)))
        table.add_row(time, escape(plain(c.user)), c.action, what, c.sha256[:12])
    return table


def changes_table(changes: Iterable[Change]) -> Table:
    """The changes that a station and its page have entered, the oldest first."""
    table = Table(title="Changes", title_justify="left")
    for column in ("time, UTC", "user", "action", "what", "hash"):
        table.add_column(column)
    for c in changes:
        time = c.time[:19].replace("T", " ")
        what = escape(plain(_what_changed(c)))
        table.add_row(time, escape(plain(c.user)), c.action, what, c.sha256[:12])
    return table


def _what_changed(change: Change) -> str:
    after = change.after
    if change.action == "replace":
        who = ", ".join(f"{action} by {user}" for _, user, action, _ in after["history"])
        what = f"job {after['job']} has {after['bundle']}, manifest {after['sha256'][:12]}"
        return f"{what}: {who}" if who else what
    return ", ".join(f"{name} {value}" for name, value in after.items())


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
    found = list(found)
    in_regions = any(r.region is not None for r in found)
    table = Table()
    columns = ("inspection", "part", "job", "triggered, UTC", "result", "score", "threshold")
    for column in (*columns, *(["region"] if in_regions else []), "executed", "ms", "error"):
        table.add_column(column)
    for r in found:
        table.add_row(
            str(r.inspection_id),
            str(r.part_id),
            str(r.job),
            r.triggered_at[:-9].replace("T", " "),
            r.result,
            *("-" if v is None else f"{v:.4f}" for v in (r.score, r.threshold)),
            *([escape(r.region or "-")] if in_regions else []),
            r.executed or "-",
            f"{r.decided_ms:.1f}",
            r.error or "",
        )
    return table
