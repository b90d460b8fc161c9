"""An inspection: triggered, decided, recorded, shown and acknowledged."""

from __future__ import annotations

from dataclasses import dataclass, replace

from rdx_fast.station.handshake.codes import ErrorCode, ResultCode

_INSPECTED = (ResultCode.OK, ResultCode.REVIEW, ResultCode.NG)


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of an inspection.

    Attributes:
        code: OK, REVIEW, NG, ERROR or LATE
        error: why the part was not inspected, or not in time; ``NONE`` for OK, REVIEW and NG
        detail: the error in words
        score: anomaly score of the region that decided; None where nothing was scored
        area_px: map pixels above the OK limits of their regions; likewise
        p_value: of good parts, at most the share p has a p-value of p or less; None where it is not
            known
        region: name of the region that decided; None without regions
        ok_below: its OK limit; None if there is no score
        ng_above: its NG limit, likewise

    Raises:
        ValueError: OK, REVIEW or NG with an error, or another code without one
    """

    code: ResultCode
    error: ErrorCode = ErrorCode.NONE
    detail: str = ""
    score: float | None = None
    area_px: int | None = None
    p_value: float | None = None
    region: str | None = None
    ok_below: float | None = None
    ng_above: float | None = None

    def __post_init__(self) -> None:
        if self.code is ResultCode.NONE or self.inspected == (self.error is not ErrorCode.NONE):
            raise ValueError(
                f"the outcome is {self.code.name} with error {self.error.name}, wanted "
                f"OK, REVIEW or NG without an error, or ERROR or LATE with one"
            )

    @property
    def inspected(self) -> bool:
        """Whether it is OK, REVIEW or NG."""
        return self.code in _INSPECTED


@dataclass(frozen=True, slots=True)
class Inspection:
    """One trigger and its answer. Open until it has an ``outcome``.

    Attributes:
        inspection_id: the station's id, counted up; key of the record
        part_id: the PLC's id of the part, 16 bits
        job: id of the requested job
        triggered: time of the trigger, in seconds of the handshake's clock
        deadline: time by which the PLC needs the answer, likewise
        outcome: None while the part is undecided
        decided: time of the outcome, likewise
        revision: how often the outcome was set; a record belongs to one revision
    """

    inspection_id: int
    part_id: int
    job: int
    triggered: float
    deadline: float
    outcome: Outcome | None = None
    decided: float = 0.0
    revision: int = 0

    @property
    def code(self) -> ResultCode:
        """The outcome's code; ``NONE`` while the inspection is open."""
        return ResultCode.NONE if self.outcome is None else self.outcome.code

    def decide(self, outcome: Outcome, now: float) -> Inspection:
        """Return the inspection with an outcome. A decided inspection may be decided again.

        Args:
            outcome: the outcome; OK, REVIEW and NG become LATE after the deadline
            now: time of the outcome, in seconds of the handshake's clock
        """
        if outcome.inspected and now > self.deadline:
            outcome = _late(outcome)
        return replace(self, outcome=outcome, decided=now, revision=self.revision + 1)

    def miss_deadline(self, now: float) -> Inspection:
        """Return the inspection with the outcome LATE, which keeps an existing score.

        Args:
            now: time of the outcome, in seconds of the handshake's clock
        """
        return self.decide(_late(self.outcome), now)


def _late(found: Outcome | None) -> Outcome:
    late = Outcome(ResultCode.LATE, ErrorCode.DEADLINE, "the deadline has passed")
    if found is None:
        return late
    return replace(found, code=late.code, error=late.error, detail=late.detail)
