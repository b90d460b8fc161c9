"""The command ``override``: sets limits of a bundle by hand."""

from __future__ import annotations

from typing import Annotated

import typer

from rdx_fast.bundle.bundle import open_bundle
from rdx_fast.bundle.changes import override_limits
from rdx_fast.bundle.history import system_user
from rdx_fast.cli import tables
from rdx_fast.cli.common import BundlePath, Executed, SignKey, User, data, notes


def override(
    bundle: BundlePath,
    reason: Annotated[str, typer.Option(help="Why, for the bundle's history.")],
    ok_below: Annotated[
        float | None, typer.Option(min=0, help="Scores up to it are OK. Default: as it is.")
    ] = None,
    ng_above: Annotated[
        float | None, typer.Option(min=0, help="Scores above it are NG. Default: as it is.")
    ] = None,
    region: Annotated[
        str | None, typer.Option(help="Region of the recipe. Default: the only one.")
    ] = None,
    precision: Executed = None,
    user: User = None,
    sign_key: SignKey = None,
) -> None:
    """Set limits by hand. They promise nothing, and are marked as set by hand.

    Scores differ between precisions, so --precision says whose limits these are, unless the bundle
    has one.
    """
    opened = override_limits(
        open_bundle(bundle),
        reason,
        ok_below=ok_below,
        ng_above=ng_above,
        region=region,
        executed=precision,
        user=user or system_user(),
        sign_key=sign_key,
    )
    data.print(*tables.limits_tables(opened.manifest))
    manifest = opened.manifest
    here = [e.label for e in manifest.executions if precision in (None, e.executed)]
    if left := [label for label in here if label in manifest.stale_executions()]:
        notes.print(
            f"note: left as they are, since their limits are of an earlier recipe: "
            f"{', '.join(left)}",
            markup=False,
        )
