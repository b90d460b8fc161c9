"""Commands that judge: ``evaluate`` bundles on a test set, and ``protocol`` for methods."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rdx_fast import tables
from rdx_fast.cli.common import (
    BackboneName,
    Backend,
    Device,
    Epochs,
    Executed,
    ImageSize,
    Iterations,
    JsonFlag,
    Minutes,
    Textures,
    Threads,
    Weights,
    data,
    list_given,
    make_recipe,
    need_torch,
)
from rdx_fast.cli.planning import open_detector
from rdx_fast.cli.progress import show_images, show_training
from rdx_fast.datasets import find_dataset

if TYPE_CHECKING:
    from rdx_fast.training import Recipe


class Variant(StrEnum):
    """A method, with its injection where that is not the default one."""

    RD4AD = "rd4ad"
    GUIDED = "rd-expert"
    PLAIN = "rd-expert:plain"
    NONE = "rd-expert:none"


def evaluate(
    bundles: Annotated[list[Path], typer.Argument(help="Engine bundle; several with --compare.")],
    dataset: Annotated[Path, typer.Argument(help="Category folder with a test set.")],
    compare: Annotated[
        bool,
        typer.Option(
            "--compare",
            help="Bundles side by side, each against the first with a paired bootstrap interval.",
        ),
    ] = False,
    as_json: JsonFlag = False,
    backend: Backend = "auto",
    threads: Threads = None,
    precision: Executed = None,
) -> None:
    """Score a test set and print AUROC, AP, best F1 and AUPRO, per defect type and in all."""
    from rdx_fast import evaluation

    if (len(bundles) > 1) != compare:
        raise typer.BadParameter(
            f"{len(bundles)} bundle{'s' if len(bundles) > 1 else ''} given: one is evaluated, two "
            f"or more are compared with --compare (bundles first, then the data set)"
        )
    images = find_dataset(dataset).test()
    scored = []
    for path in bundles:
        with (
            open_detector(path, backend, threads, precision) as detector,
            show_images("scoring") as on_image,
        ):
            scored.append(evaluation.score_set(detector, images, on_image))
    results = [evaluation.evaluate_scored(s, by_type=not compare) for s in scored]
    differences = [d for other in scored[1:] for d in evaluation.compare(scored[0], other)]
    if not compare:
        if as_json:
            print(json.dumps(results[0].to_dict(), indent=2))
        else:
            data.print(tables.evaluation_table(results[0]))
    elif as_json:
        print(json.dumps(tables.comparison_dict(bundles, results, differences), indent=2))
    else:
        data.print(tables.comparison_table(bundles, results))
        data.print(tables.difference_table(differences))


def protocol(
    dataset: Annotated[Path, typer.Argument(help="Category folder with training and test set.")],
    output: Annotated[Path, typer.Argument(help="Folder for runs, bundles and figures.")],
    method: Annotated[
        list[Variant], typer.Option(help="Method, with its injection; once for each.")
    ] = [Variant.RD4AD, Variant.GUIDED],  # noqa: B006 (read by the command line alone)
    seeds: Annotated[int, typer.Option(min=1, help="Runs of each method.")] = 3,
    first_seed: Annotated[int, typer.Option(min=0)] = 111,
    backbone: Annotated[BackboneName, typer.Option()] = "wide_resnet50_2",
    weights: Weights = None,
    textures: Textures = None,
    image_size: ImageSize = (256, 256),
    batch: Annotated[int, typer.Option(min=1)] = 16,
    epochs: Epochs = None,
    iterations: Iterations = None,
    max_minutes: Minutes = None,
    oracle_epoch: Annotated[
        bool,
        typer.Option(
            "--oracle-epoch",
            help="Also give the best epoch, chosen on the test set: a flattering figure.",
        ),
    ] = False,
    device: Device = "auto",
    as_json: JsonFlag = False,
) -> None:
    """Train, export and evaluate methods with several seeds: mean and spread of each figure."""
    need_torch("the protocol")
    from rdx_fast.evaluation.protocol import run_protocol

    recipes: dict[str, Recipe] = {}
    for variant in method:
        name, _, injection = variant.value.partition(":")
        recipes[variant.value] = make_recipe(
            method=name,
            backbone=backbone,
            injection=injection or "guided",
            image_size=image_size,
            batch=batch,
            epochs=epochs,
            iterations=iterations,
        )
    with show_training(max_minutes) as on_step:
        result = run_protocol(
            dataset,
            output,
            recipes,
            range(first_seed, first_seed + seeds),
            weights=weights,
            textures=list_given(textures),
            device=device,
            max_minutes=max_minutes,
            oracle_epoch=oracle_epoch,
            on_stage=on_step.stage,
            on_step=on_step,
        )
    if as_json:
        print(json.dumps(result.to_dict(), indent=2))
    else:
        data.print(tables.protocol_table(result))
        if oracle_epoch:
            data.print(tables.protocol_table(result, oracle=True))
