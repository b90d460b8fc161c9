"""rdx_fast and its peers side by side: ``python -m rdx_fast.bench.peers --help``.

Every peer runs in a process and an environment of its own (``bench/peers/setup.sh`` makes them) and
is visited in turn, round after round, so that a drifting machine hurts all alike; ratios are of
visits of one round. All get the same frames and give score and map. Those that run the same trained
network must first give the same scores.
"""

from __future__ import annotations

import subprocess
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table
from safetensors.torch import save_file

from rdx_fast.bench.peers.process import HERE, Peer, python_of
from rdx_fast.bench.records import append, facts, spread, spread_text
from rdx_fast.bundle import Bundle, open_bundle
from rdx_fast.datasets import find_dataset
from rdx_fast.evaluation.metrics import auroc
from rdx_fast.export import export_bundle
from rdx_fast.images import list_images, read_image
from rdx_fast.training import Checkpoint, load_checkpoint

# Largest difference of a score from the published pipeline's, relative to the threshold, on frames
# of the network's own size: of the same network, blurred with another border, and quantised.
EXACT, OTHER_BORDER, INT8 = 1e-3, 3e-2, 0.25
ENVIRONMENTS = Path("bench/peers/environments")
REST_S = 0.02  # until threads of the last one have stopped spinning
VISIT = 3
FITTED = 64  # good images for PaDiM, and for thresholds where a run held none back


class Case(NamedTuple):
    """What a peer is told to run."""

    name: str
    kind: str
    environment: str
    model: Path
    network: str
    precision: str
    same_as: float | None
    """Largest difference from the published pipeline's scores; None for another network."""
    bundle: Bundle | None = None


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
    output: Annotated[Path | None, typer.Option(help="JSON lines to append to.")] = None,
) -> None:
    """Check and time rdx_fast and its peers."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        tests = find_dataset(dataset).test()
        defective = np.array([image.is_defective for image in tests])
        test_frames = _stack([image.path for image in tests], folder / "tests.npy")
        camera_frames = _stack(list_images(frames), folder / "camera.npy")
        good = find_dataset(dataset).train()[:FITTED]
        cases = _cases(run, also or [], good, environments, folder)
        peers = []
        for i, case in enumerate(cases):
            environment = environments / case.environment
            log = folder / f"{i}.log"
            peers.append(Peer(case.name, case.kind, environment, case.model, threads, log))
            stack.callback(peers[-1].close)
        rows = _check(cases, peers, test_frames, defective, folder)
        times, stages = _interleave(peers, camera_frames, rounds)
        height, width = np.load(camera_frames, mmap_mode="r").shape[1:3]
        common = facts("peers", ())
        common |= {"frame": [int(height), int(width), 3], "threads": threads, "rounds": rounds}
        common |= {"dataset": dataset.name, "visit": VISIT}
        common["backbone"] = load_checkpoint(run).recipe.backbone
        for i, (case, peer, row) in enumerate(zip(cases, peers, rows, strict=True)):
            rows[i] = common | _row(case, peer, row, times[i], stages[i])
            for precision in ("int8", "fp32"):
                first = [c.name for c in cases].index(f"rdx_fast {precision}")
                ratio = np.median(times[i], 1) / np.median(times[first], 1)
                rows[i][f"times_rdx_fast_{precision}"] = spread(ratio, 3)
    Console(width=150).print(_table(rows))
    if output is not None:
        append(output, rows)


def _stack(paths: list[Path], file: Path) -> Path:
    np.save(file, np.stack([read_image(path) for path in paths]))
    return file


def _cases(
    run: Path, also: list[Path], good: list[Path], environments: Path, folder: Path
) -> list[Case]:
    """Models of one trained network for every peer, and of what is not ours."""
    checkpoint = load_checkpoint(run)
    backbone = checkpoint.recipe.backbone
    bundles = {p: _bundle(checkpoint, good, folder / f"{p}.rdx", p) for p in ("fp32", "int8")}
    published = folder / "published"
    published.mkdir()
    torch.save(checkpoint.network, published / "network.pt")
    (published / "backbone").write_text(backbone)
    weights = folder / "weights.safetensors"
    save_file({k: v.contiguous() for k, v in checkpoint.network.items()}, weights)
    train = _stack(good, folder / "train.npy")

    def anomalib(kind: str, *arguments: str | Path) -> Path:
        python = python_of(environments / "anomalib")
        command = [python, HERE / "prepare_anomalib.py", kind, folder / kind, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
        if done.returncode:
            raise RuntimeError(f"anomalib's {kind} cannot be exported:\n{done.stderr[-2000:]}")
        return Path(done.stdout.splitlines()[-1])

    rd = f"RD4AD {backbone}"
    fp32, int8 = bundles["fp32"].path, bundles["int8"].path
    cases = [
        Case("published pipeline", "published", "published", published, rd, "fp32", EXACT),
        Case("rdx_fast fp32", "rdx_fast", "rdx_fast", fp32, rd, "fp32", EXACT, bundles["fp32"]),
        Case("rdx_fast int8", "rdx_fast", "rdx_fast", int8, rd, "int8", INT8, bundles["int8"]),
        Case("plain OpenVINO", "openvino", "plain", fp32, rd, "fp32", EXACT),
        Case("plain ONNX Runtime", "onnxruntime", "plain", fp32, rd, "fp32", EXACT),
        Case(
            "anomalib RD",
            "anomalib",
            "anomalib",
            anomalib("rd", weights, backbone),
            rd,
            "fp32",
            OTHER_BORDER,
        ),
    ]
    for name, kind, network, arguments in (
        ("anomalib RD as shipped", "rd_as_shipped", f"{rd}, narrower bottleneck", (backbone,)),
        ("anomalib EfficientAD", "efficient_ad", "EfficientAD-S", ()),
        ("anomalib PaDiM", "padim", "PaDiM resnet18", (train,)),
    ):
        model = anomalib(kind, *arguments)
        cases.append(Case(name, "anomalib", "anomalib", model, network, "fp32", None))
    for i, other in enumerate(also):
        found = load_checkpoint(other)
        for precision in ("fp32", "int8"):
            bundle = _bundle(found, good, folder / f"also{i}_{precision}.rdx", precision)
            network = f"RD4AD {found.recipe.backbone}"
            name = f"rdx_fast {found.recipe.backbone} {precision}"
            cases.append(
                Case(name, "rdx_fast", "rdx_fast", bundle.path, network, precision, None, bundle)
            )
    return cases


def _bundle(checkpoint: Checkpoint, good: list[Path], path: Path, precision: str) -> Bundle:
    images = [Path(p) for p in checkpoint.held_out] or good
    export_bundle(checkpoint, images, path, precision=precision)
    return open_bundle(path)


def _check(
    cases: list[Case],
    peers: list[Peer],
    frames: Path,
    defective: NDArray[np.bool_],
    folder: Path,
) -> list[dict[str, Any]]:
    """What the peers say of the test images; raises ``RuntimeError`` if it makes no sense."""
    default = next(c.bundle for c in cases if c.bundle)
    rows: list[dict[str, Any]] = []
    wanted: Any = None
    verdicts: Any = None
    for case, peer in track(list(zip(cases, peers, strict=True)), "scores", transient=True):
        peer.load(frames)
        scores = np.array(peer.score(list(range(len(defective))))["scores"])
        peer.save_map(folder / "map.npy")
        last = np.load(folder / "map.npy")
        if last.ndim != 2 or not np.isfinite(last).all() or np.ptp(last) == 0:
            raise RuntimeError(f"{peer.name} gives no anomaly map: {last.shape}")
        if not np.isfinite(scores).all() or len(np.unique(scores)) < len(scores) // 2:
            raise RuntimeError(f"{peer.name} gives no scores: {scores}")
        row: dict[str, Any] = {
            "images": len(scores),
            "image_auroc": round(auroc(defective, scores.astype(np.float32)), 4),
        }
        # A bundle has a threshold of its own, from its own scores of held-out good parts.
        threshold = (case.bundle or default).manifest.threshold.value
        judged = scores > threshold
        if not rows:  # the published pipeline comes first
            wanted, verdicts = scores, judged
        if case.same_as is not None:
            difference = np.abs(scores - wanted) / threshold
            row["score_difference"] = round(float(difference.max()), 6)
            row["verdicts_that_differ"] = int((judged != verdicts).sum())
            if difference.max() > case.same_as:
                raise RuntimeError(f"{peer.name} does not score as published: {row}")
        rows.append(row)
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
    case: Case,
    peer: Peer,
    checked: dict[str, Any],
    times: NDArray[np.float64],
    stages: list[dict[str, float]],
) -> dict[str, Any]:
    p50, p90, p99 = np.percentile(times, (50, 90, 99))
    row = {"peer": case.name, "network": case.network, "precision": case.precision, **checked}
    row |= {"p50_ms": round(p50, 3), "p90_ms": round(p90, 3), "p99_ms": round(p99, 3)}
    row |= {"peak_mb": round(peer.peak_mb), "versions": peer.versions}
    if stages[0]:
        row["stages_p50_ms"] = {
            name: round(float(np.median([s[name] for s in stages])), 3) for name in stages[0]
        }
    if case.bundle is not None:
        manifest = case.bundle.manifest
        row["bundle_sha256"] = manifest.files[manifest.network].sha256
    return row


def _table(rows: list[dict[str, Any]]) -> Table:
    first = rows[0]
    size = " x ".join(str(n) for n in first["frame"][:2])
    title = f"{first['cpu']}; {first['threads']} threads; frames {size}; ms"
    table = Table(title=title)
    for column in ("peer", "network", "AUROC", "verdicts differ", "p50", "p90", "p99"):
        table.add_column(column)
    for precision in ("int8", "fp32"):
        table.add_column(f"times rdx_fast {precision}")
    for row in rows:
        differ = row.get("verdicts_that_differ")
        table.add_row(
            row["peer"],
            row["network"],
            f"{100 * row['image_auroc']:.2f}",
            "-" if differ is None else f"{differ} of {row['images']}",
            *(f"{row[f'{p}_ms']:.1f}" for p in ("p50", "p90", "p99")),
            *(spread_text(row[f"times_rdx_fast_{p}"]) for p in ("int8", "fp32")),
        )
    return table


if __name__ == "__main__":
    typer.run(main)
