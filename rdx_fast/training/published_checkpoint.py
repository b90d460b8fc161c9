"""Import of checkpoints trained with the published implementations, as runs for ``export``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rdx_fast.errors import CheckpointError, WeightsError
from rdx_fast.models import from_published
from rdx_fast.models.weights import is_state, read_file
from rdx_fast.training.checkpoint import FILE, Checkpoint, save_checkpoint
from rdx_fast.training.recipe import Recipe

# Parts that may be the only content of a file, by the prefix of its keys.
_BARE = {"conv1.": "encoder", "encoder.": "teacher"}


def import_published(recipe: Recipe, files: Sequence[Path], run: Path) -> Checkpoint:
    """Write ``run/checkpoint.pt`` from published files and return it.

    Args:
        recipe: only its method, backbone, injection and image size matter, and how it reads images
        files: torch files in any order; for RD4AD of ``{"bn": ..., "decoder": ...}`` and a
            torchvision encoder, for RD with Expert of ``{"teacher": ..., "student": ...}``. No code
            in them is run
        run: folder to write to

    Raises:
        WeightsError: a file cannot be read, or keys do not fit
        CheckpointError: ``run`` already contains a run
    """
    if (run / FILE).exists():
        raise CheckpointError(f"{run} already contains a run: choose another folder")
    parts: dict[str, Any] = {}
    for path in files:
        for part, state in _parts(path).items():
            if part in parts:
                raise WeightsError(
                    f"{path} contains {part}, which another file already contains: give it once"
                )
            parts[part] = state
    network = from_published(
        parts, recipe.method, backbone=recipe.backbone, injection=recipe.injection
    )
    checkpoint = Checkpoint.of_network(recipe, network, [path.name for path in files])
    save_checkpoint(checkpoint, run)
    return checkpoint


def _parts(path: Path) -> dict[str, Any]:
    """State dicts in a file, by their published names; other entries are ignored."""
    content = read_file(path)
    if is_state(content) and content:
        first = next(iter(content))
        for beginning, part in _BARE.items():
            if any(key.startswith(beginning) for key in content):
                return {part: content}
        raise WeightsError(
            f"{path} is a state dict whose first key is {first}: wanted an encoder with "
            f"torchvision's names, or a checkpoint of several parts"
        )
    if not isinstance(content, dict):
        raise WeightsError(
            f"{path} contains a {type(content).__name__}: wanted a dict of state dicts"
        )
    found = {part: state for part, state in content.items() if is_state(state) and state}
    if not found:
        names = ", ".join(map(str, content)) or "nothing"
        raise WeightsError(f"{path} contains {names}: wanted state dicts of tensors")
    return found
