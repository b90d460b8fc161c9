"""The command ``calibrate``: sets the limits of a bundle from images, at the line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rdx_fast.bundle.bundle import open_bundle
from rdx_fast.bundle.history import system_user
from rdx_fast.cli import tables
from rdx_fast.cli.common import (
    Backend,
    BundlePath,
    DarkField,
    Executed,
    SignKey,
    Threads,
    User,
    data,
    notes,
)
from rdx_fast.cli.progress import show_images, show_plan
from rdx_fast.errors import listed
from rdx_fast.images import list_images
from rdx_fast.limits.limits import Limits, rates_of_parts
from rdx_fast.limits.promise import Wish
from rdx_fast.recalibrate import calibrate_bundle


def calibrate(
    bundle: BundlePath,
    good: Annotated[
        Path, typer.Argument(help="Folder of images of good parts that were not trained on.")
    ],
    false_reject: Annotated[
        float, typer.Option(min=1e-6, max=0.999, help="Share of good parts that may be NG.")
    ] = 0.02,
    review: Annotated[
        float | None,
        typer.Option(
            min=1e-6,
            max=0.999,
            help="Share of good parts that may be REVIEW or NG. Default: nothing is REVIEW.",
        ),
    ] = None,
    defective: Annotated[
        Path | None, typer.Option(help="Folder of images of defective parts.")
    ] = None,
    best_f1: Annotated[
        bool, typer.Option("--best-f1", help="One limit, with the best F1 on both folders.")
    ] = False,
    escape_rate: Annotated[
        float | None,
        typer.Option(
            min=1e-6,
            max=0.999,
            help="Share of defective parts that may be OK; what lies between this limit and the "
            "one of --false-reject is REVIEW.",
        ),
    ] = None,
    weaker: Annotated[
        bool,
        typer.Option("--weaker", help="Accept a weaker promise where there are too few images."),
    ] = False,
    dark_field: DarkField = False,
    user: User = None,
    sign_key: SignKey = None,
    backend: Backend = "auto",
    precision: Executed = None,
    threads: Threads = None,
) -> None:
    """Calibrate the limits of a bundle on images of this line. Needs no torch.

    Every precision that the backend runs here is calibrated, or that of --precision.
    """
    if best_f1 and escape_rate is not None:
        raise typer.BadParameter("--best-f1 and --escape-rate are two ways: give one")
    if (best_f1 or escape_rate is not None) and defective is None:
        raise typer.BadParameter("--best-f1 and --escape-rate need --defective FOLDER")
    method = "best-f1" if best_f1 else "conformal" if escape_rate is None else "escape-rate"
    if review is not None and method != "conformal":
        raise typer.BadParameter(
            "--review does not go with --best-f1 or --escape-rate: leave it out"
        )
    if review is not None and review < false_reject:
        raise typer.BadParameter(
            f"--review is {review:g} and --false-reject {false_reject:g}: what is NG counts in "
            f"both, so --review must not be smaller"
        )
    try:
        wish = Wish(false_reject, review, method, escape_rate, weaker)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    with show_plan() as on_progress, show_images("scoring") as on_image:
        found = calibrate_bundle(
            open_bundle(bundle),
            list_images(good),
            wish,
            list_images(defective) if defective is not None else (),
            user=user or system_user(),
            backend=backend,
            sign_key=sign_key,
            precision=precision,
            dark_field=dark_field,
            threads=threads,
            on_progress=on_progress,
            on_image=on_image,
        )
    data.print(tables.limits_table(found.bundle.manifest))
    if found.suspicious:
        notes.print(
            f"warning: good images with scores far above the others': {len(found.suspicious)}; "
            f"look whether they are good, and calibrate again without those that are not:"
            f"{listed(found.suspicious)}",
            markup=False,
        )
    if found.unchanged:
        notes.print(
            f"note: not calibrated, since they were not asked for or run elsewhere (see "
            f"--backend): {', '.join(found.unchanged)}",
            markup=False,
        )
    if weaker_than := _weaker_promises(next(iter(found.limits.values()))):
        notes.print(f"note: {'; '.join(weaker_than)}", markup=False)


def _weaker_promises(limits: tuple[Limits, ...]) -> list[str]:
    """What was asked for and is not promised; it is the same for every execution."""
    ng, ok = ([getattr(of, name) for of in limits] for name in ("ng_above", "ok_below"))
    told = []
    for of, what in ((ng, "false rejects"), *([(ok, "REVIEW or NG")] if ok != ng else [])):
        asked, promised, *_ = rates_of_parts(of)
        if asked is not None and promised is not None and promised > asked * (1 + 1e-9):
            told.append(f"asked for {asked:.3%} {what}, promised {promised:.3%}")
    return told
