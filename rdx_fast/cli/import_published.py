"""The command ``import``: imports checkpoints trained with the authors' code."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rdx_fast.cli.common import (
    BackboneName,
    Crop,
    ImageSize,
    InjectionName,
    Levels,
    MethodName,
    PixelFormat,
    make_recipe,
    need_torch,
    notes,
)


def import_published(
    files: Annotated[
        list[Path],
        typer.Argument(help="Checkpoint, and for rd4ad also the encoder's weights, .pth."),
    ],
    run: Annotated[Path, typer.Argument(help="Run folder to write, for 'export'.")],
    method: Annotated[MethodName, typer.Option(help="Method of the checkpoint.")] = "rd4ad",
    backbone: Annotated[BackboneName, typer.Option(help="Teacher network.")] = "wide_resnet50_2",
    injection: Annotated[
        InjectionName,
        typer.Option(
            help="rd-expert: injection it was trained with; plain in the authors' script."
        ),
    ] = "guided",
    image_size: ImageSize = (256, 256),
    crop: Crop = None,
    pixel_format: PixelFormat = None,
    levels: Levels = None,
) -> None:
    """Import a checkpoint trained with the authors' RD4AD or RD-with-Expert code."""
    training = need_torch("import")
    recipe = make_recipe(
        method=method,
        backbone=backbone,
        injection=injection,
        image_size=image_size,
        crop=crop,
        pixel_format=pixel_format,
        levels=levels,
    )
    training.import_published(recipe, files, run)
    notes.print(f"imported; next:  rdx-fast export {run} part.rdx --good FOLDER")
