"""Consoles and options that the commands share."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console

from rdx_fast.errors import MissingDependencyError
from rdx_fast.images import list_images
from rdx_fast.kernels.resize_normalize import check_level_range
from rdx_fast.recipe.tiling import TileSpec

if TYPE_CHECKING:
    from rdx_fast.training import Recipe

# Results; in a file or pipe they are not cut to the width of a terminal.
data = Console(width=None if sys.stdout.isatty() else 120)
notes = Console(stderr=True, soft_wrap=True)  # progress and messages

BundlePath = Annotated[Path, typer.Argument(help="Engine bundle, written by 'export'.")]
BackboneName = Literal["resnet18", "resnet34", "resnet50", "wide_resnet50_2", "efficientnet_lite0"]
MethodName = Literal["rd4ad", "rd-expert"]
InjectionName = Literal["guided", "plain", "none"]
PixelFormatName = Literal[
    "rgb", "bgr", "mono", "bayer_rggb", "bayer_bggr", "bayer_grbg", "bayer_gbrg"
]
Backend = Annotated[
    Literal["auto", "openvino", "tensorrt", "torch"],
    typer.Option(help="What runs the network: openvino on the CPU, tensorrt or torch on a GPU."),
]
Executed = Annotated[
    Literal["fp32", "fp16", "bf16", "int8", "fp8"] | None,
    typer.Option(
        "--precision",
        help="Precision to execute. Default: the fastest in the bundle for the processor or GPU "
        "that runs it.",
    ),
]
Crop = Annotated[
    tuple[int, int, int, int] | None,
    typer.Option(
        metavar="TOP LEFT HEIGHT WIDTH",
        help="Use only this part of each image, in pixels. Default: all of it.",
    ),
]
DarkField = Annotated[
    bool,
    typer.Option(
        "--dark-field", help="Good parts are as dark and flat as empty frames of other cameras."
    ),
]
PixelFormat = Annotated[
    PixelFormatName | None,
    typer.Option(help="What the images hold. Default: RGB, or mono for one channel."),
]
User = Annotated[
    str | None,
    typer.Option(help="Who does it, for the bundle's history. Default: the system's user."),
]
SignKey = Annotated[
    Path | None, typer.Option(help="Sign the bundle with this private key, Ed25519 in PEM.")
]


def _checked(levels: tuple[int, int] | None) -> tuple[int, int] | None:
    try:
        return None if levels is None else check_level_range(levels)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


Levels = Annotated[
    tuple[int, int] | None,
    typer.Option(
        metavar="BLACK WHITE",
        callback=_checked,
        help="Grey levels of black and white of images with 16 bits per channel, such as 0 4095 "
        "for 12 bits.",
    ),
]
Tile = Annotated[
    tuple[int, int] | None,
    typer.Option(
        metavar="HEIGHT WIDTH",
        help="Size of the tiles that images are taken apart into, in pixels of the image, each of "
        "which the network sees as a whole. Default: no tiles.",
    ),
]
Overlap = Annotated[
    int, typer.Option(min=0, help="Pixels that neighbouring tiles have in common, at least.")
]
Threads = Annotated[int | None, typer.Option(min=1, help="CPU threads. Default: all.")]
JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Minutes = Annotated[
    float | None,
    typer.Option(min=0, help="Stop training after so many minutes, preparation included."),
]
Weights = Annotated[
    Path | None,
    typer.Option(help="Teacher weights, .safetensors or .pth. Default: the published ones."),
]
SkipBad = Annotated[
    bool, typer.Option("--skip-bad", help="Leave out images that cannot be used, with their masks.")
]
ImageSize = Annotated[tuple[int, int], typer.Option(help="Height, width of the network's input.")]
Textures = Annotated[
    Path | None,
    typer.Option(
        help="rd-expert: folder of texture images for synthetic anomalies. Default: patches of the "
        "training images."
    ),
]
TextureCuts = Annotated[
    bool,
    typer.Option(
        "--texture-cuts",
        help="rd-expert: cut textures out of their images at random and flip them. As published, "
        "they are shown whole.",
    ),
]
TextureColors = Annotated[
    bool,
    typer.Option(
        "--texture-colors",
        help="rd-expert: shift the colours of textures at random. As published, they stay.",
    ),
]
Foreground = Annotated[
    str | None,
    typer.Option(
        metavar="auto|grabcut|otsu-dark|otsu-bright|none|PATH",
        help="rd-expert: keep synthetic anomalies on the part. auto: segment it by GrabCut, or as "
        "published for MVTec AD's categories; otsu-dark, otsu-bright: by Otsu's threshold, what is "
        "dark or bright is the part; or a path (for a file of such a name: ./auto) to a "
        "mask for all images, white where the part is, or to a folder with a mask of the same name "
        "for each image. See 'preview'.",
    ),
]
Device = Annotated[str, typer.Option(help="Device to train on: auto, cpu, cuda or cuda:N.")]
Epochs = Annotated[
    int | None, typer.Option(min=1, help="Epochs of training. Default: as published.")
]
Iterations = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Batches of training, instead of epochs (rd-expert: 5000 as published, 10000 for "
        "MVTec AD's cable and transistor).",
    ),
]


def need_torch(purpose: str, extra: str = "train") -> ModuleType:
    """Import the training package.

    Args:
        purpose: what needs it, for the message
        extra: the extra of rdx_fast that installs torch

    Raises:
        MissingDependencyError: torch is not installed; the message says how to install it
    """
    try:
        from rdx_fast import training
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise MissingDependencyError("torch", purpose, extra) from error
    return training


def make_recipe(**options: Any) -> Recipe:
    """Make a recipe of command-line options.

    Args:
        options: fields of ``Recipe``

    Raises:
        typer.BadParameter: an option is invalid, or options do not fit together
    """
    from rdx_fast.training import Recipe

    try:
        return Recipe(**options)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def tiles_given(tile: tuple[int, int] | None, overlap: int) -> TileSpec | None:
    """The tiles of the options ``--tile`` and ``--overlap``.

    Raises:
        typer.BadParameter: a value is out of range, or there is an overlap without tiles
    """
    if tile is None:
        if overlap:
            raise typer.BadParameter("--overlap is for tiles: give --tile HEIGHT WIDTH too")
        return None
    try:
        return TileSpec(*tile, overlap)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def category_given(dataset: Path) -> str | None:
    """The category of MVTec AD that a folder holds, see ``mvtec_category``."""
    from rdx_fast.training.published import mvtec_category

    return mvtec_category(dataset)


def foreground_given(option: str | None, category: str | None) -> tuple[str, Path | None]:
    """Tell ways of making foreground masks from masks that are given.

    Args:
        option: value of ``--foreground``
        category: of MVTec AD, for which "auto" is as published

    Returns:
        ``Recipe.foreground``, and the path of the masks.
    """
    if option is None or option == "none":
        return "none", None
    from rdx_fast.training.foreground import SEGMENTATIONS
    from rdx_fast.training.published import published_foreground

    if option == "auto":
        way = published_foreground(category) if category else "grabcut"
        notes.print(f"foreground auto: {way}{f', as published for {category}' if category else ''}")
        return way, None
    return (option, None) if option in SEGMENTATIONS else ("files", Path(option))


def with_length(recipe: Recipe, category: str | None) -> Recipe:
    """The recipe with the published length for a category of MVTec AD, where none is given."""
    found = recipe.at_length_of(category)
    if found != recipe:
        notes.print(f"length: {found.iterations} batches, as published for {category}")
    return found


def list_given(folder: Path | None) -> list[Path]:
    """List the images of an optional folder.

    Args:
        folder: the folder, or None

    Returns:
        Its images, sorted; empty for None.

    Raises:
        DatasetError: the folder is missing or holds no images
    """
    return [] if folder is None else list_images(folder)
