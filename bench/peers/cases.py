"""What runs beside what: one trained network for every peer, and what is not ours."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors.torch import save_file

from rdx_fast.bench.peers.process import HERE, python_of
from rdx_fast.bundle import Bundle, open_bundle
from rdx_fast.export import export_bundle
from rdx_fast.images import read_image
from rdx_fast.training import Checkpoint, load_checkpoint

# Largest difference of a score from the published pipeline's, relative to the threshold, on frames
# of the network's own size: of the same network, and quantised.
EXACT, INT8 = 1e-3, 0.25
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
    trained: bool = True


def stack_images(paths: list[Path], file: Path) -> Path:
    np.save(file, np.stack([read_image(path) for path in paths]))
    return file


def make_cases(
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
    train = stack_images(good[:FITTED], folder / "train.npy")

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
            EXACT,
        ),
    ]
    for name, kind, network, arguments in (
        ("anomalib RD as shipped", "rd_as_shipped", f"{rd}, narrower bottleneck", (backbone,)),
        ("anomalib EfficientAD", "efficient_ad", "EfficientAD-S", ()),
        ("anomalib PaDiM", "padim", "PaDiM resnet18", (train,)),
    ):
        model = anomalib(kind, *arguments)
        trained = kind == "padim"
        cases.append(
            Case(name, "anomalib", "anomalib", model, network, "fp32", None, trained=trained)
        )
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
    images = [Path(p) for p in checkpoint.held_out] or good[:FITTED]
    export_bundle(checkpoint, images, path, precision=precision)
    return open_bundle(path)
