"""The command line ``rdx-fast``."""

from __future__ import annotations

import sys
from importlib.metadata import version
from typing import Annotated

import typer

from rdx_fast.cli import (
    bench,
    calibrate,
    demo,
    doctor,
    evaluate,
    experiment,
    export,
    hmi,
    import_published,
    info,
    override,
    plan,
    preview,
    recipe,
    records,
    release,
    report,
    retrain,
    score,
    station,
    train,
    verify,
)
from rdx_fast.cli.common import notes
from rdx_fast.errors import RdxError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Visual anomaly detection by reverse distillation, trained on images of good parts only.",
)
for command in (
    train.train,
    export.export,
    plan.plan,
    recipe.recipe,
    calibrate.calibrate,
    override.override,
    verify.verify,
    verify.sign,
    score.score,
    evaluate.evaluate,
    report.report,
    experiment.experiment,
    station.station,
    hmi.hmi,
    records.records,
    retrain.retrain,
    release.release,
    bench.bench,
    info.info,
    doctor.doctor,
    preview.preview,
    demo.demo,
):
    app.command()(command)
app.add_typer(hmi.users_app, name="hmi-user")
app.command("import")(import_published.import_published)
# Former names of commands, kept for one release.
app.command("protocol", hidden=True, deprecated=True)(experiment.experiment)
app.command("inspect", hidden=True, deprecated=True)(info.info)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"rdx_fast {version('rdx_fast')}")
        raise typer.Exit


@app.callback()
def _options(
    _: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    pass


def main() -> None:
    """Entry point. An error of rdx_fast prints one message and exits with code 2."""
    try:
        app()
    except (RdxError, OSError) as error:  # OSError: disk full, no permission
        notes.print(f"error: {error}", style="red", markup=False, highlight=False)
        sys.exit(2)
