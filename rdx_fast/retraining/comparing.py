"""Scores a candidate and the released bundle on a frozen test set, and on the labelled parts."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np

from rdx_fast.datasets import GOOD, LabelledImage
from rdx_fast.detector import Detector
from rdx_fast.evaluation.checked import check_images
from rdx_fast.evaluation.compare import compare
from rdx_fast.evaluation.metrics import auroc
from rdx_fast.evaluation.scored import ScoredSet, score_checked
from rdx_fast.limits.limits import NG, OK, REVIEW
from rdx_fast.preprocess import FrameOptions
from rdx_fast.retraining.comparison import Auroc, Compared, Counts, JudgedPart
from rdx_fast.retraining.confirmed import ConfirmedFrame

OnImage = Callable[[int, int], None]


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
    checked = check_images(images, skip_bad, **options._asdict())
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
