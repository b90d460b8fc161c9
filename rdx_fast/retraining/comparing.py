"""Scores a candidate and the released bundle on a frozen test set and on labelled parts."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np

from rdx_fast.datasets import GOOD, LabelledImage
from rdx_fast.detector import Detector
from rdx_fast.evaluation.checked import BadImage, CheckedSet, check_images
from rdx_fast.evaluation.compare import compare
from rdx_fast.evaluation.metrics import auroc
from rdx_fast.evaluation.scored import ScoredSet, score_checked
from rdx_fast.images import find_bad_images
from rdx_fast.limits.limits import NG, OK, REVIEW
from rdx_fast.preprocess import FrameOptions
from rdx_fast.retraining.comparison import Auroc, Compared, Counts, JudgedPart
from rdx_fast.retraining.confirmed import ConfirmedFrame

OnImage = Callable[[int, int], None]
# Good and bad parts of the sample: with fewer, a bootstrap's interval is too narrow.
LEAST = 20


@dataclass(frozen=True, slots=True)
class LabelledParts:
    """Both bundles on the labelled parts; see ``Comparison`` for the attributes."""

    sample: Compared | None
    labelled: Compared | None
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
    plain = [replace(image, mask=None) for image in images]
    both = _score(old, new, check_images(plain, **options._asdict()), on_image)
    return _compared(*both, 1)


def compare_on_parts(
    old: Detector,
    new: Detector,
    frames: Sequence[ConfirmedFrame],
    trained_on: Collection[int],
    sample: Collection[int],
    options: FrameOptions,
    on_image: OnImage = lambda *_: None,
) -> LabelledParts:
    """Compare two bundles on the labelled parts. Frames that cannot be used are left out.

    Args:
        old: the released bundle
        new: the candidate
        frames: of the labelled parts
        trained_on: inspections that the candidate, or a network before it, was trained on
        sample: inspections of the random sample that neither bundle knows
        options: how the frames are read, see ``FrameOptions.of_recipe``
        on_image: called with images scored and in all
    """
    checked, scored = _usable(frames, options)
    if not scored:
        return LabelledParts(None, None, (), ())
    before, now = _score(old, new, checked, on_image)
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
    index = [i for i, frame in enumerate(scored) if frame.inspection_id in sample]
    return LabelledParts(
        sample=_compared(_those(before, index), _those(now, index), LEAST) if index else None,
        labelled=_compared(before, now, None),
        again_rejected=tuple(j for frame, j in pairs if not frame.bad and j.verdict != OK),
        escaped=tuple(j for frame, j in pairs if frame.bad and j.verdict == OK),
    )


def _usable(
    frames: Sequence[ConfirmedFrame], options: FrameOptions
) -> tuple[CheckedSet, list[ConfirmedFrame]]:
    """The frames that can be used, be they all of a kind."""
    bad = {error.path: error for error in find_bad_images([f.path for f in frames], options.check)}
    kept = [frame for frame in frames if frame.path not in bad]
    images = [LabelledImage(frame.path, "bad" if frame.bad else GOOD, None) for frame in kept]
    left_out = [BadImage(str(path), error.reason) for path, error in bad.items()]
    return CheckedSet(images, left_out, (), *options[:3]), kept


def _score(
    old: Detector, new: Detector, checked: CheckedSet, on_image: OnImage
) -> tuple[ScoredSet, ScoredSet]:
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


def _compared(old: ScoredSet, new: ScoredSet, least: int | None) -> Compared:
    """``least``: how many good and bad images AUROC takes; None for no AUROC."""
    labels = new.labels
    bad = int(labels.sum())
    found = None
    if least is not None and min(bad, len(labels) - bad) >= least:
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
