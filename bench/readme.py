"""Tables of README and docs, out of ``bench/results``: ``python -m rdx_fast.bench.readme``.

A table stands between ``<!-- figures: NAME -->`` and ``<!-- end of figures -->`` and is made anew
from the newest rows of its benchmark, so that no figure is copied by hand. ``--check`` only says
whether all are current.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from rdx_fast.bench.precision_table import HEADER, precision_lines
from rdx_fast.bench.records import spread_text
from rdx_fast.line.registers import ERRORS, MAP

RESULTS = Path("bench/results")
PAGES = (
    Path("README.md"),
    Path("docs/performance.md"),
    Path("docs/kernels.md"),
    Path("docs/evaluation.md"),
    Path("docs/plc.md"),
    Path("docs/precision.md"),
)
_BLOCK = re.compile(r"(<!-- figures: (\S+) -->\n).*?(<!-- end of figures -->)", re.DOTALL)

# The machines that figures are of, by the newest of what their CPUs have. On "VNNI", the one with
# AMX, oneDNN was kept from all that is newer.
CPUS = ("AVX2", "AMX")
_RESTRICTED = {"AVX512_CORE_BF16": "VNNI"}

Row = dict[str, Any]


def read_rows(folder: Path) -> list[Row]:
    """Every published row, in the order of the files and their lines."""
    files = sorted(folder.glob("*.jsonl"))
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


def rewritten(page: str, rows: Sequence[Row]) -> str:
    """The page with its tables made anew. Raises ``KeyError`` for a table that no one makes,
    ``ValueError`` for one without rows."""

    def block(match: re.Match[str]) -> str:
        return match[1] + TABLES[match[2]](rows) + match[3]

    return _BLOCK.sub(block, page)


def _rows_of(rows: Sequence[Row], bench: str, wanted: Callable[[Row], bool]) -> list[Row]:
    found = [row for row in rows if row["bench"] == bench and wanted(row)]
    if not found:
        raise ValueError(f"no results of {bench!r}: run the benchmark with --output first")
    return found


def _newest(rows: Sequence[Row], bench: str, *keys: str, cpu: str | None = None) -> list[Row]:
    """The newest row for each value of ``keys``, all of one CPU: ``cpu``, or the last row's."""
    chosen = _rows_of(rows, bench, lambda row: row.keys() >= set(keys))
    wanted = cpu or chosen[-1]["cpu"]
    chosen = _rows_of(chosen, bench, lambda row: row["cpu"] == wanted)
    return list({tuple(str(row[k]) for k in keys): row for row in chosen}.values())


def _newest_run(
    rows: Sequence[Row], bench: str, cpu: str | None = None, **wanted: str
) -> list[Row]:
    """All rows of the newest run that is ``wanted``. ``cpu``: the newest of ``cpu_features`` that
    the machine has."""

    def fits(row: Row) -> bool:
        of_cpu = cpu is None or _newest_feature(row) == cpu
        return of_cpu and all(row.get(k) == v for k, v in wanted.items())

    found = _rows_of(rows, bench, fits)
    return [row for row in found if row["time"] == found[-1]["time"]]


def _newest_feature(row: Row) -> str | None:
    restricted = _RESTRICTED.get(row.get("max_cpu_isa", ""))
    return restricted or (row.get("cpu_features") or [None])[-1]


def _markdown(header: Sequence[str], lines: Iterable[Sequence[object]]) -> str:
    table = [header, ["---"] * len(header), *lines]
    return "".join("| " + " | ".join(map(str, line)) + " |\n" for line in table)


def _measured(row: Row, command: str) -> str:
    versions = ", ".join(f"{k} {v}" for k, v in row["versions"].items() if k != "rdx_fast")
    versions = f"; {versions}" if versions else ""
    cpu = ", ".join((row["cpu"], *row.get("cpu_features", ())))
    if "max_cpu_isa" in row:
        cpu += f", with ONEDNN_MAX_CPU_ISA={row['max_cpu_isa']}"
    return f"\n{cpu}{versions}; commit {row['commit']}. Command: `{command}`\n"


def _peers(rows: Sequence[Row], backbone: str, cpu: str) -> str:
    found = _newest_run(rows, "peers", cpu, backbone=backbone)
    ours = [p for p in ("int8", "bf16", "fp32") if f"times_rdx_fast_{p}" in found[0]]
    lines = []
    for row in found:
        differ = row.get("verdicts_that_differ")
        lines.append(
            (
                row["peer"],
                row["network"],
                row.get("executed", "not recorded"),
                f"{row['p50_ms']:.1f}",
                f"{row['p99_ms']:.1f}",
                *(spread_text(row[f"times_rdx_fast_{p}"]) for p in ours),
                f"{100 * row['image_auroc']:.1f}" if row["trained"] else "untrained",
                "another network" if differ is None else f"{differ} of {row['images']}",
            )
        )
    header = (
        "",
        "network",
        "executed",
        "p50 ms",
        "p99 ms",
        *(f"time relative to rdx_fast {p}" for p in ours),
        "image AUROC",
        "verdicts that differ from the published pipeline's",
    )
    return _markdown(header, lines) + _measured(found[0], _peers_command(found))


def _peers_by_cpu(rows: Sequence[Row], backbone: str) -> str:
    """What each peer executes, how long it takes, and how much longer than ours in int8."""
    runs = {cpu: _newest_run(rows, "peers", cpu, backbone=backbone) for cpu in CPUS}
    by_peer: dict[tuple[str, str], dict[str, Row]] = {}
    for cpu, run in sorted(runs.items(), key=lambda of: -len(of[1])):  # the fullest has the order
        for row in run:
            by_peer.setdefault((row["peer"], row["network"]), {})[cpu] = row
    lines = []
    for names, found in by_peer.items():
        cells: list[str] = []
        for cpu in CPUS:
            if cpu in found:
                row = found[cpu]
                times = f"{row['times_rdx_fast_int8'][1]:.2f}"
                cells += [row["executed"], _ms(row["p50_ms"]), times]
            else:
                cells += ["-"] * 3
        lines.append((*names, *cells))
    columns = ("executed", "p50 ms", "time relative to rdx_fast int8")
    header = ("", "network", *(f"{c}, {cpu}" for cpu in CPUS for c in columns))
    measured = (_measured(run[0], _peers_command(run)) for run in runs.values())
    return _markdown(header, lines) + "".join(measured)


def _peers_command(run: Sequence[Row]) -> str:
    first = run[0]
    command = (
        "python -m rdx_fast.bench.peers RUN --dataset DATASET --frames FRAMES --also OTHER_RUN"
    )
    return f"{command} --rounds {first['rounds']}{' --timed-only' * first.get('timed_only', False)}"


def _peer_stages(rows: Sequence[Row], cpu: str) -> str:
    names = ("preprocess", "network", "layer4", "postprocess")
    found = [
        row
        for row in _newest_run(rows, "peers", cpu, backbone="wide_resnet50_2")
        if "stages_p50_ms" in row
    ]
    lines = [
        (row["peer"], *(_ms(row["stages_p50_ms"].get(name)) for name in names)) for row in found
    ]
    return _markdown(("", *(f"{n} ms" for n in names)), lines)


def _latency(rows: Sequence[Row]) -> str:
    stages = ("preprocess", "network", "map", "verdict", "total")
    found = _newest(rows, "bench", "backbone", "precision")
    lines = [
        (
            row["backbone"],
            row["precision"],
            *(_ms(row["latency_ms"][stage]["p50"]) for stage in stages),
            _ms(row["latency_ms"]["total"].get("p99")),
            f"{max(e['frames_per_s'] for e in row['throughput']):.1f}",
            f"{row['limits']['network_gflops'] / row['limits']['matrix_product_gflops']:.0%}",
            f"{row['start']['open_s']:.1f}",
        )
        for row in found
    ]
    header = (
        "backbone",
        "precision",
        *(f"{s} ms" for s in stages),
        "p99 ms",
        "most frames/s",
        "of a float32 matrix product's rate",
        "opens in s",
    )
    return _markdown(header, lines) + _measured(found[0], "rdx-fast bench BUNDLE...")


def _bound(rows: Sequence[Row]) -> str:
    """What the network's work takes a second, and would at seven times the published speed."""
    run = _newest_run(rows, "peers", "AVX2", backbone="wide_resnet50_2")
    peers = {row["peer"]: row["p50_ms"] for row in run}
    limits = next(
        row["limits"]
        for row in _newest(rows, "bench", "backbone", "precision", cpu=run[0]["cpu"])
        if (row["backbone"], row["precision"]) == ("wide_resnet50_2", "fp32")
    )
    most, work = limits["matrix_product_gflops"], limits["network_gflop"]
    published = "published pipeline"
    names = (published, *(f"rdx_fast {p}" for p in ("fp32", "bf16", "int8")))
    times = {name: peers[name] for name in names if name in peers}
    times["seven times faster than the published pipeline"] = peers[published] / 7
    lines = [
        (name, _ms(ms), f"{1e3 * work / ms:.0f}", f"{1e3 * work / ms / most:.0%}")
        for name, ms in times.items()
    ]
    header = ("", "ms", "GFLOP/s", f"of a float32 matrix product's {most:.0f} GFLOP/s")
    return _markdown(header, lines)


def _kernels(rows: Sequence[Row]) -> str:
    found = _newest_run(rows, "kernels")
    lines = [
        (
            row["operation"],
            row["threads"],
            f"{row['p50_ms']:.2f}",
            row["against"],
            f"{row['against_p50_ms']:.2f}",
            spread_text(row["times_faster"]),
        )
        for row in found
    ]
    header = ("", "threads", "ms", "against", "its ms", "times faster")
    return _markdown(header, lines) + _measured(found[0], "python -m rdx_fast.bench.kernels")


def _overhead(rows: Sequence[Row]) -> str:
    found = _newest(rows, "overhead", "backbone", "precision", "frame")
    lines = [
        (
            row["backbone"],
            row["precision"],
            " x ".join(map(str, row["frame"][:2])),
            _ms(row["detector_p50_ms"]),
            _ms(row["network_p50_ms"]),
            _ms(row["overhead_ms"][1]),
            f"{row['overhead_share'][1]:.1%}",
        )
        for row in found
    ]
    header = ("backbone", "precision", "frame", "Detector ms", "bare network ms", "overhead ms", "")
    return _markdown(header, lines) + _measured(found[0], "python -m rdx_fast.bench.overhead")


def _growth(rows: Sequence[Row]) -> str:
    found = _newest(rows, "growth", "backbone")
    names = list(found[0]["slopes"])
    lines = []
    for row in found:
        one = next(r for r in row["parallel"] if r["detectors"] == 1)
        most = [r for r in row["parallel"] if r["detectors"] == row["parallel"][-1]["detectors"]]
        memory = [f"{r['memory_mb'] / r['detectors']:.0f}" for r in (one, *most)]
        lines.append((row["backbone"], *(row["slopes"][n] for n in names), *memory))
    count = found[0]["parallel"][-1]["detectors"]
    header = (
        "backbone",
        *(f"slope: {n}" for n in names),
        "MB of one Detector",
        f"MB each, {count} in one process",
        f"MB each, {count} processes",
    )
    return _markdown(header, lines) + _measured(found[0], "python -m rdx_fast.bench.growth")


def _soak(rows: Sequence[Row]) -> str:
    found = _newest(rows, "soak", "backbone", "precision")
    lines = []
    for row in found:
        first, last = row["parts"][0], row["parts"][-1]
        lines.append(
            (
                f"{row['backbone']} {row['precision']}",
                f"{row['rate']:g}",
                f"{row['minutes']:g}",
                row["calls"],
                _ms(first["call_ms"]["p50"]),
                _ms(last["call_ms"]["p50"]),
                f"{row['latency_last_to_first']:.3f}",
                f"{first['memory_mb']:.1f}",
                f"{last['memory_mb']:.1f}",
            )
        )
    header = (
        "",
        "frames/s",
        "minutes",
        "calls",
        "p50 ms, first tenth",
        "last tenth",
        "ratio",
        "MB, first tenth",
        "last tenth",
    )
    return _markdown(header, lines) + _measured(found[0], "python -m rdx_fast.bench.soak BUNDLE")


def _accuracy(rows: Sequence[Row]) -> str:
    found = _newest_run(rows, "accuracy")
    names = {
        "image AUROC": "image_auroc",
        "pixel AUROC": "pixel_auroc",
        "AUPRO to 0.3": "aupro",
        "AUPRO, per-image mean": "aupro_per_image_mean",
        "image AP": "image_ap",
        "pixel AP": "pixel_ap",
    }
    lines: list[Sequence[object]] = []
    for label, name in names.items():
        values = [row["figures"][name] for row in found]
        cells = [f"{100 * v:.2f}" for v in values]
        lines.append(
            (
                label,
                *(
                    f"**{c}**" if v == max(values) else c
                    for c, v in zip(cells, values, strict=True)
                ),
            )
        )
    lines.append(("batches of training", *(row["training"]["steps"] for row in found)))
    for figure in found[0]["against_first"]:
        cells = [""]
        for row in found[1:]:
            difference, low, high = (100 * v for v in row["against_first"][figure])
            cells.append(f"{difference:+.2f} ({low:+.2f} to {high:+.2f})")
        lines.append((f"{figure} against the first, 95% interval", *cells))
    header = [""]
    for row in found:
        injection = row["training"]["recipe"]["injection"]
        guided = {"rd4ad": "RD4AD", "rd-expert": f"RD with Expert, {injection}"}
        header.append(guided[row["method"]])
    command = "python -m rdx_fast.bench.accuracy BUNDLE... DATASET --output ROWS"
    return _markdown(header, lines) + _measured(found[0], command)


def _precisions(rows: Sequence[Row], cpu: str) -> str:
    found = _newest_run(rows, "precisions", cpu)
    command = "python -m rdx_fast.bench.precisions BUNDLE... DATASET"
    return _markdown(HEADER, precision_lines(found)) + _measured(found[0], command)


def _instructions(rows: Sequence[Row]) -> str:
    found = _newest_run(rows, "instructions")
    lines = [
        (
            row["backbone"],
            row["instructions"],
            row["executed"],
            _ms(row["p50_ms"]),
            spread_text(row["times_fp32"]),
        )
        for row in found
    ]
    header = ("backbone", "instructions up to", "executed", "network ms", "time relative to fp32")
    command = "python -m rdx_fast.bench.instructions BUNDLE..."
    return _markdown(header, lines) + _measured(found[0], command)


def _registers(rows: Sequence[Row]) -> str:
    lines = [(r.address, r.writer, r.name, r.type, r.meaning) for r in MAP]
    return _markdown(("register", "written by", "name", "type", "meaning"), lines)


def _errors(rows: Sequence[Row]) -> str:
    return _markdown(("code", "name", "meaning"), ERRORS)


def _line(rows: Sequence[Row]) -> str:
    found = _newest(rows, "line", "protocol", "rate")
    names = list(found[0]["ms"])
    lines = []
    for row in found:
        times = ["/".join(_ms(row["ms"][n][p]) for p in ("p50", "p99", "p99.9")) for n in names]
        rate = "as fast as it goes" if row["rate"] is None else f"{row['rate']:g} a second"
        counts = (row["parts"], f"{row['parts_per_s']:.1f}", _told(row))
        lines.append((row["protocol"], rate, *counts, *times))
    measured = (f"{name}, ms" for name in names)
    header = ("protocol", "parts arrive", "parts", "parts/s", "answers", *measured)
    command = "python -m rdx_fast.bench.line demo/cells.rdx"
    return _markdown(header, lines) + _measured(found[0], command)


def _line_faults(rows: Sequence[Row]) -> str:
    found = _newest_run(rows, "line_faults")
    lines = []
    for row in found:
        faults = " and ".join(row["faults"])
        lines.append((faults, _told(row), f"{row['recovered_s']:.2f}"))
    header = ("fault", "parts meanwhile (error codes)", "s from its end to the next OK")
    command = "python -m rdx_fast.bench.line_faults demo/cells.rdx --frames GOOD"
    return _markdown(header, lines) + _measured(found[0], command)


def _told(row: Row) -> str:
    told = ", ".join(f"{count} {name}" for name, count in row["results"].items())
    errors = f" ({', '.join(row['errors'])})" if row.get("errors") else ""
    return told.replace("NONE", "without an answer") + errors


def _line_fuzz(rows: Sequence[Row]) -> str:
    row = _rows_of(rows, "line_fuzz", lambda row: True)[-1]
    header = ("malformed messages", "states published", "rules broken", "inspection after it")
    line = (row["messages"], row["states_published"], len(row["broken"]), row["then"])
    command = "python -m rdx_fast.bench.line_fuzz demo/cells.rdx --frames GOOD"
    return _markdown(header, [line]) + _measured(row, command)


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}" if value < 10 else f"{value:.1f}"


TABLES: dict[str, Callable[[Sequence[Row]], str]] = {
    **{f"peers-{cpu}": partial(_peers, backbone="wide_resnet50_2", cpu=cpu) for cpu in CPUS},
    "peers-VNNI": partial(_peers, backbone="wide_resnet50_2", cpu="VNNI"),
    **{f"peers-resnet18-{cpu}": partial(_peers, backbone="resnet18", cpu=cpu) for cpu in CPUS},
    "peers-resnet18": partial(_peers_by_cpu, backbone="resnet18"),
    **{f"peer-stages-{cpu}": partial(_peer_stages, cpu=cpu) for cpu in CPUS},
    "latency": _latency,
    "bound": _bound,
    "kernels": _kernels,
    "overhead": _overhead,
    "growth": _growth,
    "soak": _soak,
    "accuracy": _accuracy,
    **{f"precisions-{cpu}": partial(_precisions, cpu=cpu) for cpu in CPUS},
    "instructions": _instructions,
    "registers": _registers,
    "errors": _errors,
    "line": _line,
    "line-faults": _line_faults,
    "line-fuzz": _line_fuzz,
}


def main(
    check: Annotated[bool, typer.Option("--check", help="Only say whether they are.")] = False,
) -> None:
    """Write the tables of README and docs anew; run from the checkout."""
    rows = read_rows(RESULTS)
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        if (new := rewritten(text, rows)) != text:
            print(f"{page} is not current" if check else f"{page} written")
            if check:
                raise typer.Exit(1)
            page.write_text(new, encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
