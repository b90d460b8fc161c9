"""The option ``--standalone`` of ``export``: writes a bundle's inspection as one ONNX file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from rdx_fast.bundle.bundle import Bundle
from rdx_fast.cli.common import PixelFormatName, data
from rdx_fast.cli.progress import show_stages
from rdx_fast.errors import MissingDependencyError
from rdx_fast.kernels.resize_normalize import Crop, Levels
from rdx_fast.recipe.recipe import FrameSpec

if TYPE_CHECKING:
    from rdx_fast.export.standalone import FrameFormat

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
        rich_help_panel=_PANEL,
        metavar="HEIGHT WIDTH",
        help="Size of the frames, in pixels. This and the next three: default, the recipe's.",
    ),
]
FramePixelFormat = Annotated[
    PixelFormatName | None,
    typer.Option(rich_help_panel=_PANEL, help="What the frames hold, else rgb."),
]
FrameCrop = Annotated[
    tuple[int, int, int, int] | None,
    typer.Option(
        rich_help_panel=_PANEL,
        metavar="TOP LEFT HEIGHT WIDTH",
        help="Inspect only this part of each frame, in pixels, else all of it.",
    ),
]
FrameLevels = Annotated[
    tuple[int, int] | None,
    typer.Option(
        rich_help_panel=_PANEL,
        metavar="BLACK WHITE",
        help="The frames are uint16, and black and white at these grey levels, else uint8.",
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
    frame_size: tuple[int, int] | None
    pixel_format: str | None
    crop: Crop | None
    levels: Levels | None
    precision: str
    batch: int | None

    def frame(self, stated: FrameSpec) -> FrameFormat:
        """The frames of a recipe. Raises ``typer.BadParameter`` if the options do not fit it."""
        from rdx_fast.export.standalone import FrameFormat

        try:
            return FrameFormat.of(
                stated, self.frame_size, self.pixel_format, self.crop, self.levels
            )
        except ValueError as error:
            raise typer.BadParameter(str(error)) from error


def standalone_options(
    output: Path | None,
    frame_size: tuple[int, int] | None,
    pixel_format: str | None,
    crop: Crop | None,
    levels: Levels | None,
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
    try:
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
    return StandaloneOptions(
        output, frame_size, pixel_format, crop, levels, precision, batch or None
    )


def check_frame(options: StandaloneOptions | None, stated: FrameSpec) -> None:
    """Raises ``typer.BadParameter`` if options do not fit the recipe that a run's bundle gets."""
    if options is not None:
        options.frame(stated)


def write(bundle: Bundle, options: StandaloneOptions, overwrite: bool) -> None:
    """Write the file and say what is in it.

    Raises ``typer.BadParameter`` if the options do not fit the recipe, and what
    ``write_standalone`` does.
    """
    from rdx_fast.export.standalone import write_standalone

    output, frame = options.output, options.frame(bundle.manifest.recipe.frame)
    with show_stages("export", "standalone file"):
        write_standalone(
            bundle,
            output,
            frame_size=options.frame_size,
            pixel_format=options.pixel_format,
            crop=options.crop,
            levels=options.levels,
            precision=options.precision,
            batch=options.batch,
            overwrite=overwrite,
        )
    data.print(
        f"{output}: {output.stat().st_size / 1e6:.1f} MB, {options.precision}, frames of "
        f"{frame.height} x {frame.width} {frame.pixel_format}",
        markup=False,
        soft_wrap=True,
    )
