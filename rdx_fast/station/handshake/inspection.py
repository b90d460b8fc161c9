"""A part on its way through the station: triggered, decided, recorded, shown, acknowledged."""

from __future__ import annotations

from dataclasses import dataclass, replace

from rdx_fast.station.handshake.codes import ErrorCode, ResultCode

_INSPECTED = (ResultCode.OK, ResultCode.NG)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an inspection came to.

    Attributes:
        code: OK, NG, ERROR or LATE
        error: why the part was not inspected, or not in time; ``NONE`` for OK and NG
        detail: the same in words, for people
        score: anomaly score, 0 where nothing was scored
        area_px: map pixels above the threshold

    Raises ``ValueError`` for OK or NG with an error, and for the others without one.
    """

    code: ResultCode
    error: ErrorCode = ErrorCode.NONE
    detail: str = ""
    score: float = 0.0
    area_px: int = 0

    def __post_init__(self) -> None:
        if self.code is ResultCode.NONE or self.inspected == (self.error is not ErrorCode.NONE):
            raise ValueError(
                f"an outcome {self.code.name} with error {self.error.name}: OK and NG have none, "
                f"ERROR and LATE have one"
            )

    @property
    def inspected(self) -> bool:
        """Whether it is OK or NG."""
        return self.code in _INSPECTED


@dataclass(frozen=True, slots=True)
class Inspection:
    """One trigger and its answer. Open until it has an ``outcome``.

    Attributes:
        inspection_id: of the station, counted up; key of the record
        part_id: of the PLC, 16 bits
        job: the job that was asked for
        triggered: time of the trigger, in seconds of the handshake's clock
        deadline: time by which the PLC wants the answer, likewise
        outcome: None while the part is undecided
        decided: time of the outcome, likewise
        revision: how often the outcome changed; a record is of one revision
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
        """``NONE`` while it is open."""
        return ResultCode.NONE if self.outcome is None else self.outcome.code

    def decide(self, outcome: Outcome, now: float) -> Inspection:
        """With its outcome, which is LATE where OK or NG come after the deadline. What is decided
        may be decided once more."""
        if outcome.inspected and now > self.deadline:
            outcome = _late(outcome)
        return replace(self, outcome=outcome, decided=now, revision=self.revision + 1)

    def miss_deadline(self, now: float) -> Inspection:
        """With the outcome LATE. A score that it has stays."""
        return self.decide(_late(self.outcome), now)


def _late(found: Outcome | None) -> Outcome:
    score, area_px = (0.0, 0) if found is None else (found.score, found.area_px)
    return Outcome(ResultCode.LATE, ErrorCode.DEADLINE, "the deadline has passed", score, area_px)
