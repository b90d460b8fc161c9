"""The pictures of a report: which images, and their thumbnails."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rdx_fast.datasets import LabelledImage
from rdx_fast.detector import Detector
from rdx_fast.evaluation import CheckedSet, ScoredSet
from rdx_fast.images import read_grey, read_image, resize_mask, to_8bit
from rdx_fast.kernels.resize_normalize import Crop
from rdx_fast.overlay import outlined, overlay
from rdx_fast.preprocess import Frame, FrameOptions
from rdx_fast.report.limits import VERDICTS, Limits

# Title of each gallery.
GALLERIES = {
    "escapes": "Worst escapes",
    "false_rejects": "Worst false rejects",
    "review": "For review",
    "near": "Nearest misses: right, and next to the limit",
}
_QUALITY = 80  # of WebP

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Card:
    """One image in the galleries.

    Attributes:
        index: of the image in the scored set
        name: of the image file, in its data set
        pictures: caption and ``data:`` URL of each picture
    """

    index: int
    name: str
    pictures: Sequence[tuple[str, str]]


def arranged(
    scored: ScoredSet, limits: Limits, indices: Sequence[int], count: int
) -> dict[str, list[int]]:
    """Which gallery each image is in, the worst or nearest first.

    Args:
        scored: the scored test set
        limits: the limits
        indices: of the images that have pictures
        count: images in each gallery at most

    Returns:
        Indices by gallery, as in ``GALLERIES``, and those of no gallery as "rest".
    """
    found: dict[str, list[tuple[float, int]]] = {name: [] for name in GALLERIES}
    for i, verdict in zip(indices, limits.verdicts(scored.scores[list(indices)]), strict=True):
        score, defective = float(scored.scores[i]), scored.images[i].is_defective
        if VERDICTS[verdict] == "REVIEW":
            found["review"].append((-score, i))
        elif VERDICTS[verdict] == "OK" and defective:
            found["escapes"].append((score, i))
        elif VERDICTS[verdict] == "NG" and not defective:
            found["false_rejects"].append((-score, i))
        else:
            limit = limits.ng_above if defective else limits.ok_below
            found["near"].append((abs(score - float(np.float32(limit))), i))
    shown = {name: [i for _, i in sorted(images)[:count]] for name, images in found.items()}
    inside = {i for images in shown.values() for i in images}
    return {**shown, "rest": [i for i in indices if i not in inside]}


def chosen(scored: ScoredSet, limits: Limits, count: int) -> list[int]:
    """Choose the images to make pictures of.

    These are all that the galleries show at the limits in force. If the limits are moved, the worst
    escapes are among the defective images with the lowest scores, and the worst false rejects among
    the good ones with the highest: these too.

    Args:
        scored: the scored test set
        limits: the limits in force
        count: images in each gallery at most

    Returns:
        Indices of the images, ascending.
    """
    labels = scored.labels
    order = np.argsort(scored.scores, kind="stable")
    lowest, highest = order[labels[order]][:count], order[~labels[order]][::-1][:count]
    places = arranged(scored, limits, range(len(labels)), count)
    shown = (i for name in GALLERIES for i in places[name])
    return sorted({*shown, *lowest.tolist(), *highest.tolist()})


def cards(
    detector: Detector,
    checked: CheckedSet,
    indices: Sequence[int],
    dataset: Path,
    limit: float,
    size: int,
) -> Iterator[Card]:
    """Read and score images again, and make their pictures.

    Args:
        detector: the opened Detector
        checked: the test set
        indices: of the images in it
        dataset: folder that names are relative to
        limit: OK limit that heat maps are scaled by, on the scale of ``ScoredSet.scores``
        size: longer side of each picture in pixels, at most

    Yields:
        The card of each image.

    Raises:
        ImageError: an image or mask cannot be read any more
    """
    given = (checked.pixel_format, checked.crop, checked.levels)
    options = FrameOptions.of_recipe(detector.recipe, *given)
    several = len(detector.limits) > 1

    def heat(frame: Frame) -> NDArray[np.float32]:
        maps = detector.score(frame, True, *given).anomaly_maps
        assert maps is not None
        relative = detector.relative_map(maps[0]) if several else maps[0]
        return relative / np.float32(limit)

    for i in indices:
        image = checked.images[i]
        name = _name(image.path, dataset)
        pictures = _pictures(image, heat, detector.labels, options, size)
        yield Card(i, name, [(caption, _url(pixels)) for caption, pixels in pictures])


def _name(path: Path, dataset: Path) -> str:
    return str(path.relative_to(dataset) if path.is_relative_to(dataset) else path)


def _pictures(
    image: LabelledImage,
    heat: Callable[[Frame], NDArray[np.float32]],
    labels: Pixels | None,
    options: FrameOptions,
    size: int,
) -> Iterator[tuple[str, Pixels]]:
    source = read_image(image.path)
    relative, frame = heat(source), to_8bit(source, options.levels)
    height, width = frame.shape[:2]
    scale = min(1.0, size / max(height, width))
    small = max(1, round(scale * height)), max(1, round(scale * width))
    if options.pixel_format == "bgr":
        frame = frame[..., ::-1]
    shown = np.asarray(Image.fromarray(frame).resize(small[::-1], Image.Resampling.BOX))
    yield "frame", shown
    yield "heat map", overlay(shown, relative, labels, _scaled(options.crop, scale, small))
    if image.is_defective and image.mask is not None:
        white = np.where(read_grey(image.mask) > image.mask_above, 255, 0).astype(np.uint8)
        # However small a defect is, some of it shows.
        yield "marked defect", outlined(shown, resize_mask(white, *small, share=0.0))


def _scaled(crop: Crop | None, scale: float, size: tuple[int, int]) -> Crop | None:
    """The crop of the frame in pixels of its picture."""
    if crop is None:
        return None
    top, left, height, width = crop
    ends = [(top, top + height, size[0]), (left, left + width, size[1])]
    (y, y_end), (x, x_end) = (
        (min(round(scale * begin), most - 1), min(round(scale * end), most))
        for begin, end, most in ends
    )
    return y, x, max(1, y_end - y), max(1, x_end - x)


def _url(pixels: Pixels) -> str:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "WEBP", quality=_QUALITY)
    return f"data:image/webp;base64,{base64.b64encode(stream.getvalue()).decode()}"
