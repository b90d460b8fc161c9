"""The checkpoint that a bundle was exported from, among those of a run and its retrainings."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from rdx_fast.bundle.bundle import Bundle
from rdx_fast.errors import CheckpointError
from rdx_fast.training.checkpoint import Checkpoint, load_checkpoint

RETRAINED = "retrained"  # folder in the run's


def origin_of(bundle: Bundle, run: Path) -> tuple[Checkpoint, list[str]]:
    """The checkpoint of the run, or of one of its retrainings, that a bundle was exported from.

    Args:
        bundle: the opened bundle
        run: folder of the run

    Returns:
        the checkpoint, and what is to be told about it

    Raises:
        CheckpointError: none of them is the bundle's
    """
    wanted = bundle.manifest.training.get("network_sha256")
    if wanted is None:
        return _by_facts(bundle, run)
    for folder in [*(run / RETRAINED).glob(f"*-{wanted[:12]}"), run]:
        found = load_checkpoint(folder)
        if found.network_sha256() == wanted:
            return found, []
    raise CheckpointError(
        f"{run} and its retrainings are not what {bundle.path} was exported from: that has the "
        f"network {wanted[:12]}...: name the folder of its run ([retrain.JOB] run), or export a "
        f"bundle from this one and release that first"
    )


def retrained_folder(run: Path, checkpoint: Checkpoint) -> Path:
    """Where the checkpoint of a retraining is kept, so that ``origin_of`` finds it."""
    time = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    return run / RETRAINED / f"{time}-{checkpoint.network_sha256()[:12]}"


def _by_facts(bundle: Bundle, run: Path) -> tuple[Checkpoint, list[str]]:
    """By what earlier versions stated of a training: the same images, steps and losses."""
    found, facts = load_checkpoint(run), bundle.manifest.training
    losses = {term: means[-1] for term, means in found.losses.items() if means}
    own = (found.images, found.step, losses, tuple(found.imported))
    stated = ("images_sha256", "steps", "last_epoch_losses", "imported")
    same = own == tuple(facts.get(name) for name in stated)
    if not same:
        raise CheckpointError(
            f"{run} is not what {bundle.path} was exported from: images, number of batches or "
            f"losses differ. The bundle was exported by an earlier version, which did not state "
            f"whose weights it has: name the folder of its run ([retrain.JOB] run), or export a "
            f"bundle from this one and release that first"
        )
    return found, [
        f"{bundle.path} does not state whose weights it has, since an earlier version exported it: "
        f"{run} is taken for its run, as it has the same images, number of batches and losses"
    ]
