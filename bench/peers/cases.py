"""What runs beside what: one trained network for every peer, ours in every precision that this CPU
has, and what is not ours."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors.torch import save_file

from rdx_fast.bench.generated import TIMED_ONLY
from rdx_fast.bench.peers.agreement import EXACT, OTHER_BORDER
from rdx_fast.bench.peers.process import HERE, python_of
from rdx_fast.bundle.bundle import Bundle, open_bundle
from rdx_fast.bundle.manifest import ExecutionSpec
from rdx_fast.engines.openvino.compilation import capabilities
from rdx_fast.errors import EngineError
from rdx_fast.export import export_bundle
from rdx_fast.export.check import TOLERANCE
from rdx_fast.images import read_image
from rdx_fast.precision import choose
from rdx_fast.training import Checkpoint, load_checkpoint

PRECISIONS = ("fp32", "bf16", "int8")
FITTED = 64  # good images for PaDiM, and for thresholds where a run held none back


class Case(NamedTuple):
    """What a peer is told to run.

    ``same``: whether it is the network that the published pipeline runs. ``bundle``, ``execution``:
    of ours alone, the bundle and what is run of it. ``largest``: difference of a score from
    the published pipeline's, as a share of its threshold, that float32 of the same network may
    have.
    """

    name: str
    kind: str
    environment: str
    model: Path
    network: str
    same: bool
    bundle: Bundle | None = None
    execution: ExecutionSpec | None = None
    trained: bool = True
    largest: float = EXACT

    @property
    def precision(self) -> str | None:
        """What is asked for; None for peers that are taken as they come."""
        return None if self.execution is None else self.execution.executed


def stack_images(paths: list[Path], file: Path) -> Path:
    np.save(file, np.stack([read_image(path) for path in paths]))
    return file


def make_cases(
    run: Path,
    also: list[Path],
    good: list[Path],
    environments: Path,
    folder: Path,
    timed_only: bool = False,
) -> list[Case]:
    """Models of one trained network for every peer, and of what is not ours. The published pipeline
    comes first, rdx_fast in float32 second. ``timed_only``: see ``TIMED_ONLY``."""
    checkpoint = load_checkpoint(run)
    backbone = checkpoint.recipe.backbone
    bundle = _bundle(checkpoint, good, folder / "part.rdx", timed_only)
    published = folder / "published"
    published.mkdir()
    torch.save(checkpoint.network, published / "network.pt")
    (published / "backbone").write_text(backbone)
    weights = folder / "weights.safetensors"
    save_file({k: v.contiguous() for k, v in checkpoint.network.items()}, weights)
    train = stack_images(good[:FITTED], folder / "train.npy")

    def anomalib(kind: str, *arguments: str | Path) -> Path:
        python = python_of(environments / "anomalib")
        command = [python, HERE / "prepare_anomalib.py", kind, folder / kind, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
        if done.returncode:
            raise RuntimeError(f"anomalib's {kind} cannot be exported:\n{done.stderr[-2000:]}")
        return Path(done.stdout.splitlines()[-1])

    rd = f"RD4AD {backbone}"
    rd_model = anomalib("rd", weights, backbone)
    cases = [
        Case("published pipeline", "published", "published", published, rd, True),
        *_ours("rdx_fast", bundle, True),
        Case("plain OpenVINO", "openvino", "plain", bundle.path, rd, True),
        Case("plain ONNX Runtime", "onnxruntime", "plain", bundle.path, rd, True),
        # It smooths with another border than the published code, which shows along the edge.
        Case("anomalib RD", "anomalib", "anomalib", rd_model, rd, True, largest=OTHER_BORDER),
    ]
    for name, kind, network, arguments in (
        ("anomalib RD as shipped", "rd_as_shipped", f"{rd}, narrower bottleneck", (backbone,)),
        ("anomalib EfficientAD", "efficient_ad", "EfficientAD-S", ()),
        ("anomalib PaDiM", "padim", "PaDiM resnet18", (train,)),
    ):
        model = anomalib(kind, *arguments)
        trained = kind == "padim"
        cases.append(Case(name, "anomalib", "anomalib", model, network, False, trained=trained))
    for i, other in enumerate(also):
        found = load_checkpoint(other)
        bundle = _bundle(found, good, folder / f"also{i}.rdx", timed_only)
        cases += _ours(f"rdx_fast {found.recipe.backbone}", bundle, False)
    return cases


def _ours(name: str, bundle: Bundle, same: bool) -> Iterator[Case]:
    """One bundle in every precision that it holds and this CPU has; what is skipped is said."""
    network = f"RD4AD {bundle.manifest.backbone}"
    for precision in PRECISIONS:
        try:
            execution, _ = choose(bundle.manifest, "openvino", capabilities(), precision)
        except EngineError as error:
            if precision == "fp32":
                raise  # what all others are held against
            native = precision.upper() in capabilities()
            print(f"no {name} {precision}: {error if native else 'this CPU does not execute it'}")
            continue
        label = f"{name} {precision}"
        yield Case(label, "rdx_fast", "rdx_fast", bundle.path, network, same, bundle, execution)


def _bundle(checkpoint: Checkpoint, good: list[Path], path: Path, timed_only: bool) -> Bundle:
    images = [Path(p) for p in checkpoint.held_out] or good[:FITTED]
    export_bundle(checkpoint, images, path, tolerance=TIMED_ONLY if timed_only else TOLERANCE)
    return open_bundle(path)
