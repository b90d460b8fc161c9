"""Makes the report of a Detector on a test set."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from rdx_fast.detector import Detector
from rdx_fast.evaluation import CheckedSet, ScoredSet
from rdx_fast.report.facts import facts, header
from rdx_fast.report.gallery import cards, chosen
from rdx_fast.report.limits import Limits
from rdx_fast.report.page import Report

GALLERY, PICTURE = 6, 256


def make_report(
    detector: Detector,
    checked: CheckedSet,
    scored: ScoredSet,
    dataset: Path,
    *,
    limits: Limits | None = None,
    gallery: int = GALLERY,
    picture: int = PICTURE,
    on_image: Callable[[int, int], None] = lambda done, total: None,
) -> Report:
    """Gather what a report shows.

    Args:
        detector: the opened Detector that scored the test set
        checked: the test set
        scored: its scores
        dataset: the category folder
        limits: limits in force, on the scale of ``ScoredSet.scores``; None for the bundle's
        gallery: images in each gallery at most; 0 for no pictures
        picture: longer side of each picture in pixels, at most
        on_image: called with the number of images whose pictures are made, and in all

    Returns:
        The report, for ``render``.

    Raises:
        ImageError: an image or mask cannot be read any more
    """
    limits = limits or Limits(scored.threshold, scored.ng_above or scored.threshold)
    indices = chosen(scored, limits, gallery)
    made = []
    for card in cards(detector, checked, indices, dataset, limits.ok_below, picture):
        made.append(card)
        on_image(len(made), len(indices))
    return Report(
        header=header(detector, checked, dataset),
        scored=scored,
        limits=limits,
        facts=facts(detector, checked),
        cards=made,
        gallery=gallery,
    )
