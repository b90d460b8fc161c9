"""From the regions that were drawn on the page to a recipe."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

from rdx_fast.bundle.manifest import Manifest
from rdx_fast.errors import CalibrationError
from rdx_fast.hmi.job_forms import RegionForm, RegionsForm
from rdx_fast.hmi.refusal import Refused
from rdx_fast.images import image_size
from rdx_fast.limits.limits import rates_of_parts
from rdx_fast.limits.promise import Wish, check_promise, images_needed
from rdx_fast.recipe.recipe import InspectionRecipe, RegionSpec


def recipe_with(recipe: InspectionRecipe, form: RegionsForm, image: Path) -> InspectionRecipe:
    """A recipe with other regions.

    Args:
        recipe: the present one
        form: the regions
        image: of a good part, for the size of the frames if the recipe does not state it

    Raises:
        Refused: the regions do not make a recipe; the text says why
        ImageError: the image cannot be read
    """
    frame = recipe.frame
    if frame.size is None:
        height, width = image_size(image)
        frame = replace(frame, height=height, width=width)
    present = {region.name: region for region in recipe.regions}
    try:
        regions = tuple(_region(of, present) for of in form.regions)
        return replace(recipe, frame=frame, regions=regions)
    except ValueError as error:
        raise Refused(400, "regions", str(error)) from None


def calibration_wish(manifest: Manifest, false_reject: float) -> Wish:
    """What the limits are for: as many false rejects as asked for, and as much REVIEW as the
    present limits were made for."""
    review = max(
        (rates_of_parts([of.ok_below for of in e.limits]).false_reject_rate or 0.0)
        for e in manifest.executions
    )
    return Wish(false_reject, review if review > false_reject else None)


def check_images(good: int, wish: Wish, regions: int) -> None:
    """Raises ``Refused`` if so many good images cannot promise what is wanted."""
    try:
        check_promise(good, wish, regions)
    except CalibrationError:
        best = math.ceil(1e4 * regions / (good + 1)) / 1e4  # not less than can be promised
        needed = images_needed(wish, regions)
        text = (
            f"the folder of calibration images has {good}, which promise a share of false rejects "
            f"of {best:g} at best: enter that, or put {needed} images into the folder"
        )
        facts: dict[str, str | int] = {"good": good, "best": f"{best:g}", "needed": needed}
        raise Refused(409, "promise", text, facts=facts) from None


def _region(form: RegionForm, present: dict[str, RegionSpec]) -> RegionSpec:
    if not form.keep:
        return RegionSpec(form.name, form.kind, form.polygon)
    if form.name not in present:
        raise ValueError(
            f"region {form.name!r} is to be kept, and the recipe has none of this name"
        )
    return replace(present[form.name], kind=form.kind)
