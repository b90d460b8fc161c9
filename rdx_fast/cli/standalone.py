"""The option ``--standalone`` of ``export``: writes a bundle's inspection as one ONNX file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from rdx_fast.bundle import Bundle
from rdx_fast.cli.common import PixelFormatName, data
from rdx_fast.cli.progress import show_stages
from rdx_fast.errors import MissingDependencyError
from rdx_fast.kernels.resize_normalize import Crop

_PANEL = "Standalone ONNX file"

StandaloneFile = Annotated[
    Path | None,
    typer.Option(
        "--standalone",
        rich_help_panel=_PANEL,
        metavar="FILE.onnx",
        help="Also write the whole inspection as one ONNX file, for controllers without Python.",
    ),
]
FrameSize = Annotated[
    tuple[int, int] | None,
    typer.Option(
        rich_help_panel=_PANEL, metavar="HEIGHT WIDTH", help="Size of the frames, in pixels."
    ),
]
FramePixelFormat = Annotated[
    PixelFormatName | None,
    typer.Option(rich_help_panel=_PANEL, help="What the frames hold. Default: rgb."),
]
FrameCrop = Annotated[
    tuple[int, int, int, int] | None,
    typer.Option(
        rich_help_panel=_PANEL,
        metavar="TOP LEFT HEIGHT WIDTH",
        help="Inspect only this part of each frame, in pixels. Default: all of it.",
    ),
]
Levels = Annotated[
    tuple[float, float] | None,
    typer.Option(
        rich_help_panel=_PANEL,
        metavar="BLACK WHITE",
        help="The frames are uint16, and black and white at these grey levels. Default: uint8.",
    ),
]
FrameBatch = Annotated[
    int,
    typer.Option(
        "--batch", rich_help_panel=_PANEL, min=0, help="Frames of a call; 0 for any number."
    ),
]


class StandaloneOptions(NamedTuple):
    """Where and for which frames a standalone file is written, see ``write_standalone``."""

    output: Path
    frame_size: tuple[int, int]
    pixel_format: str
    crop: Crop | None
    levels: tuple[float, float] | None
    precision: str
    batch: int | None


def standalone_options(
    output: Path | None,
    frame_size: tuple[int, int] | None,
    pixel_format: str | None,
    crop: Crop | None,
    levels: tuple[float, float] | None,
    precision: str,
    batch: int,
    overwrite: bool,
) -> StandaloneOptions | None:
    """Check the options as far as that is possible without a bundle.

    Args:
        output: value of ``--standalone``
        frame_size: and the others: values of their options

    Returns:
        The options, None without ``--standalone``.

    Raises:
        typer.BadParameter: options do not fit together
        MissingDependencyError: the package onnx is not installed
        ExportError: the file exists, and ``overwrite`` is false
    """
    if output is None:
        given = {
            "--frame-size": frame_size,
            "--pixel-format": pixel_format,
            "--crop": crop,
            "--levels": levels,
            "--batch": None if batch == 1 else batch,
        }
        if alone := [name for name, value in given.items() if value is not None]:
            raise typer.BadParameter(f"{', '.join(alone)} is for --standalone: give both")
        return None
    if frame_size is None:
        raise typer.BadParameter(
            "--standalone needs the size of the frames: give --frame-size HEIGHT WIDTH"
        )
    try:
        from rdx_fast.export.standalone import FrameFormat
        from rdx_fast.export.standalone.writer import PRECISIONS, check_output
    except ModuleNotFoundError as error:
        if error.name != "onnx":
            raise
        raise MissingDependencyError("onnx", "--standalone", "standalone") from error
    check_output(output, overwrite)
    precision = "fp32" if precision == "auto" else precision
    if precision not in PRECISIONS:
        raise typer.BadParameter(
            f"--standalone takes --precision {', '.join(PRECISIONS)}: a file cannot ask for "
            f"{precision}"
        )
    pixel_format = pixel_format or "rgb"
    try:
        FrameFormat(*frame_size, pixel_format, crop, levels)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    return StandaloneOptions(
        output, frame_size, pixel_format, crop, levels, precision, batch or None
    )


def write(bundle: Bundle, options: StandaloneOptions, overwrite: bool) -> None:
    """Write the file and say what is in it. Errors are those of ``write_standalone``."""
    from rdx_fast.export.standalone import write_standalone

    output, frame_size, *_ = options
    with show_stages("export", "standalone file"):
        write_standalone(
            bundle,
            output,
            frame_size,
            pixel_format=options.pixel_format,
            crop=options.crop,
            levels=options.levels,
            precision=options.precision,
            batch=options.batch,
            overwrite=overwrite,
        )
    height, width = frame_size
    data.print(
        f"{output}: {output.stat().st_size / 1e6:.1f} MB, {options.precision}, frames of {height} "
        f"x {width} {options.pixel_format}",
        markup=False,
        soft_wrap=True,
    )
