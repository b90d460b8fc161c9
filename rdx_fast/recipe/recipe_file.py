"""Recipes as people write them: a TOML file, with mask images beside it."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import dacite
import numpy as np
from numpy.typing import NDArray

from rdx_fast.errors import ImageError, RecipeError
from rdx_fast.images import read_grey
from rdx_fast.reading import check_keys, in_words, with_tuples
from rdx_fast.recipe.recipe import InspectionRecipe
from rdx_fast.recipe.regions import frame_labels


def read_recipe(path: Path) -> tuple[InspectionRecipe, dict[str, NDArray[np.uint8]]]:
    """Read a recipe and the masks that it names.

    Args:
        path: the TOML file; masks are relative to its folder

    Returns:
        The recipe, and the masks by the names that it uses, uint8 [H, W], 255 inside and 0 outside.

    Raises:
        RecipeError: a file is missing or unreadable, or the recipe is invalid; the message says how
    """
    try:
        given = _read_toml(path)
        check_keys(InspectionRecipe, given)
        recipe = dacite.from_dict(InspectionRecipe, given, dacite.Config(strict=True))
        masks = {
            name: np.where(read_grey(path.parent / name) > 127, 255, 0).astype(np.uint8)
            for region in recipe.regions
            if (name := region.mask) is not None
        }
        if recipe.regions:
            frame_labels(recipe, masks.__getitem__)
    except FileNotFoundError as error:
        raise RecipeError(f"{path}: no such file: give a recipe as a TOML file") from error
    except ImageError as error:
        raise RecipeError(f"{path}: the mask {error}") from error
    except (OSError, ValueError, TypeError, AttributeError, dacite.DaciteError) as error:
        raise RecipeError(f"{path}: {in_words(error)}") from error
    return recipe, masks


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        given: dict[str, Any] = with_tuples(tomllib.loads(path.read_text(encoding="utf-8")))
    except ValueError as error:
        raise ValueError(f"the file is no valid TOML: {error}") from error
    return given
