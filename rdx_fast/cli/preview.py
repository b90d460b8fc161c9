"""The command ``preview``: shows synthetic anomalies before training with them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rdx_fast.cli.common import (
    Crop,
    Foreground,
    ImageSize,
    Levels,
    Overlap,
    PixelFormat,
    TextureColors,
    TextureCuts,
    Textures,
    Tile,
    category_given,
    foreground_given,
    list_given,
    make_recipe,
    need_torch,
    notes,
    tiles_given,
)
from rdx_fast.datasets import find_dataset
from rdx_fast.errors import listed


def preview(
    good: Annotated[Path, typer.Argument(help="Folder of images of good parts.")],
    picture: Annotated[Path, typer.Argument(help="Image file to write, .png.")],
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
    count: Annotated[int, typer.Option(min=1, help="Number of parts to show.")] = 8,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the anomalies.")] = 0,
) -> None:
    """Write an image of the synthetic anomalies that rd-expert is trained with."""
    need_torch("the preview")
    from rdx_fast.training.contact_sheet import save_contact_sheet

    segmentation, masks = foreground_given(foreground, category_given(good))
    recipe = make_recipe(
        method="rd-expert",
        image_size=image_size,
        seed=seed,
        texture_cuts=texture_cuts,
        texture_colors=texture_colors,
        foreground=segmentation,
        pixel_format=pixel_format,
        crop=crop,
        levels=levels,
        tiles=tiles_given(tile, overlap),
    )
    parts = find_dataset(good).train()
    shown = save_contact_sheet(picture, recipe, parts, list_given(textures), masks, count)
    outline = "" if segmentation == "none" else " with the outline of its foreground"
    notes.print(
        f"wrote {picture}, {len(set(shown.paths))} of {len(parts)} images (--count): good part"
        f"{outline}, synthetic anomaly, mask"
    )
    if shown.faults:
        notes.print(
            f"the foregrounds with a red border cannot be trained with ({shown.remedy}):"
            f"{listed(shown.told(), len(shown.faults))}"
        )
