"""The command ``doctor``: checks hardware and installation."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from rdx_fast.cli import tables
from rdx_fast.cli.common import JsonFlag, data


def doctor(
    bundle: Annotated[
        Path | None, typer.Argument(help="Also check how this bundle would run here, and why.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Show the hardware, the optional packages and how to install missing ones.

    Exits with code 1 if a bundle was given that does not run here.
    """
    from rdx_fast.doctor import examine

    findings = examine(bundle)
    if as_json:
        print(json.dumps([asdict(f) for f in findings], indent=2))
    else:
        data.print(tables.doctor_table(findings))
    if not all(f.present for f in findings if f.part.startswith("bundle ")):
        raise typer.Exit(1)
