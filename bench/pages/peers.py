"""Tables that compare rdx_fast with its peers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from rdx_fast.bench.pages.rows import (
    CPUS,
    Row,
    markdown,
    measured,
    milliseconds,
    newest,
    newest_run,
)
from rdx_fast.bench.result_rows import spread_text

# Not in the README's table.
_ONLY_IN_FULL = (
    "anomalib RD as shipped",
    "rdx_fast efficientnet_lite0 fp32",
    "rdx_fast efficientnet_lite0 bf16",
)


def _peers(rows: Sequence[Row], backbone: str, cpu: str) -> str:
    found = newest_run(rows, "peers", cpu, backbone=backbone)
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
        "verdicts differing from the published pipeline",
    )
    return markdown(header, lines) + measured(found[0], _peers_command(found))


def _peers_by_cpu(rows: Sequence[Row], backbone: str, short: bool = False) -> str:
    """What each peer executes, how long it takes, and how much longer than ours in int8.
    ``short``: without the column of networks and the rows ``_ONLY_IN_FULL``."""
    runs = {cpu: newest_run(rows, "peers", cpu, backbone=backbone) for cpu in CPUS}
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
                cells += [row["executed"], milliseconds(row["p50_ms"]), times]
            else:
                cells += ["-"] * 3
        if not short:
            lines.append((*names, *cells))
        elif names[0] not in _ONLY_IN_FULL:
            lines.append((names[0], *cells))
    columns = ("executed", "p50 ms", "relative to rdx_fast int8")
    first = ("",) if short else ("", "network")
    header = (*first, *(f"{c}, {cpu}" for cpu in CPUS for c in columns))
    captions = (measured(run[0], _peers_command(run)) for run in runs.values())
    return markdown(header, lines) + "".join(captions)


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
        for row in newest_run(rows, "peers", cpu, backbone="wide_resnet50_2")
        if "stages_p50_ms" in row
    ]
    lines = [
        (row["peer"], *(milliseconds(row["stages_p50_ms"].get(name)) for name in names))
        for row in found
    ]
    return markdown(("", *(f"{n} ms" for n in names)), lines)


def _bound(rows: Sequence[Row]) -> str:
    """The network's rate, and what it would be at seven times the published speed."""
    run = newest_run(rows, "peers", "AVX2", backbone="wide_resnet50_2")
    peers = {row["peer"]: row["p50_ms"] for row in run}
    limits = next(
        row["limits"]
        for row in newest(rows, "bench", "backbone", "precision", cpu=run[0]["cpu"])
        if (row["backbone"], row["precision"]) == ("wide_resnet50_2", "fp32")
    )
    most, work = limits["matrix_product_gflops"], limits["network_gflop"]
    published = "published pipeline"
    names = (published, *(f"rdx_fast {p}" for p in ("fp32", "bf16", "int8")))
    times = {name: peers[name] for name in names if name in peers}
    times["seven times faster than the published pipeline"] = peers[published] / 7
    lines = [
        (name, milliseconds(ms), f"{1e3 * work / ms:.0f}", f"{1e3 * work / ms / most:.0%}")
        for name, ms in times.items()
    ]
    header = ("", "ms", "GFLOP/s", f"share of a float32 matrix product ({most:.0f} GFLOP/s)")
    return markdown(header, lines)


TABLES: dict[str, Callable[[Sequence[Row]], str]] = {
    **{f"peers-{cpu}": partial(_peers, backbone="wide_resnet50_2", cpu=cpu) for cpu in CPUS},
    "peers-VNNI": partial(_peers, backbone="wide_resnet50_2", cpu="VNNI"),
    **{f"peers-resnet18-{cpu}": partial(_peers, backbone="resnet18", cpu=cpu) for cpu in CPUS},
    "peers-resnet18": partial(_peers_by_cpu, backbone="resnet18"),
    "peers-short": partial(_peers_by_cpu, backbone="resnet18", short=True),
    **{f"peer-stages-{cpu}": partial(_peer_stages, cpu=cpu) for cpu in CPUS},
    "bound": _bound,
}
