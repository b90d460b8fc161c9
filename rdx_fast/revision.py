"""Changes of a bundle at the line: recipe, limits, calibration scores. Each enters its history."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rdx_fast.bundle import Bundle, describe_file, open_bundle, replace_manifest
from rdx_fast.calibration import manual_threshold, save_calibration
from rdx_fast.durable import flush, locked
from rdx_fast.errors import BundleError, CalibrationError, RecipeError
from rdx_fast.frame_check import FrameStatistics
from rdx_fast.history import START, Change, read_history
from rdx_fast.limits import Limits
from rdx_fast.manifest import ExecutionSpec
from rdx_fast.manifest_file import parse_manifest
from rdx_fast.recipe import InspectionRecipe, stated
from rdx_fast.regions import map_labels, map_size

_REVISED = ("history-*.jsonl", "calibration-*.npz", "region-*.png")  # files with a revision's name


def bundle_history(bundle: Bundle) -> list[Change]:
    """The history of a bundle, the oldest change first; empty in a bundle of an earlier format.

    Raises:
        BundleError: its chain is broken
    """
    if bundle.manifest.history is None:
        return []
    text = (bundle.path / bundle.manifest.history).read_text(encoding="utf-8")
    return read_history(text, str(bundle.path))


def revise_bundle(
    bundle: Bundle,
    action: str,
    user: str,
    *,
    recipe: InspectionRecipe | None = None,
    masks: Mapping[str, NDArray[np.uint8]] | None = None,
    executions: tuple[ExecutionSpec, ...] | None = None,
    calibration: Mapping[str, NDArray[np.float32]] | None = None,
    frames: FrameStatistics | None = None,
) -> Bundle:
    """Change what a bundle inspects and how it judges. What is None stays as it is.

    New files get new names, and the new manifest takes the old one's place last: whoever opens the
    bundle meanwhile, or after a power failure, finds the old or the new one complete. Files of the
    revision before are kept for those who have just read its manifest.

    Args:
        bundle: as it is on disk
        action: one of ``history.ACTIONS``
        user: who does it
        recipe: what is inspected
        masks: uint8 [H, W], those that ``recipe`` names, by the name of their file
        executions: with their limits
        calibration: scores of good images by execution, see ``save_calibration``
        frames: statistics of good frames

    Raises:
        BundleError: the bundle changed since it was opened, its history is broken or ends with
            other limits, or the new manifest could not be read
        ValueError: what is given does not fit together
    """
    recipe = recipe or bundle.manifest.recipe
    executions = executions or bundle.manifest.executions
    with locked(bundle.path):
        return _revised(bundle, action, user, recipe, masks or {}, executions, calibration, frames)


def _revised(
    bundle: Bundle,
    action: str,
    user: str,
    recipe: InspectionRecipe,
    masks: Mapping[str, NDArray[np.uint8]],
    executions: tuple[ExecutionSpec, ...],
    calibration: Mapping[str, NDArray[np.float32]] | None,
    frames: FrameStatistics | None,
) -> Bundle:
    old, folder = bundle.manifest, bundle.path
    if open_bundle(folder).manifest != old:
        raise BundleError(f"{folder}: the bundle was changed since it was opened: try again")
    changes = verify_bundle(bundle)
    revision = old.revision + 1
    before, after = _facts(old.recipe, old.executions), _facts(recipe, executions)
    # The first entry of a bundle of an earlier format states all.
    differ = [name for name in after if not changes or before.get(name) != after[name]]
    previous = changes[-1].sha256 if changes else START
    changes.append(
        Change.now(
            user,
            action,
            {name: before[name] for name in differ if name in before},
            {name: after[name] for name in differ},
            previous,
        )
    )

    history = f"history-{revision}.jsonl"
    (folder / history).write_text("".join(c.line() for c in changes), encoding="utf-8")
    scores = old.calibration
    if calibration is not None:
        scores = f"calibration-{revision}.npz"
        save_calibration(folder / scores, calibration)
    for name, mask in masks.items():
        if name not in old.files:  # which others may be reading
            Image.fromarray(mask).save(folder / name)
    named = {history, scores, *(region.mask for region in recipe.regions)} - {None}
    replaced = {old.history, old.calibration, *(region.mask for region in old.recipe.regions)}
    files = {name: spec for name, spec in old.files.items() if name not in replaced}
    for name in sorted(map(str, named)):
        flush(folder / name)
        files[name] = describe_file(folder / name)
    manifest = replace(
        old,
        recipe=recipe,
        executions=executions,
        frames=frames or old.frames,
        revision=revision,
        calibration=scores,
        history=history,
        files=files,
    )
    parse_manifest(manifest.to_json(), str(folder))  # what cannot be read takes no place
    replace_manifest(manifest, folder)
    for pattern in _REVISED:
        for file in folder.glob(pattern):
            if file.name not in {*old.files, *files}:
                file.unlink()
    for partial in folder.glob(".manifest.*"):  # of a process that was killed
        shutil.rmtree(partial, ignore_errors=True)
    return open_bundle(folder)


def replace_recipe(
    bundle: Bundle, recipe: InspectionRecipe, masks: Mapping[str, NDArray[np.uint8]], user: str
) -> Bundle:
    """Put another recipe in the place of a bundle's.

    Args:
        bundle: as it is on disk
        recipe: the new one, see ``recipe_file.read_recipe``
        masks: those that it names, by the name of their file
        user: who does it

    Raises:
        RecipeError: the bundle cannot inspect what the recipe says
        BundleError: see ``revise_bundle``
    """
    if recipe.regions:
        network = (bundle.manifest.map.height, bundle.manifest.map.width)
        try:
            map_labels(recipe, map_size(recipe, network), masks.__getitem__)
        except ValueError as error:
            raise RecipeError(f"{bundle.path}: {error}") from error
    return revise_bundle(bundle, "recipe", user, recipe=recipe, masks=masks)


def override_limits(
    bundle: Bundle,
    reason: str,
    *,
    ok_below: float | None = None,
    ng_above: float | None = None,
    region: str | None = None,
    executed: str | None = None,
    user: str,
) -> Bundle:
    """Set limits by hand; what is None stays as it is.

    Args:
        bundle: as it is on disk
        reason: why, for the history
        ok_below: scores up to it are OK
        ng_above: scores above it are NG
        region: whose limits; None for the only region
        executed: of which executed precision; None for the only one
        user: who does it

    Raises:
        CalibrationError: no such region or precision, it is not clear which, the limits are in the
            wrong order, or there is no reason
        RecipeError: the limits are of an earlier recipe
        BundleError: see ``revise_bundle``
    """
    manifest = bundle.manifest
    if ok_below is None and ng_above is None:
        raise CalibrationError("no limit was given: give ok_below, ng_above or both")
    region = _the_one("region", region, manifest.recipe.inspected)
    found = list(dict.fromkeys(e.executed for e in manifest.executions))
    executed = _the_one("precision", executed, found)
    executions = []
    for e in manifest.executions:
        if e.executed != executed:
            executions.append(e)
            continue
        if e.label in manifest.stale_executions():
            raise RecipeError(
                f"{bundle.path}: the recipe was changed after the limits of {e.label} were "
                f"calibrated: calibrate them first (rdx-fast calibrate)"
            )
        try:
            limits = tuple(
                _overridden(of, ok_below, ng_above, reason) if of.region == region else of
                for of in e.limits
            )
        except ValueError as error:
            raise CalibrationError(str(error)) from error
        executions.append(replace(e, limits=limits))
    return revise_bundle(bundle, "override", user, executions=tuple(executions))


def _overridden(
    limits: Limits, ok_below: float | None, ng_above: float | None, reason: str
) -> Limits:
    return Limits(
        limits.region,
        limits.ok_below if ok_below is None else manual_threshold(ok_below, reason),
        limits.ng_above if ng_above is None else manual_threshold(ng_above, reason),
    )


def _the_one(what: str, wanted: str | None, there: Sequence[str]) -> str:
    """What is wanted, or the only one that is there."""
    if wanted is None and len(there) == 1:
        return there[0]
    if wanted in there:
        return str(wanted)
    given = "none is given" if wanted is None else f"{wanted!r} is given"
    raise CalibrationError(f"{given} as {what}, the bundle has {', '.join(there)}: choose one")


def verify_bundle(bundle: Bundle) -> list[Change]:
    """Check that the history's chain is whole, and that it ends with what the bundle is.

    Returns:
        the history, the oldest change first; empty in a bundle of an earlier format

    Raises:
        BundleError: the chain is broken, or recipe or limits are not those that it ends with
    """
    changes = bundle_history(bundle)
    ends_with: dict[str, Any] = {}
    for change in changes:
        ends_with |= change.after
    manifest = bundle.manifest
    present = json.loads(json.dumps(_facts(manifest.recipe, manifest.executions)))
    for name in present if changes else ():
        if stated(ends_with.get(name)) != stated(present[name]):
            raise BundleError(
                f"{bundle.path}: {name} in the manifest are not what the history ends with: they "
                f"were changed without an entry"
            )
    return changes


def exported_history(
    path: Path, user: str, recipe: InspectionRecipe, executions: tuple[ExecutionSpec, ...]
) -> str:
    """The history of a bundle that is exported to ``path``, as the text of its file.

    If a bundle is there, its history goes on. Raises ``BundleError`` if that one is damaged.
    """
    changes: list[Change] = []
    before: dict[str, Any] = {}
    if path.exists():
        replaced = open_bundle(path)
        changes = bundle_history(replaced)
        before = {"created": replaced.manifest.created, "name": replaced.manifest.name}
        before |= _facts(replaced.manifest.recipe, replaced.manifest.executions)
    after = _facts(recipe, executions)
    action = "replace" if before else "export"
    previous = changes[-1].sha256 if changes else START
    changes.append(Change.now(user, action, before, after, previous))
    return "".join(change.line() for change in changes)


def _facts(recipe: InspectionRecipe, executions: tuple[ExecutionSpec, ...]) -> dict[str, Any]:
    """What the history states of a bundle, by name."""
    limits = {f"limits of {e.label}": [asdict(limit) for limit in e.limits] for e in executions}
    return {"recipe": asdict(recipe), **limits}
