"""How a candidate compares with the released bundle: the contents of ``comparison.json``."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

FORMAT = 2


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
        auroc: None unless there are enough good and bad ones, and for images that were not drawn
            independently of what the released bundle said of them
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
        trained_on: whether the candidate, or a network before it, was trained on it
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
        trained_before: inspections that networks before it were trained on
        calibration_images: images of the calibration folder that its limits come from
        calibrated_on: inspections of the confirmed good parts that its limits come from
        disputed: inspections whose labels contradict each other; not used
        missing: labelled inspections whose stored frame is gone; likewise
        of_others: labelled inspections with a bundle of another name under the id of the job;
            likewise
        unusable: labelled inspections that cannot be used otherwise, see ``notes``; likewise
        frozen: on the test set that is never trained on
        sample: on the labelled parts of the random sample that no network was trained on and
            neither bundle's limits come from; None without any, and unless nearly all parts of the
            sample are labelled. It alone of the line's parts tells which bundle is better
        labelled: on all labelled parts, without AUROC; None without any. Most of them were labelled
            because the released bundle rejected them: by them it looks worse on good parts than it
            is, and better on bad ones, since the bad parts that it passed are not among them. And a
            bundle is better on what it was trained on than on what comes
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
    trained_before: tuple[int, ...]
    calibration_images: int
    calibrated_on: tuple[int, ...]
    disputed: tuple[int, ...]
    missing: tuple[int, ...]
    of_others: tuple[int, ...]
    unusable: tuple[int, ...]
    frozen: Compared
    sample: Compared | None
    labelled: Compared | None
    again_rejected: tuple[JudgedPart, ...]
    escaped: tuple[JudgedPart, ...]
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """The comparison as JSON data."""
        return asdict(self)
