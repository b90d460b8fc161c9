"""The command ``doctor``."""

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
        Path | None, typer.Argument(help="Also say what of this bundle runs here, and why.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Say what hardware and which optional parts there are, and how to get the missing ones. Exit
    code 1 if a bundle was given and does not run here."""
    from rdx_fast.doctor import examine

    findings = examine(bundle)
    if as_json:
        print(json.dumps([asdict(f) for f in findings], indent=2))
    else:
        data.print(tables.doctor_table(findings))
    if not all(f.present for f in findings if f.part.startswith("bundle ")):
        raise typer.Exit(1)
