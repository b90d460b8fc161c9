"""Which images of good parts a candidate's limits come from."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rdx_fast.errors import CalibrationError
from rdx_fast.limits.limits import Limits, rates_of_parts
from rdx_fast.limits.promise import Wish, check_promise, images_needed
from rdx_fast.retraining.confirmed import Confirmed, ConfirmedFrame


@dataclass(frozen=True, slots=True)
class LimitImages:
    """Images of good parts that limits come from.

    Attributes:
        folder: of the calibration folder; empty where the line's suffice
        line: parts of the line's random sample
        notes: what is to be known of the choice, in words
    """

    folder: Sequence[Path]
    line: Sequence[ConfirmedFrame]
    notes: Sequence[str]

    @property
    def paths(self) -> list[Path]:
        """All of them."""
        return [*self.folder, *(frame.path for frame in self.line)]


def limit_images(
    folder: Sequence[Path],
    confirmed: Confirmed,
    trained_on: Collection[int],
    wish: Wish,
    regions: int,
) -> LimitImages:
    """Choose the images: parts of the line alone if they can keep the promise, since it holds for
    what the images are drawn from.

    Args:
        folder: images of the calibration folder
        confirmed: the labelled parts
        trained_on: inspections that the candidate, or a network before it, was trained on
        wish: what the limits are for
        regions: number of regions with limits

    Raises:
        CalibrationError: all of them together are too few for the wish
    """
    line = [
        frame
        for frame in confirmed.frames
        if frame.for_limits and frame.inspection_id not in trained_on
    ]
    if not confirmed.sample.complete:
        said = (
            f"the limits come from the {len(folder)} images of the calibration folder alone, since "
            f"too little of the random sample is labelled to stand for all: "
            f"{confirmed.sample.told()}"
        )
        check_promise(len(folder), wish, regions)
        return LimitImages(folder, [], [said])
    try:
        check_promise(len(line), replace(wish, weaker=False), regions)
        return LimitImages([], line, [])
    except CalibrationError:
        check_promise(len(folder) + len(line), wish, regions)
    if not line:
        return LimitImages(folder, [], [])
    said = (
        f"the limits come from {len(folder)} images of the calibration folder and {len(line)} "
        f"parts of the line: what they promise holds for such a mixture, and for the line "
        f"alone as soon as there are {images_needed(wish, regions)} parts of it"
    )
    return LimitImages(folder, line, [said])


def told_of_calibration(
    limits: Mapping[str, Sequence[Limits]], suspicious: Sequence[Path], wish: Wish
) -> list[str]:
    """What is to be known of a calibration, in words.

    Args:
        limits: by execution
        suspicious: good images whose scores do not fit the others'
        wish: what the limits are for
    """
    told = []
    for label, of in limits.items():
        rates = rates_of_parts([limit.ng_above for limit in of])
        promised, wished = rates.expected_false_reject_rate, wish.false_reject_rate
        if promised is not None and promised > wished * (1 + 1e-9):
            told.append(
                f"{label}: the limits promise at most {promised:.3%} false rejects instead of "
                f"{wished:.3%}, since they come from {of[0].ng_above.good_images} images: "
                f"{images_needed(wish, len(of))} are needed"
            )
    if suspicious:
        named = ", ".join(f"{path.parent.name}/{path.name}" for path in suspicious[:5])
        more = f" and {len(suspicious) - 5} more" if len(suspicious) > 5 else ""
        told.append(
            f"{len(suspicious)} images that the limits come from have higher scores than fit the "
            f"others', look whether these parts are good: {named}{more}"
        )
    return told
