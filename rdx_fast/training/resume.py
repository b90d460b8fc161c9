"""Whether a run can be resumed: only with the recipe and the images that it began with."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import torch

from rdx_fast.errors import CheckpointError
from rdx_fast.training.checkpoint import FILE, Checkpoint, load_checkpoint
from rdx_fast.training.recipe import Recipe


class OtherRunError(CheckpointError):
    """A run was begun with another recipe, other images or other weights than are given now."""


def previous_run(run: Path, resume: bool) -> Checkpoint | None:
    """The checkpoint in a folder, if there is one.

    Raises:
        CheckpointError: there is one, and it is not to be resumed; it cannot be read; or the folder
            holds other files
    """
    exists = (run / FILE).exists()
    if exists and not resume:
        raise CheckpointError(
            f"{run} already contains a run: resume it (resume=True, --resume), or choose another "
            f"folder"
        )
    if exists:
        return load_checkpoint(run)
    # What is left of a checkpoint that was being written is no reason.
    if others := [p.name for p in run.glob("*") if not p.name.startswith(FILE)]:
        raise CheckpointError(
            f"{run} holds no run but other files ({', '.join(sorted(others)[:3])}): choose a new "
            f"folder"
        )
    return None


def resumed_precision(old: Checkpoint, device: torch.device) -> str:
    """A run goes on in its own precision, which may be another than the machine would choose.

    Raises:
        CheckpointError: the device cannot train in it
    """
    if old.precision == "fp16" and device.type != "cuda":
        raise CheckpointError(
            f"the run was trained in float16, which is trained on a GPU only, and the device is "
            f"{device}: resume it with --device cuda (device='cuda')"
        )
    return old.precision


def check_same_recipe(old: Checkpoint, recipe: Recipe, run: Path) -> None:
    """Only the length of a run may change when it is resumed.

    Raises:
        OtherRunError: something else has changed
        CheckpointError: the run cannot be trained further
    """
    was = asdict(old.recipe)
    now = asdict(replace(recipe, epochs=old.recipe.epochs, iterations=old.recipe.iterations))
    if old.imported:
        raise CheckpointError(
            f"{run} was imported from {', '.join(old.imported)}: it can be exported, but not "
            f"trained further"
        )
    changed = [f"{key}: {was[key]} before, {now[key]} now" for key in was if was[key] != now[key]]
    if changed:
        raise OtherRunError(
            f"{run} was trained with another recipe and cannot be resumed with this one: "
            + "; ".join(changed)
        )


def check_start(start: Checkpoint, recipe: Recipe) -> None:
    """A run may start from the weights of another one that has the same network.

    Raises:
        CheckpointError: the networks differ, or the checkpoint lacks what training needs
    """
    for name in ("method", "backbone", "injection"):
        was, now = getattr(start.recipe, name), getattr(recipe, name)
        if was != now:
            raise CheckpointError(
                f"the checkpoint to start from has {name} {was}, the recipe {now}: give the same"
            )
    if recipe.makes_anomalies and not start.expert:
        raise CheckpointError(
            f"the checkpoint to start from was imported from {', '.join(start.imported)}, and "
            f"lacks the expert that {recipe.method} learns from: start from one that was trained"
        )


def check_same_start(old: Checkpoint, start: Checkpoint, run: Path) -> None:
    """A run goes on from the weights that it started from.

    Raises:
        OtherRunError: it started from others
    """
    if old.started_from != start.network_sha256():
        raise OtherRunError(
            f"{run} cannot be resumed: it did not start from the weights that are given now: "
            f"restore them, or train into another folder"
        )


def check_same_images(old: Checkpoint, fingerprint: str, run: Path) -> None:
    """A run goes on with the images, textures and masks that it began with.

    Raises:
        OtherRunError: they have changed
    """
    if old.images != fingerprint:
        raise OtherRunError(
            f"{run} cannot be resumed: the training images are not the same files, or their "
            f"textures or foreground masks have changed. Restore them, or train into another folder"
        )
