"""Export of a retrained network as the released bundle was exported, with its recipe."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from rdx_fast.bundle.bundle import Bundle
from rdx_fast.bundle.changes import replace_recipe
from rdx_fast.export.check import CONTENTS
from rdx_fast.export.exporter import export_bundle
from rdx_fast.kernels.gpu.library import KERNELS
from rdx_fast.limits.promise import Wish
from rdx_fast.training.checkpoint import Checkpoint


def export_like(
    released: Bundle,
    checkpoint: Checkpoint,
    good: Sequence[Path],
    folder: Path,
    wish: Wish,
    user: str,
    sign_key: Path | None,
    dark_field: bool,
    on_stage: Callable[[str], None],
) -> Bundle:
    """Export a checkpoint into a copy of a released bundle, with its kinds of networks and recipe.

    Args:
        released: the released bundle
        checkpoint: of the candidate
        good: images of good parts that were not trained on
        folder: the copy, see ``versions.new_candidate``
        wish: what the limits of the export are for; they are not those of the recipe's regions
        user: named in the history
        sign_key: file of the private key that signs the bundle; None leaves it unsigned
        dark_field: see ``FrameStatistics.of_files``
        on_stage: called with the name of each stage as it starts

    Raises:
        ExportError: see ``export_bundle``, also for others
        BundleError: the recipe cannot be changed, see ``replace_recipe``
    """
    manifest = released.manifest
    bundle = export_bundle(
        checkpoint,
        good,
        folder,
        precision=_contents(released),
        fusion=manifest.map.fusion,
        sigma=manifest.map.sigma,
        false_reject_rate=wish.false_reject_rate,
        dark_field=dark_field,
        name=manifest.name,
        overwrite=True,
        user=user,
        sign_key=sign_key,
        on_stage=on_stage,
    )
    kernels = released.path / KERNELS  # which are of no network; plans are of the released one
    if kernels.is_dir():
        shutil.copytree(kernels, folder / KERNELS, copy_function=os.link)
    if manifest.recipe == bundle.manifest.recipe:
        return bundle
    masks = {of.mask: released.mask(of.mask) for of in manifest.recipe.regions if of.mask}
    return replace_recipe(bundle, manifest.recipe, masks, user, sign_key)


def _contents(released: Bundle) -> str:
    """The precision that a bundle was exported with, a key of ``CONTENTS``."""
    manifest = released.manifest
    there = {(e.stored, e.executed) for e in manifest.executions}
    there |= {(left.stored, left.executed) for left in manifest.left_out}
    exact = [name for name, which in CONTENTS.items() if set(which) == there]
    return exact[0] if exact else "auto"
