"""The command ``experiment``: compares methods over several seeds."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rdx_fast.cli import evaluation_tables as tables
from rdx_fast.cli.common import (
    BackboneName,
    Crop,
    Device,
    Epochs,
    Foreground,
    ImageSize,
    Iterations,
    JsonFlag,
    Levels,
    Minutes,
    Overlap,
    PixelFormat,
    SkipBad,
    TextureColors,
    TextureCuts,
    Textures,
    Tile,
    Weights,
    category_given,
    data,
    foreground_given,
    list_given,
    make_recipe,
    need_torch,
    tiles_given,
    with_length,
)
from rdx_fast.cli.progress import show_training

if TYPE_CHECKING:
    from rdx_fast.training import Recipe


NO_ANOMALIES = {"texture_cuts": False, "texture_colors": False, "foreground": "none"}


class MethodVariant(StrEnum):
    """A method, with its injection if that is not the default.

    Attributes:
        RD4AD: method rd4ad
        GUIDED: method rd-expert, injection "guided"
        PLAIN: method rd-expert, injection "plain"
        NONE: method rd-expert, injection "none"
    """

    RD4AD = "rd4ad"
    GUIDED = "rd-expert"
    PLAIN = "rd-expert:plain"
    NONE = "rd-expert:none"


def experiment(
    dataset: Annotated[
        Path, typer.Argument(help="Category folder of a data set, with training and test set.")
    ],
    output: Annotated[Path, typer.Argument(help="Folder for runs, bundles and results.")],
    method: Annotated[
        list[MethodVariant], typer.Option(help="Method, with its injection. Repeat for several.")
    ] = [MethodVariant.RD4AD, MethodVariant.GUIDED],  # noqa: B006 (only read by the command line)
    seeds: Annotated[
        int, typer.Option(min=1, help="Runs of each method, each with its own seed.")
    ] = 3,
    first_seed: Annotated[
        int, typer.Option(min=0, help="First seed; the others count up from it.")
    ] = 111,
    backbone: Annotated[BackboneName, typer.Option(help="Teacher network.")] = "wide_resnet50_2",
    weights: Weights = None,
    textures: Textures = None,
    texture_cuts: TextureCuts = False,
    texture_colors: TextureColors = False,
    foreground: Foreground = None,
    image_size: ImageSize = (256, 256),
    crop: Crop = None,
    pixel_format: PixelFormat = None,
    levels: Levels = None,
    tile: Tile = None,
    overlap: Overlap = 0,
    batch: Annotated[int, typer.Option(min=1, help="Images in a training batch.")] = 16,
    epochs: Epochs = None,
    iterations: Iterations = None,
    max_minutes: Minutes = None,
    oracle_epoch: Annotated[
        bool,
        typer.Option(
            "--oracle-epoch",
            help="Also report the epoch that is best on the test set, which is too optimistic.",
        ),
    ] = False,
    device: Device = "auto",
    skip_bad: SkipBad = False,
    as_json: JsonFlag = False,
) -> None:
    """Train, export and evaluate methods with several seeds; print mean and spread."""
    need_torch("the experiment")
    from rdx_fast.evaluation.experiment import run_experiment

    category = category_given(dataset)
    segmentation, masks = foreground_given(foreground, category)
    anomalies = {
        "texture_cuts": texture_cuts,
        "texture_colors": texture_colors,
        "foreground": segmentation,
    }
    recipes: dict[str, Recipe] = {}
    for variant in method:
        name, _, injection = variant.value.partition(":")
        options = {
            "method": name,
            "backbone": backbone,
            "injection": injection or "guided",
            "image_size": image_size,
            "tiles": tiles_given(tile, overlap),
            "batch": batch,
            "epochs": epochs,
            "iterations": iterations,
            "pixel_format": pixel_format,
            "crop": crop,
            "levels": levels,
        }
        expert = make_recipe(**options).makes_anomalies
        recipe = make_recipe(**options, **(anomalies if expert else {}))
        recipes[variant.value] = with_length(recipe, category)
    given = textures is not None or anomalies != NO_ANOMALIES
    if given and not any(recipe.makes_anomalies for recipe in recipes.values()):
        raise typer.BadParameter(
            "--textures, --texture-cuts, --texture-colors and --foreground are options of "
            "rd-expert, which is not among the methods: leave them out, or add --method rd-expert"
        )
    with show_training(max_minutes) as on_step:
        result = run_experiment(
            dataset,
            output,
            recipes,
            range(first_seed, first_seed + seeds),
            weights=weights,
            textures=list_given(textures),
            foreground=masks,
            device=device,
            max_minutes=max_minutes,
            oracle_epoch=oracle_epoch,
            skip_bad=skip_bad,
            on_stage=on_step.stage,
            on_step=on_step,
        )
    if as_json:
        print(json.dumps(result.to_dict(), indent=2))
    else:
        data.print(tables.experiment_table(result))
        if oracle_epoch:
            data.print(tables.experiment_table(result, oracle=True))
        if result.left_out:
            data.print(tables.left_out_table(result.left_out))
        if left_out := result.left_out_training:
            data.print(tables.left_out_table(left_out, "training images and textures"))
