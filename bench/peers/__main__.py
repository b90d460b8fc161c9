"""rdx_fast and its peers side by side: ``python -m rdx_fast.bench.peers --help``.

Every peer runs in a process and an environment of its own (``bench/peers/setup.sh`` makes them) and
is visited in turn, round after round, so that a drifting machine hurts all alike; ratios are of
visits of one round. All get the same frames and give score and map, and say in what precision they
execute their network: what a user gets of OpenVINO and anomalib without asking is bfloat16 on CPUs
that have it. First they score a test set, see ``agreement``.
"""

from __future__ import annotations

import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table

from rdx_fast.bench.peers.agreement import Scored, agreement
from rdx_fast.bench.peers.cases import PRECISIONS, Case, make_cases, stack_images
from rdx_fast.bench.peers.process import Peer
from rdx_fast.bench.result_rows import append, facts, spread, spread_text
from rdx_fast.datasets import find_dataset
from rdx_fast.images import list_images
from rdx_fast.training import load_checkpoint

ENVIRONMENTS = Path("bench/peers/environments")
REST_S = 0.02  # until threads of the last one have stopped spinning
VISIT = 3


def main(
    run: Annotated[Path, typer.Argument(help="RD4AD checkpoint of a ResNet, for all peers.")],
    dataset: Annotated[Path, typer.Option(help="Category with good and defective test images.")],
    frames: Annotated[Path, typer.Option(help="Folder of camera frames to time with.")],
    also: Annotated[
        list[Path] | None, typer.Option(help="Other checkpoints, for rdx_fast.")
    ] = None,
    environments: Annotated[Path, typer.Option(help="What setup.sh made.")] = ENVIRONMENTS,
    rounds: Annotated[int, typer.Option(min=3)] = 30,
    threads: Annotated[int, typer.Option(min=1)] = 2,
    timed_only: Annotated[
        bool,
        typer.Option("--timed-only", help="Export bf16 and int8 whatever their check says."),
    ] = False,
    output: Annotated[Path | None, typer.Option(help="JSON lines to append to.")] = None,
) -> None:
    """Check and time rdx_fast and its peers."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        found = find_dataset(dataset)
        tests = found.test()
        defective = np.array([image.is_defective for image in tests])
        test_frames = stack_images([image.path for image in tests], folder / "tests.npy")
        camera_frames = stack_images(list_images(frames), folder / "camera.npy")
        cases = make_cases(run, also or [], found.train(), environments, folder, timed_only)
        peers = []
        for i, case in enumerate(cases):
            environment = environments / case.environment
            log = folder / f"{i}.log"
            how = (threads, log, case.precision)
            peer = Peer(case.name, case.kind, environment, case.model, *how)
            peers.append(peer)
            stack.callback(peer.close)
        rows = _check(cases, peers, test_frames, defective, folder)
        times, stages = _interleave(peers, camera_frames, rounds)
        common = facts("peers", ()) | {
            "backbone": load_checkpoint(run).recipe.backbone,
            "dataset": dataset.name,
            "frame": list(np.load(camera_frames, mmap_mode="r").shape[1:]),
            "threads": threads,
            "rounds": rounds,
            "timed_only": timed_only,
            "visit": VISIT,
        }
        visits = np.median(times, axis=2)
        names = [case.name for case in cases]
        ours = {p: names.index(n) for p in PRECISIONS if (n := f"rdx_fast {p}") in names}
        for i, (case, peer) in enumerate(zip(cases, peers, strict=True)):
            rows[i] = common | rows[i] | _row(case, peer, times[i], stages[i])
            for precision, first in ours.items():
                rows[i][f"times_rdx_fast_{precision}"] = spread(visits[i] / visits[first], 3)
    Console(width=150).print(_table(rows))
    if output is not None:
        append(output, rows)


def _check(
    cases: list[Case],
    peers: list[Peer],
    frames: Path,
    defective: NDArray[np.bool_],
    folder: Path,
) -> list[dict[str, Any]]:
    """What the peers say of the test images; raises ``RuntimeError`` if it makes no sense.

    Ours are judged by the threshold of what they execute; those that have none of their own by the
    threshold of ours in float32.
    """
    default = next(case.execution for case in cases if case.execution)
    rows: list[dict[str, Any]] = []
    published: Scored | None = None
    for case, peer in track(list(zip(cases, peers, strict=True)), "scores", transient=True):
        peer.load(frames)
        scores = np.array(peer.score(list(range(len(defective))))["scores"])
        peer.save_map(folder / "map.npy")
        last = np.load(folder / "map.npy")
        if last.ndim != 2 or not np.isfinite(last).all() or np.ptp(last) == 0:
            raise RuntimeError(f"{peer.name} gives no anomaly map: {last.shape}")
        threshold = (case.execution or default).threshold.value
        scored = Scored(peer.name, peer.executed, scores, threshold)
        published = published or scored  # it comes first
        of_same = published if case.same else None
        rows.append(agreement(scored, of_same, defective, case.largest, case.trained))
    return rows


def _interleave(
    peers: list[Peer], frames: Path, rounds: int
) -> tuple[NDArray[np.float64], list[list[dict[str, float]]]]:
    """Milliseconds ``[peer, round, call of a visit]``, and stages as each peer tells them."""
    count = len(np.load(frames, mmap_mode="r"))
    times = np.empty((len(peers), rounds, VISIT))
    stages: list[list[dict[str, float]]] = [[] for _ in peers]
    for peer in peers:
        peer.load(frames)
        peer.score([0, 1, 2])
    for number in track(range(rounds), "rounds", transient=True):
        indices = [(number + i) % count for i in range(VISIT + 1)]
        for step in range(len(peers)):
            i = (step + number) % len(peers)
            time.sleep(REST_S)
            answer = peers[i].score(indices)
            times[i, number] = answer["ms"][1:]  # the first finds the caches full of others' data
            stages[i] += answer["stages"][1:]
    return times, stages


def _row(
    case: Case, peer: Peer, times: NDArray[np.float64], stages: list[dict[str, float]]
) -> dict[str, Any]:
    p50, p90, p99 = np.percentile(times, (50, 90, 99))
    row: dict[str, Any] = {
        "peer": case.name,
        "network": case.network,
        "executed": peer.executed,
        "trained": case.trained,
    }
    row |= {"p50_ms": round(p50, 3), "p90_ms": round(p90, 3), "p99_ms": round(p99, 3)}
    row |= {"peak_mb": round(peer.peak_mb), "versions": peer.versions}
    if stages[0]:
        row["stages_p50_ms"] = {
            name: round(float(np.median([s[name] for s in stages])), 3) for name in stages[0]
        }
    if case.bundle is not None and case.execution is not None:
        manifest, stored = case.bundle.manifest, case.execution.stored
        row["stored"] = stored
        row["bundle_sha256"] = manifest.files[manifest.networks[stored]].sha256
    return row


def _table(rows: list[dict[str, Any]]) -> Table:
    first = rows[0]
    size = " x ".join(str(n) for n in first["frame"][:2])
    cpu = ", ".join((first["cpu"], *first["cpu_features"]))
    table = Table(title=f"{cpu}; {first['threads']} threads; frames {size}; ms")
    for column in ("peer", "network", "executed", "AUROC", "verdicts differ", "p50", "p90", "p99"):
        table.add_column(column)
    ours = [p for p in PRECISIONS if f"times_rdx_fast_{p}" in first]
    for precision in ours:
        table.add_column(f"time relative to rdx_fast {precision}")
    for row in rows:
        differ = row.get("verdicts_that_differ")
        table.add_row(
            row["peer"],
            row["network"],
            row["executed"],
            f"{100 * row['image_auroc']:.2f}" if row["trained"] else "untrained",
            "-" if differ is None else f"{differ} of {row['images']}",
            *(f"{row[f'{p}_ms']:.1f}" for p in ("p50", "p90", "p99")),
            *(spread_text(row[f"times_rdx_fast_{p}"]) for p in ours),
        )
    return table


if __name__ == "__main__":
    typer.run(main)
