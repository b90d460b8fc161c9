"""How the frames of a job are read, which must be as the images of its run were."""

from __future__ import annotations

from rdx_fast.bundle.bundle import Bundle
from rdx_fast.preprocess import FrameOptions
from rdx_fast.retraining.confirmed import RetrainError
from rdx_fast.station.config import StationFile
from rdx_fast.station.settings import JobSettings
from rdx_fast.training.checkpoint import Checkpoint

_SAME_FORMATS = {None, "rgb", "mono"}  # None is one of the others


def frame_options(
    station: StationFile, job: int, released: Bundle, start: Checkpoint
) -> FrameOptions:
    """How the job's frames are read. Raises ``RetrainError`` if the run's images are not shown so:
    the network would be trained on parts of another size or place."""
    stated = released.manifest.recipe
    applied = station.station.settings(
        job,
        JobSettings(
            crop=stated.frame.crop,
            pixel_format=stated.frame.pixel_format,
            levels=stated.frame.levels,
        ),
    )
    of_line = FrameOptions(applied.pixel_format, applied.crop, applied.levels, stated.tiles)
    of_run = start.recipe.frame_options
    formats = {of_line.pixel_format, of_run.pixel_format}
    same_format = len(formats) == 1 or formats <= _SAME_FORMATS
    if not same_format or of_line._replace(pixel_format=None) != of_run._replace(pixel_format=None):
        raise RetrainError(
            f"the frames of job {job} are read with {_told(of_line)}, the images of the run with "
            f"{_told(of_run)}: train a run on frames of the line, export it and release that "
            f"bundle first"
        )
    return of_line


def _told(options: FrameOptions) -> str:
    given = {name: value for name, value in options._asdict().items() if value is not None}
    return ", ".join(f"{name} {value}" for name, value in given.items()) or "no options"
