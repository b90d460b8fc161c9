"""The command ``retrain``: makes a candidate of a job's bundle from labelled parts."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from rdx_fast.cli.common import (
    DarkField,
    Device,
    Minutes,
    SignKey,
    User,
    data,
    need_torch,
    notes,
)
from rdx_fast.cli.progress import Lines, show_training
from rdx_fast.limits.promise import Wish
from rdx_fast.station.config import read_station

if TYPE_CHECKING:
    from rdx_fast.retraining.comparison import Compared, Comparison


def retrain(
    job: Annotated[
        int, typer.Argument(help="Id of the job; the configuration has a table retrain.JOB.")
    ],
    station: Annotated[Path, typer.Option(help="The station's configuration, station.toml.")],
    iterations: Annotated[
        int | None, typer.Option(min=1, help="Batches of training. Default: 200.")
    ] = None,
    learning_rate: Annotated[
        float | None,
        typer.Option(
            help="Of student and bottleneck. Default: a fifth of the run's; after a retraining, "
            "that one's."
        ),
    ] = None,
    max_minutes: Minutes = None,
    false_reject: Annotated[
        float | None,
        typer.Option(
            min=1e-6,
            max=0.999,
            help="Share of good parts that may be NG. Default: as the released limits.",
        ),
    ] = None,
    review: Annotated[
        float | None,
        typer.Option(
            min=1e-6, max=0.999, help="With it: share of good parts that may be REVIEW or NG."
        ),
    ] = None,
    dark_field: DarkField = False,
    device: Device = "auto",
    user: User = None,
    sign_key: SignKey = None,
) -> None:
    """Train a job's network further with parts that people said are good, as a candidate.

    Nothing is released: the comparison with the released bundle is printed, and lies in the
    candidate.
    """
    need_torch("retraining")
    from rdx_fast.retraining.retrain import retrain as make_candidate
    from rdx_fast.retraining.watch import Watch

    if review is not None and false_reject is None:
        raise typer.BadParameter("--review goes with --false-reject: give both")
    try:
        wish = None if false_reject is None else Wish(false_reject, review)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    file = read_station(station)
    with Lines() as lines, show_training(max_minutes) as shown:

        def on_stage(stage: str) -> None:
            lines.begin()
            shown.end()
            shown.say(stage)

        version, comparison = make_candidate(
            file,
            job,
            iterations=iterations,
            learning_rate=learning_rate,
            max_minutes=max_minutes,
            device=device,
            wish=wish,
            dark_field=dark_field,
            user=user,
            sign_key=sign_key,
            watch=Watch(
                stage=on_stage,
                step=shown,
                images=lambda what, done, total: lines.step(f"{what}, image", done, total),
                plan=lambda what, done, steps: lines.tell(f"plan: {what}, step {done} of {steps}"),
            ),
        )
    data.print(comparison_table(comparison))
    for note in _told(comparison):
        notes.print(f"note: {note}", markup=False, highlight=False)
    command = ["rdx-fast", "release", str(file.bundles[job]), version.sha256[:12]]
    command += ["--station", str(station)]
    notes.print(
        f"candidate {version.sha256[:12]}: {version.path}; release it on the page, or by "
        f"{shlex.join(command)}",
        markup=False,
        highlight=False,
    )


def comparison_table(found: Comparison) -> Table:
    """The candidate against the released bundle."""
    sets = {
        "frozen set": found.frozen,
        "random sample, in no training": found.sample,
        f"labelled, {len(found.trained_on)} trained on": found.labelled,
    }
    table = Table(
        title="Released bundle -> candidate",
        title_justify="left",
        caption="verdicts by each bundle's own limits; AUROC in percent, with the 95% interval of "
        "the difference by a paired bootstrap over the images. Most labelled parts were labelled "
        "because the released bundle rejected them: they do not tell which bundle is better",
    )
    for column in ("", "image AUROC", "difference", "false rejects", "good to review", "escapes"):
        table.add_column(column)
    for name, of in sets.items():
        if of is not None:
            table.add_row(name, *_row(of))
    return table


def _row(of: Compared) -> tuple[str, ...]:
    auroc, difference = "-", "-"
    if of.auroc is not None:
        a = of.auroc
        auroc = f"{100 * a.old:.2f} -> {100 * a.new:.2f}"
        difference = f"{100 * a.difference:+.2f} ({100 * a.low:+.2f} to {100 * a.high:+.2f})"
    counts = (
        f"{getattr(of.old, name)} -> {getattr(of.new, name)} of {count}"
        for name, count in (
            ("false_rejects", of.good),
            ("good_reviews", of.good),
            ("escapes", of.bad),
        )
    )
    return auroc, difference, *counts


def _told(found: Comparison) -> list[str]:
    """What else is to be known of a candidate."""
    told = list(found.notes)
    if found.sample is None:
        told.append(
            "nothing is known of the random sample: label all its parts, and settle disputed ones"
        )
    elif found.sample.auroc is None:
        told.append("the random sample has too few good or bad parts for an AUROC")
    for parts, what in (
        (found.again_rejected, "confirmed good parts that the candidate does not pass"),
        (found.escaped, "confirmed bad parts that the candidate passes"),
    ):
        if parts:
            named = ", ".join(f"{p.inspection_id} ({p.score:.4g})" for p in parts[:10])
            more = f" and {len(parts) - 10} more" if len(parts) > 10 else ""
            told.append(f"{len(parts)} {what}, by inspection and score: {named}{more}")
    return told
