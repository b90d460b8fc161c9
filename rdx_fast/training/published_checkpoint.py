"""Checkpoints of the published implementations, taken over as runs that ``export`` understands."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rdx_fast.errors import CheckpointError, WeightsError
from rdx_fast.models import from_published
from rdx_fast.models.weights import is_state, read_file
from rdx_fast.training.checkpoint import FILE, Checkpoint, save_checkpoint
from rdx_fast.training.recipe import Recipe

# Parts that a file may be by itself, by what its keys begin with.
_BARE = {"conv1.": "encoder", "encoder.": "teacher"}


def import_published(recipe: Recipe, files: Sequence[Path], run: Path) -> Checkpoint:
    """Write ``run/checkpoint.pt`` from published files and return it.

    ``files``: torch files of ``{"bn": ..., "decoder": ...}`` and a torchvision encoder for RD4AD,
    of ``{"teacher": ..., "student": ...}`` for RD with Expert, in any order. No code in them is
    run. Of ``recipe``, method, backbone, injection and image size count.

    Raises ``WeightsError`` (unreadable files, keys that do not fit) and ``CheckpointError`` if
    ``run`` holds a run already.
    """
    if (run / FILE).exists():
        raise CheckpointError(f"{run} already holds a run: choose another folder")
    parts: dict[str, Any] = {}
    for path in files:
        for part, state in _parts(path).items():
            if part in parts:
                raise WeightsError(f"{path} gives {part}, which another file gave already")
            parts[part] = state
    network = from_published(
        parts, recipe.method, backbone=recipe.backbone, injection=recipe.injection
    )
    checkpoint = Checkpoint.of_network(recipe, network, [path.name for path in files])
    save_checkpoint(checkpoint, run)
    return checkpoint


def _parts(path: Path) -> dict[str, Any]:
    """State dicts in a file, by their published names; entries of other kinds are passed over."""
    content = read_file(path)
    if is_state(content) and content:
        first = next(iter(content))
        for beginning, part in _BARE.items():
            if any(key.startswith(beginning) for key in content):
                return {part: content}
        raise WeightsError(
            f"{path} is a state dict whose keys begin with {first}: wanted an encoder with "
            f"torchvision's names, or a checkpoint of several parts"
        )
    if not isinstance(content, dict):
        raise WeightsError(f"{path} holds a {type(content).__name__}: wanted a dict of state dicts")
    found = {part: state for part, state in content.items() if is_state(state) and state}
    if not found:
        names = ", ".join(map(str, content)) or "nothing"
        raise WeightsError(f"{path} holds {names}: wanted state dicts of tensors")
    return found
