"""Training checkpoints: one file, replaced atomically, read without running code in it."""

from __future__ import annotations

import hashlib
import os
import pickle
import zipfile
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import dacite
import torch
from torch import Tensor

from rdx_fast.durable import sync_directory
from rdx_fast.errors import CheckpointError
from rdx_fast.models import ReverseDistillation, make_network
from rdx_fast.training.recipe import Recipe

FILE = "checkpoint.pt"
_FORMAT = 3


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """State of a run after ``step`` batches.

    Attributes:
        recipe: options of the run
        step: number of batches trained
        steps_per_epoch: batches in an epoch
        network: state dict of teacher, bottleneck and student
        expert: state dict of RD with Expert's frozen expert, empty for RD4AD
        precision: that it was trained in, "fp32", "bf16" or "fp16"
        optimizers: state dict of each term's optimizer
        scaler: state dict of the gradient scaler
        losses: by term, the mean of each finished epoch
        partial_losses: by term, the losses of the batches since the last finished epoch
        images: fingerprint of everything trained on
        image_count: number of training images
        held_out: paths of the images kept for the threshold
        teacher_weights: name of the file with the ImageNet weights
        imported: names of the published files with the network, for a run that was imported
        started_from: ``network_sha256`` of the checkpoint whose weights the run started from; ""
            for one that started from ImageNet's
        inspections: ids of the inspected parts of a line that it, or a checkpoint that it started
            from, was trained on
    """

    recipe: Recipe
    step: int
    steps_per_epoch: int
    network: dict[str, Tensor]
    expert: dict[str, Tensor]
    precision: str
    optimizers: dict[str, dict[str, Any]]
    scaler: dict[str, Any]
    losses: dict[str, list[float]]
    partial_losses: dict[str, list[float]]
    images: str
    image_count: int
    held_out: list[str]
    teacher_weights: str
    imported: list[str] = field(default_factory=list)
    started_from: str = ""
    inspections: list[int] = field(default_factory=list)

    @classmethod
    def of_network(
        cls, recipe: Recipe, network: ReverseDistillation, origin: list[str]
    ) -> Checkpoint:
        """A checkpoint of weights imported from the files ``origin`` instead of trained here."""
        return cls(
            recipe=recipe,
            step=0,
            steps_per_epoch=1,
            network=network.state_dict(),
            expert={},
            precision="fp32",
            optimizers={},
            scaler={},
            losses={},
            partial_losses={},
            images="",
            image_count=0,
            held_out=[],
            teacher_weights=origin[0],
            imported=origin,
        )

    @property
    def epoch(self) -> int:
        """Number of finished epochs."""
        return self.step // self.steps_per_epoch

    @property
    def finished(self) -> bool:
        return self.step >= self.total_steps

    @property
    def total_steps(self) -> int:
        return self.recipe.total_steps(self.steps_per_epoch)

    def network_sha256(self) -> str:
        """SHA-256 over names, types, shapes and values of the network's tensors, hexadecimal."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self.network.items()):
            values = tensor.detach().cpu().contiguous()
            digest.update(f"{name} {values.dtype} {list(values.shape)}\n".encode())
            digest.update(values.numpy().data)
        return digest.hexdigest()

    def build(self) -> ReverseDistillation:
        """The trained network, in evaluation mode."""
        recipe = self.recipe
        network = make_network(recipe.method, recipe.backbone, recipe.injection)
        network.load_state_dict(self.network)
        return network.eval()


def save_checkpoint(checkpoint: Checkpoint, run: Path) -> None:
    """Write ``run/checkpoint.pt`` atomically: if the process dies, the old or the new one is
    intact."""
    content = {f.name: getattr(checkpoint, f.name) for f in fields(checkpoint)}
    content["recipe"] = asdict(checkpoint.recipe)
    content["format"] = _FORMAT
    run.mkdir(parents=True, exist_ok=True)
    partial = run / f"{FILE}.partial"
    with partial.open("wb") as stream:
        torch.save(content, stream)
        stream.flush()
        os.fsync(stream.fileno())
    partial.replace(run / FILE)
    sync_directory(run)


def load_checkpoint(run: Path) -> Checkpoint:
    """Read a checkpoint.

    Args:
        run: folder of the run, or its checkpoint file

    Raises:
        CheckpointError: there is none, or it is damaged or has another format
    """
    path = run / FILE if run.is_dir() else run
    if not path.is_file():
        raise CheckpointError(f"no checkpoint at {path}: give the folder that training wrote")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, zipfile.BadZipFile) as error:
        raise CheckpointError(f"{path} is damaged or not a checkpoint: {error}") from error
    found = content.pop("format", None) if isinstance(content, dict) else None
    if found != _FORMAT:
        raise CheckpointError(
            f"{path} has format {found}, this version reads format {_FORMAT}: train again, or use "
            f"the version that wrote it"
        )
    try:
        content["recipe"] = dacite.from_dict(
            Recipe, content["recipe"], dacite.Config(strict=True, cast=[tuple])
        )
        return Checkpoint(**content)
    except (dacite.DaciteError, ValueError, TypeError, KeyError) as error:
        raise CheckpointError(f"{path} was written by another version: {error}") from error
