"""How good the inspection is, by what people said of its parts."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from rdx_fast.limits.calibration import share
from rdx_fast.limits.limits import NG, OK, REVIEW, VERDICTS
from rdx_fast.station.records.labels import Label, agreed, first, newest


class Kind(NamedTuple):
    """What decides in which figures a part counts.

    Attributes:
        result: "OK", "REVIEW", "NG", "ERROR" or "LATE"
        sampled: whether it is of the random sample, see ``RecordConfig.ok_share``
    """

    result: str
    sampled: bool


@dataclass(frozen=True, slots=True)
class Quality:
    """Quality figures of the parts of a time and a job.

    What a part really is, its labels say: of each user the newest one, where all users agree. A
    disputed part counts neither as good nor as bad. A share is None where there is nothing to
    count; ``low`` and ``high`` are its 95 % interval by Clopper and Pearson, which assumes that
    parts are good or bad independently of each other. The interval of escapes holds whatever the
    disputed parts of the random sample really are.

    Attributes:
        parts: all parts
        verdicts: parts that were inspected: with the result OK, REVIEW or NG
        sampled: parts of the random sample, which are drawn whatever their result
        sampled_ok: parts of the random sample with the result OK
        sampled_ok_labelled: those of them that are labelled and not disputed
        escapes: those of these that are really bad
        escape_rate: ``escapes / sampled_ok_labelled``: the share of the parts with the result OK
            that are really bad. Labels of other OK parts do not count: who labels them has a
            reason to, so that their share is another one. Assumes that it did not depend on the
            look of a sampled part whether it was labelled; with all of them labelled it holds
        sampled_ok_disputed: parts of the random sample with the result OK whose users disagree
        escape_low: lower end of its interval, if all disputed ones are good
        escape_high: upper end of its interval, if all disputed ones are bad
        reviews: parts with the result REVIEW
        review_share: ``reviews / verdicts``: the share of inspected parts that a person must
            decide
        review_low: lower end of its interval
        review_high: upper end of its interval
        rejects_labelled: parts with the result NG or REVIEW that are labelled and not disputed
        false_rejects: those of them that are really good
        false_reject_share: ``false_rejects / rejects_labelled``: the share of rejected parts that
            are good, not the share of good parts that are rejected. Assumes that those labelled
            are like those that are not
        false_reject_low: lower end of its interval
        false_reject_high: upper end of its interval
        disputed: parts whose users disagree
        labelled_twice: parts that at least two users labelled
        agreements: those of them of which all users said the same with their first labels: others'
            are shown after one's own, and who corrects it then has seen them
        agreement: ``agreements / labelled_twice``. Assumes that users label without having seen
            what others said
        agreement_low: lower end of its interval
        agreement_high: upper end of its interval
        again_rejected: ids of inspections, of any time, that are labelled good and that the
            released bundle rejects all the same, by its comparison with the one before
    """

    parts: int
    verdicts: int
    sampled: int
    sampled_ok: int
    sampled_ok_labelled: int
    escapes: int
    sampled_ok_disputed: int
    escape_rate: float | None
    escape_low: float | None
    escape_high: float | None
    reviews: int
    review_share: float | None
    review_low: float | None
    review_high: float | None
    rejects_labelled: int
    false_rejects: int
    false_reject_share: float | None
    false_reject_low: float | None
    false_reject_high: float | None
    disputed: int
    labelled_twice: int
    agreements: int
    agreement: float | None
    agreement_low: float | None
    agreement_high: float | None
    again_rejected: tuple[int, ...]


def quality_of(
    counts: Mapping[Kind, int],
    labelled: Mapping[int, Kind],
    labels: Iterable[Label],
    again_rejected: Collection[int] = (),
) -> Quality:
    """Compute the quality figures.

    Args:
        counts: number of parts of each kind
        labelled: the labelled parts among them, by id of the inspection
        labels: of these parts and of ``again_rejected``, the oldest first; others are ignored
        again_rejected: ids of the inspections that the released bundle's comparison names as
            labelled good and rejected; those that are not labelled good any more are left out
    """
    given = list(labels)
    said = {part: agreed(of) for part, of in _by_part(newest(given)).items()}
    blind = _by_part(first(given))

    def count(result: str) -> int:
        return counts.get(Kind(result, True), 0) + counts.get(Kind(result, False), 0)

    def really(*kinds: Kind) -> list[str]:
        found = [said.get(part) for part, kind in labelled.items() if kind in kinds]
        return [what for what in found if what in ("good", "bad")]

    sample = really(Kind(OK, True))
    rejects = really(*(Kind(result, drawn) for result in (NG, REVIEW) for drawn in (True, False)))
    twice = [agreed(blind[part]) for part in labelled if len(blind.get(part, [])) > 1]
    verdicts, reviews = sum(map(count, VERDICTS)), count(REVIEW)
    escapes, false_rejects = sample.count("bad"), rejects.count("good")
    agreements = len(twice) - twice.count("disputed")
    open_ok = sum(
        said.get(part) == "disputed" for part, kind in labelled.items() if kind == Kind(OK, True)
    )
    escape_rate = _share(escapes, len(sample))[0]
    # A defect on which people disagree must not make the line look safer.
    _, escape_low, _ = _share(escapes, len(sample) + open_ok)
    _, _, escape_high = _share(escapes + open_ok, len(sample) + open_ok)
    review_share, review_low, review_high = _share(reviews, verdicts)
    false_share, false_low, false_high = _share(false_rejects, len(rejects))
    agreement, agreement_low, agreement_high = _share(agreements, len(twice))
    return Quality(
        parts=sum(counts.values()),
        verdicts=verdicts,
        sampled=sum(number for kind, number in counts.items() if kind.sampled),
        sampled_ok=counts.get(Kind(OK, True), 0),
        sampled_ok_labelled=len(sample),
        escapes=escapes,
        sampled_ok_disputed=open_ok,
        escape_rate=escape_rate,
        escape_low=escape_low,
        escape_high=escape_high,
        reviews=reviews,
        review_share=review_share,
        review_low=review_low,
        review_high=review_high,
        rejects_labelled=len(rejects),
        false_rejects=false_rejects,
        false_reject_share=false_share,
        false_reject_low=false_low,
        false_reject_high=false_high,
        disputed=sum(said.get(part) == "disputed" for part in labelled),
        labelled_twice=len(twice),
        agreements=agreements,
        agreement=agreement,
        agreement_low=agreement_low,
        agreement_high=agreement_high,
        again_rejected=tuple(sorted(i for i in again_rejected if said.get(i) == "good")),
    )


def _by_part(labels: Iterable[Label]) -> dict[int, list[Label]]:
    found: dict[int, list[Label]] = {}
    for label in labels:
        found.setdefault(label.inspection_id, []).append(label)
    return found


def _share(count: int, of: int) -> tuple[float, float, float] | tuple[None, None, None]:
    """A share with the ends of its interval."""
    if of == 0:
        return None, None, None
    found = share(count, of)
    return found.rate, found.low, found.high
