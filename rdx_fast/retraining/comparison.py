"""A candidate against the released bundle: on a frozen test set, and on the labelled parts."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from rdx_fast.datasets import GOOD, LabelledImage
from rdx_fast.detector import Detector
from rdx_fast.evaluation.checked import CheckedSet, check_images
from rdx_fast.evaluation.compare import compare
from rdx_fast.evaluation.metrics import auroc
from rdx_fast.evaluation.scored import ScoredSet, score_checked
from rdx_fast.limits.limits import NG, OK, REVIEW
from rdx_fast.preprocess import FrameOptions
from rdx_fast.retraining.confirmed import ConfirmedFrame

FORMAT = 1
OnImage = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Auroc:
    """Image AUROC of both bundles.

    Attributes:
        old: of the released bundle, 0 to 1
        new: of the candidate
        difference: new minus old
        low: lower end of the difference's 95 % interval, by a paired bootstrap over the images
        high: its upper end
    """

    old: float
    new: float
    difference: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Counts:
    """Verdicts of one bundle by its own limits.

    Attributes:
        false_rejects: good images that are NG
        good_reviews: good images that are REVIEW
        escapes: bad images that are OK
        bad_reviews: bad images that are REVIEW
    """

    false_rejects: int
    good_reviews: int
    escapes: int
    bad_reviews: int


@dataclass(frozen=True, slots=True)
class Compared:
    """Both bundles on the same images.

    Attributes:
        good: number of good images
        bad: number of bad images
        auroc: None unless there are good and bad ones
        old: verdicts of the released bundle
        new: verdicts of the candidate
        left_out: number of images that cannot be used, which are not counted
    """

    good: int
    bad: int
    auroc: Auroc | None
    old: Counts
    new: Counts
    left_out: int


@dataclass(frozen=True, slots=True)
class JudgedPart:
    """A labelled part that the candidate judges otherwise than people do.

    Attributes:
        inspection_id: its inspection
        verdict: of the candidate
        score: of the candidate; with several regions, relative to the limit of the deciding one
        ok_below: the candidate's limit of OK; 1 with several regions
        ng_above: the candidate's limit of NG
        region: that decided; None with a single one
        old_verdict: of the released bundle
        old_score: of the released bundle
        trained_on: whether the candidate was trained on it
    """

    inspection_id: int
    verdict: str
    score: float
    ok_below: float
    ng_above: float
    region: str | None
    old_verdict: str
    old_score: float
    trained_on: bool


@dataclass(frozen=True, slots=True)
class Comparison:
    """Contents of ``comparison.json`` in a candidate.

    Attributes:
        format: of the file
        time: of the comparison, ISO 8601, UTC
        old_sha256: of the released bundle's manifest
        old_network: ``network_sha256`` of its training; None in a bundle of an earlier version
        new_network: likewise of the candidate's
        old_executed: precision in which the released bundle was compared
        new_executed: likewise of the candidate
        steps: batches of the retraining
        images: images that it was trained on
        trained_on: inspections of the confirmed good parts among them
        calibrated_on: inspections of the confirmed good parts that its limits come from, among
            others
        disputed: inspections whose labels contradict each other; not used
        missing: labelled inspections whose stored frame is gone; not used
        frozen: on the test set that is never trained on
        labelled: on all labelled parts; None without any
        unseen: on those of them that neither network was trained on; None without any. A bundle
            is better on what it was trained on than on what comes
        again_rejected: confirmed good parts that the candidate does not pass
        escaped: confirmed bad parts that the candidate passes
        notes: what else is to be known, in words
    """

    format: int
    time: str
    old_sha256: str
    old_network: str | None
    new_network: str
    old_executed: str
    new_executed: str
    steps: int
    images: int
    trained_on: tuple[int, ...]
    calibrated_on: tuple[int, ...]
    disputed: tuple[int, ...]
    missing: tuple[int, ...]
    frozen: Compared
    labelled: Compared | None
    unseen: Compared | None
    again_rejected: tuple[JudgedPart, ...]
    escaped: tuple[JudgedPart, ...]
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """The comparison as JSON data."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class LabelledParts:
    """Both bundles on the labelled parts; see ``Comparison`` for the attributes."""

    labelled: Compared | None
    unseen: Compared | None
    again_rejected: tuple[JudgedPart, ...]
    escaped: tuple[JudgedPart, ...]


def compare_on_set(
    old: Detector,
    new: Detector,
    images: Sequence[LabelledImage],
    options: FrameOptions,
    on_image: OnImage = lambda *_: None,
) -> Compared:
    """Compare two bundles on a test set, without its masks.

    Args:
        old: the released bundle
        new: the candidate
        images: of the test set
        options: how its images are read, see ``FrameOptions.of_recipe``
        on_image: called with images scored and in all

    Raises:
        DatasetError: images cannot be used
    """
    both = _score(old, new, [replace(image, mask=None) for image in images], options, on_image)
    return _compared(*both)


def compare_on_parts(
    old: Detector,
    new: Detector,
    frames: Sequence[ConfirmedFrame],
    trained_on: Collection[int],
    unseen: Collection[int],
    options: FrameOptions,
    on_image: OnImage = lambda *_: None,
) -> LabelledParts:
    """Compare two bundles on the labelled parts.

    Args:
        old: the released bundle
        new: the candidate
        frames: of the labelled parts
        trained_on: inspections that the candidate was trained on
        unseen: inspections that neither was trained on
        options: how the frames are read, see ``FrameOptions.of_recipe``
        on_image: called with images scored and in all

    Raises:
        DatasetError: no good or no bad frame can be used, though there are some
    """
    if not frames:
        return LabelledParts(None, None, (), ())
    of_path = {frame.path: frame for frame in frames}
    images = [LabelledImage(frame.path, "bad" if frame.bad else GOOD, None) for frame in frames]
    before, now = _score(old, new, images, options, on_image, skip_bad=True)
    scored = [of_path[image.path] for image in now.images]
    judged = [
        JudgedPart(
            inspection_id=frame.inspection_id,
            verdict=now.verdicts[i],
            score=float(now.scores[i]),
            ok_below=now.threshold,
            ng_above=now.threshold if now.ng_above is None else now.ng_above,
            region=None if now.region_of is None else now.regions[now.region_of[i]],
            old_verdict=before.verdicts[i],
            old_score=float(before.scores[i]),
            trained_on=frame.inspection_id in trained_on,
        )
        for i, frame in enumerate(scored)
    ]
    pairs = list(zip(scored, judged, strict=True))
    index = [i for i, frame in enumerate(scored) if frame.inspection_id in unseen]
    return LabelledParts(
        labelled=_compared(before, now),
        unseen=_compared(_those(before, index), _those(now, index)) if index else None,
        again_rejected=tuple(j for frame, j in pairs if not frame.bad and j.verdict != OK),
        escaped=tuple(j for frame, j in pairs if frame.bad and j.verdict == OK),
    )


def _score(
    old: Detector,
    new: Detector,
    images: Sequence[LabelledImage],
    options: FrameOptions,
    on_image: OnImage,
    skip_bad: bool = False,
) -> tuple[ScoredSet, ScoredSet]:
    checked: CheckedSet = check_images(images, skip_bad, **options._asdict())
    count = len(checked.images)

    def after(before: int) -> OnImage:
        return lambda done, _: on_image(before + done, 2 * count)

    return score_checked(old, checked, after(0)), score_checked(new, checked, after(count))


def _those(scored: ScoredSet, index: Sequence[int]) -> ScoredSet:
    return replace(
        scored,
        images=[scored.images[i] for i in index],
        scores=scored.scores[index],
        verdicts=[scored.verdicts[i] for i in index],
        left_out=(),
        timings_ms={},
    )


def _compared(old: ScoredSet, new: ScoredSet) -> Compared:
    labels = new.labels
    bad = int(labels.sum())
    found = None
    if 0 < bad < len(labels):
        (difference,) = compare(old, new)
        of_old, of_new = (auroc(labels, scored.scores) for scored in (old, new))
        found = Auroc(of_old, of_new, difference.difference, difference.low, difference.high)
    return Compared(
        good=len(labels) - bad,
        bad=bad,
        auroc=found,
        old=_counts(old),
        new=_counts(new),
        left_out=len(new.left_out),
    )


def _counts(scored: ScoredSet) -> Counts:
    labels, verdicts = scored.labels, np.array(scored.verdicts)
    return Counts(
        false_rejects=int((~labels & (verdicts == NG)).sum()),
        good_reviews=int((~labels & (verdicts == REVIEW)).sum()),
        escapes=int((labels & (verdicts == OK)).sum()),
        bad_reviews=int((labels & (verdicts == REVIEW)).sum()),
    )
