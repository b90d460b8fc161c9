"""Commands that use a bundle: ``score``, ``inspect``; and ``doctor``."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from rdx_fast import tables
from rdx_fast.bundle import open_bundle
from rdx_fast.cli.common import Backend, BundlePath, Executed, JsonFlag, Threads, data, notes
from rdx_fast.cli.planning import open_detector
from rdx_fast.scoring import RowWriter, find_files, score_files


def score(
    bundle: BundlePath,
    inputs: Annotated[list[str], typer.Argument(help="Files, folders or patterns.")],
    output: Annotated[Path | None, typer.Option(help="File for the rows, .csv or .jsonl.")] = None,
    json_lines: JsonFlag = False,
    overlays: Annotated[Path | None, typer.Option(help="Folder for heat-map overlays.")] = None,
    backend: Backend = "auto",
    threads: Threads = None,
    precision: Executed = None,
) -> None:
    """Score images: one row each. Exit code 1 if an image could not be scored."""
    if output is not None and output.suffix not in (".csv", ".jsonl"):
        raise typer.BadParameter(f"--output is {output}: rows are written as .csv or .jsonl")
    files = find_files(inputs)
    as_json = json_lines or (output is not None and output.suffix == ".jsonl")
    counts = dict.fromkeys(("OK", "NG", "ERROR"), 0)
    with open_detector(bundle, backend, threads, precision) as detector:
        if output is None:
            stream = sys.stdout
        else:
            output.parent.mkdir(parents=True, exist_ok=True)
            stream = output.open("w", encoding="utf-8", newline="")
        try:
            detector.warmup()
            writer = RowWriter(stream, as_json)
            for row in score_files(detector, files, overlays):
                writer.write(row)
                counts[row.verdict] += 1
                if row.error is not None:
                    notes.print(f"{row.path}: {row.error}", style="red", markup=False)
        finally:
            if output is not None:
                stream.close()
    notes.print(", ".join(f"{count} {verdict}" for verdict, count in counts.items()))
    if counts["ERROR"]:
        raise typer.Exit(1)


def inspect(bundle: BundlePath, as_json: JsonFlag = False) -> None:
    """Verify a bundle and print its manifest."""
    manifest = open_bundle(bundle).manifest
    if as_json:
        print(manifest.to_json(), end="")
    else:
        data.print(tables.manifest_table(manifest))
        data.print(tables.executions_table(manifest))


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
