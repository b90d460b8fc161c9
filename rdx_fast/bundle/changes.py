"""Changes that an engineer makes at the line: another recipe, limits set by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rdx_fast.bundle.bundle import Bundle
from rdx_fast.bundle.revision import revise_bundle
from rdx_fast.errors import CalibrationError, RecipeError
from rdx_fast.limits.calibration import manual_threshold
from rdx_fast.limits.limits import Limits
from rdx_fast.recipe.recipe import InspectionRecipe
from rdx_fast.recipe.regions import map_labels, map_size


def replace_recipe(
    bundle: Bundle,
    recipe: InspectionRecipe,
    masks: Mapping[str, NDArray[np.uint8]],
    user: str,
    sign_key: Path | None = None,
) -> Bundle:
    """Put another recipe in the place of a bundle's.

    Args:
        bundle: as it is on disk
        recipe: the new one, see ``recipe_file.read_recipe``
        masks: uint8 [H, W], by the names that ``recipe`` uses. In the bundle they are named after
            their pixels; those that are there already need not be given
        user: who does it
        sign_key: see ``revise_bundle``

    Raises:
        RecipeError: the bundle cannot inspect what the recipe says, or a mask is missing
        BundleError: see ``revise_bundle``
    """

    check_recipe(bundle, recipe, masks)
    return revise_bundle(bundle, "recipe", user, recipe=recipe, masks=masks, sign_key=sign_key)


def check_recipe(
    bundle: Bundle, recipe: InspectionRecipe, masks: Mapping[str, NDArray[np.uint8]]
) -> None:
    """Check that a bundle can inspect what a recipe says. Arguments: see ``replace_recipe``.

    Raises:
        RecipeError: it cannot, or a mask is missing
        BundleError: a mask of the bundle cannot be read
    """

    def mask_named(name: str) -> NDArray[np.uint8]:
        if name in masks:
            return masks[name]
        if name in bundle.manifest.files:
            return bundle.mask(name)
        raise ValueError(f"the mask {name} was not given, and the bundle has none of this name")

    if recipe.regions:
        network = (bundle.manifest.map.height, bundle.manifest.map.width)
        try:
            map_labels(recipe, map_size(recipe, network), mask_named)
        except ValueError as error:
            raise RecipeError(f"{bundle.path}: {error}") from error


def override_limits(
    bundle: Bundle,
    reason: str,
    *,
    ok_below: float | None = None,
    ng_above: float | None = None,
    region: str | None = None,
    executed: str | None = None,
    user: str,
    sign_key: Path | None = None,
) -> Bundle:
    """Set limits by hand; what is None stays as it is.

    Executions whose limits are of an earlier recipe stay as they are, since they hold for none.

    Args:
        bundle: as it is on disk
        reason: why, for the history
        ok_below: scores up to it are OK
        ng_above: scores above it are NG
        region: whose limits; None for the only region
        executed: of which executed precision; None for the only one
        user: who does it
        sign_key: see ``revise_bundle``

    Raises:
        CalibrationError: no such region or precision, it is not clear which, the limits are in the
            wrong order, or there is no reason
        RecipeError: all limits of the precision are of an earlier recipe
        BundleError: see ``revise_bundle``
    """
    manifest = bundle.manifest
    if ok_below is None and ng_above is None:
        raise CalibrationError("no limit was given: give ok_below, ng_above or both")
    region = _the_one("region", "region=..., --region", region, manifest.recipe.inspected)
    found = list(dict.fromkeys(e.executed for e in manifest.executions))
    executed = _the_one("precision", "executed=..., --precision", executed, found)
    stale = manifest.stale_executions()
    labels = [e.label for e in manifest.executions if e.executed == executed]
    if set(labels) <= set(stale):
        raise RecipeError(
            f"{bundle.path}: the recipe was changed after the limits of {', '.join(labels)} were "
            f"calibrated: calibrate them first (rdx-fast calibrate)"
        )
    executions = []
    for e in manifest.executions:
        if e.executed != executed or e.label in stale:
            executions.append(e)
            continue
        try:
            limits = tuple(
                _overridden(of, ok_below, ng_above, reason) if of.region == region else of
                for of in e.limits
            )
        except ValueError as error:
            raise CalibrationError(str(error)) from error
        executions.append(replace(e, limits=limits))
    return revise_bundle(bundle, "override", user, executions=tuple(executions), sign_key=sign_key)


def _overridden(
    limits: Limits, ok_below: float | None, ng_above: float | None, reason: str
) -> Limits:
    return Limits(
        limits.region,
        limits.ok_below if ok_below is None else manual_threshold(ok_below, reason),
        limits.ng_above if ng_above is None else manual_threshold(ng_above, reason),
    )


def _the_one(what: str, option: str, wanted: str | None, there: Sequence[str]) -> str:
    """What is wanted, or the only one that is there."""
    if wanted is None and len(there) == 1:
        return there[0]
    if wanted in there:
        return str(wanted)
    given = "none is given" if wanted is None else f"{wanted!r} is given"
    raise CalibrationError(
        f"{given} as {what}, the bundle has {', '.join(there)}: choose one ({option})"
    )
