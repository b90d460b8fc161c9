"""What the commands share: consoles and options."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console

from rdx_fast.errors import MissingDependencyError
from rdx_fast.images import list_images

if TYPE_CHECKING:
    from rdx_fast.training import Recipe

# What was asked for; in a file or pipe nothing is cut to the width of a terminal that is not there.
data = Console(width=None if sys.stdout.isatty() else 120)
notes = Console(stderr=True, soft_wrap=True)  # progress and messages

BundlePath = Annotated[Path, typer.Argument(help="Engine bundle, as 'export' wrote it.")]
BackboneName = Literal["resnet18", "resnet34", "resnet50", "wide_resnet50_2", "efficientnet_lite0"]
MethodName = Literal["rd4ad", "rd-expert"]
InjectionName = Literal["guided", "plain", "none"]
Backend = Annotated[
    Literal["auto", "openvino", "tensorrt", "torch"],
    typer.Option(help="What runs the network: openvino on the CPU, the others on a GPU."),
]
Executed = Annotated[
    Literal["fp32", "fp16", "bf16", "int8"] | None,
    typer.Option(
        "--precision",
        help="What is executed; the fastest of the bundle on this machine if left out.",
    ),
]
Threads = Annotated[int | None, typer.Option(min=1, help="CPU threads; all of them if left out.")]
JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Minutes = Annotated[float | None, typer.Option(min=0, help="Stop training after this long.")]
Weights = Annotated[
    Path | None, typer.Option(help="Teacher weights, .safetensors, .pth; published if left out.")
]
ImageSize = Annotated[tuple[int, int], typer.Option(help="Height, width of the network's input.")]
Textures = Annotated[
    Path | None,
    typer.Option(
        help="rd-expert: folder of pictures that synthetic anomalies are made of; cut from the "
        "training images if left out."
    ),
]
Foreground = Annotated[
    Path | None,
    typer.Option(
        help="rd-expert: mask of where the part is (white), one for all images or a folder with "
        "one of each image's name; anomalies stay inside."
    ),
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
Epochs = Annotated[
    int | None, typer.Option(min=1, help="Length of training; published if left out.")
]
Iterations = Annotated[
    int | None, typer.Option(min=1, help="Length in batches instead (rd-expert: 5000).")
]


def need_torch(purpose: str, extra: str = "train") -> ModuleType:
    """The training package, or an error that says how to get torch."""
    try:
        from rdx_fast import training
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise MissingDependencyError("torch", purpose, extra) from error
    return training


def make_recipe(**options: Any) -> Recipe:
    """The recipe of these options, or an error of the command line where they do not agree."""
    from rdx_fast.training import Recipe

    try:
        return Recipe(**options)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def list_given(folder: Path | None) -> list[Path]:
    """The images of a folder that may have been left out."""
    return [] if folder is None else list_images(folder)
