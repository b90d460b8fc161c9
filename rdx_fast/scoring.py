"""Scores many files with one Detector and writes one row for each, also on errors."""

from __future__ import annotations

import csv
import glob
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TextIO

from rdx_fast.defects import Defect
from rdx_fast.detector import Detector
from rdx_fast.errors import ImageError
from rdx_fast.images import list_images, read_image
from rdx_fast.kernels.resize_normalize import Crop, Levels
from rdx_fast.overlay import save_overlay
from rdx_fast.preprocess import FrameOptions


@dataclass(frozen=True, slots=True)
class Row:
    """The result of one file.

    Attributes:
        path: the file
        verdict: "OK", "REVIEW", "NG" or "ERROR"; a file that was not inspected is never OK
        score: anomaly score of the region that decided; None for ERROR
        threshold: the limit of OK of that region: a higher score is REVIEW or NG. For ERROR that of
            the only region; None with several
        latency_ms: time of ``Detector.score`` in ms; None for ERROR
        executed: the precision, such as "int8"
        error: why the file was not inspected; None for OK, REVIEW and NG
        p_value: of good parts, at most the share p has a p-value of p or less; None for ERROR and
            where the bundle holds no scores of good parts
        region: name of the region that decided; None without regions and for ERROR
        ng_above: the limit of NG of that region: a score between the two is REVIEW; None for ERROR
        defects: areas of the map above the limit of OK of their region, the worst first; None
            unless requested
    """

    path: str
    verdict: str
    score: float | None
    threshold: float | None
    latency_ms: float | None
    executed: str
    error: str | None
    p_value: float | None = None
    region: str | None = None
    ng_above: float | None = None
    defects: list[Defect] | None = None


def find_files(given: Iterable[str]) -> list[Path]:
    """List the files of paths, folders and glob patterns, without duplicates.

    Args:
        given: names of files, folders (searched for images) and patterns (expanded)

    Returns:
        The files, in order. A name that matches nothing is kept, so that it is reported as an error
        of its own.

    Raises:
        DatasetError: a folder holds no images
    """
    found: dict[Path, None] = {}
    for name in given:
        path = Path(name)
        if path.is_dir():
            matches = list_images(path)
        elif not path.exists() and glob.has_magic(name):
            matches = sorted(p for p in map(Path, glob.glob(name, recursive=True)) if p.is_file())
            matches = matches or [path]
        else:
            matches = [path]
        found.update(dict.fromkeys(matches))
    return list(found)


def score_files(
    detector: Detector,
    files: Sequence[Path],
    overlays: Path | None = None,
    pixel_format: str | None = None,
    crop: Crop | None = None,
    levels: Levels | None = None,
    defects: bool = False,
) -> Iterator[Row]:
    """Score files one by one, in order.

    Args:
        detector: the opened Detector
        files: the image files
        overlays: folder for heat-map overlays, in the files' folder structure; None for none
        pixel_format: as for ``Detector.score``
        crop: top, left, height and width in pixels, as for ``Detector.score``
        levels: of files with 16 bits per channel, as for ``Detector.score``
        defects: whether rows list the defects of each image

    Yields:
        One row for each file. A file that cannot be read, or whose frame is too small for the crop
        or does not fit the pixel format or the levels, gives a row with the verdict ERROR.

    Raises:
        EngineError: the engine fails, or gives a score that is not finite
    """
    root = Path(os.path.commonpath([p.absolute().parent for p in files])) if files else Path()
    only = detector.limits[0].ok_below.value if len(detector.limits) == 1 else None
    executed = detector.engine.execution.executed
    with_maps = overlays is not None or defects
    for path in files:
        try:
            options = FrameOptions.of_recipe(detector.recipe, pixel_format, crop, levels)
            frame = read_image(path)
            result = detector.score(frame, with_maps, pixel_format, crop, levels)
        except (ImageError, ValueError) as error:
            why = error.reason if isinstance(error, ImageError) else str(error)
            yield Row(str(path), "ERROR", None, only, None, executed, why)
            continue
        if overlays is not None and result.anomaly_maps is not None:
            inside = path.absolute().relative_to(root)
            name = inside.name if inside.suffix == ".png" else f"{inside.name}.png"
            target = overlays / inside.with_name(name)
            heat = detector.relative_map(result.anomaly_maps[0])
            save_overlay(target, frame, heat, detector.labels, options.crop, options.levels)
        yield Row(
            path=str(path),
            verdict=result.verdicts[0],
            score=float(result.scores[0]),
            threshold=result.decided_by(0).ok_below.value,
            latency_ms=round(result.timings_ms["total"], 3),
            executed=executed,
            error=None,
            p_value=None if result.p_values is None else float(result.p_values[0]),
            region=result.decided_by(0).named,
            ng_above=result.decided_by(0).ng_above.value,
            defects=detector.defects(result, frame.shape[:2], crop)[0] if defects else None,
        )


class RowWriter:
    """Writes rows as CSV with a header, or as JSON Lines. Each row is flushed at once.

    Args:
        stream: text stream to write to
        json_lines: whether to write JSON Lines instead of CSV
    """

    def __init__(self, stream: TextIO, json_lines: bool) -> None:
        self._stream = stream
        self._csv: csv.DictWriter[str] | None = None
        if not json_lines:
            columns = [f.name for f in fields(Row) if f.name != "defects"]
            self._csv = csv.DictWriter(stream, columns, extrasaction="ignore", lineterminator="\n")
            self._csv.writeheader()

    def write(self, row: Row) -> None:
        """Write one row."""
        if self._csv is not None:
            self._csv.writerow(asdict(row))
        else:
            facts = asdict(row)
            if row.defects is None:
                del facts["defects"]
            self._stream.write(json.dumps(facts) + "\n")
        self._stream.flush()
