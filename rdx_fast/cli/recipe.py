"""The command ``recipe``: shows or replaces the inspection recipe of a bundle."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from rdx_fast.bundle.bundle import open_bundle
from rdx_fast.bundle.changes import replace_recipe
from rdx_fast.bundle.history import system_user
from rdx_fast.cli import tables
from rdx_fast.cli.common import BundlePath, JsonFlag, SignKey, User, data, notes
from rdx_fast.recipe.recipe_file import read_recipe
from rdx_fast.recipe.regions import shares_outside_crop


def recipe(
    bundle: BundlePath,
    new: Annotated[
        Path | None,
        typer.Option("--set", help="Recipe to put in the place of the present one, .toml."),
    ] = None,
    user: User = None,
    sign_key: SignKey = None,
    as_json: JsonFlag = False,
) -> None:
    """Show the recipe of a bundle, or replace it.

    After a change of frame, regions or tiles the limits must be calibrated again.
    """
    opened = open_bundle(bundle)
    if new is not None:
        opened = replace_recipe(opened, *read_recipe(new), user or system_user(), sign_key)
    if as_json:
        print(json.dumps(asdict(opened.manifest.recipe), indent=2))
    else:
        data.print(tables.recipe_table(opened.manifest))
    if new is not None:
        for name, share in shares_outside_crop(opened.manifest.recipe, opened.mask).items():
            notes.print(
                f"note: {share:.1%} of region {name!r} lies outside the crop and is not inspected",
                markup=False,
            )
    stale = opened.manifest.stale_executions()
    if stale:
        notes.print(
            f"note: the limits of {', '.join(stale)} were calibrated under another recipe:  "
            f"rdx-fast calibrate {bundle} GOOD",
            markup=False,
        )
