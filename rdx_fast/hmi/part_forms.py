"""What requests for parts state."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from rdx_fast.hmi.pictures import WIDTHS
from rdx_fast.hmi.shifts import RESULTS
from rdx_fast.station.records.read import Filter

MOST_PARTS = 200  # of one answer
MOST_COMMENT = 1000  # characters
FORMATS = ("csv", "parquet", "zip")


@dataclass(frozen=True, slots=True)
class PartsQuery:
    """Which parts, see ``Filter``. Times are ISO 8601, of UTC unless they state another zone.

    Raises:
        ValueError: a result or a time is none
    """

    part_id: int | None = None
    job: int | None = None
    result: tuple[str, ...] = ()
    since: str | None = None
    until: str | None = None
    min_score: float | None = None
    max_score: float | None = None
    labelled: bool | None = None
    sampled: bool | None = None
    pictured: bool | None = None

    def __post_init__(self) -> None:
        if unknown := set(self.result) - set(RESULTS):
            raise ValueError(
                f"result is {sorted(unknown)[0][:20]!r}, wanted some of {', '.join(RESULTS)}"
            )
        self.filter()

    def filter(self, before: int | None = None, last: int | None = None) -> Filter:
        """The filter of the records, for those before an id, at most so many."""
        return Filter(
            part_id=self.part_id,
            job=self.job,
            results=tuple(dict.fromkeys(self.result)),
            since=_as_recorded("since", self.since),
            until=_as_recorded("until", self.until),
            last=last,
            before=before,
            min_score=self.min_score,
            max_score=self.max_score,
            labelled=self.labelled,
            sampled=self.sampled,
            pictured=self.pictured,
        )


@dataclass(frozen=True, slots=True)
class SearchQuery(PartsQuery):
    """One page of parts.

    Attributes:
        before: only parts with smaller ids
        limit: at most so many

    Raises:
        ValueError: as for ``PartsQuery``, or ``limit`` is out of range
    """

    before: int | None = None
    limit: int = 50

    def __post_init__(self) -> None:
        PartsQuery.__post_init__(self)
        _check_limit(self.limit)


@dataclass(frozen=True, slots=True)
class ExportQuery(PartsQuery):
    """A file of parts.

    Attributes:
        format: of the file
        check: whether is only asked if it can be made

    Raises:
        ValueError: as for ``PartsQuery``, or another format
    """

    format: str = "csv"
    check: bool = False

    def __post_init__(self) -> None:
        PartsQuery.__post_init__(self)
        if self.format not in FORMATS:
            raise ValueError(f"format is {self.format[:20]!r}, wanted {', '.join(FORMATS)}")


@dataclass(frozen=True, slots=True)
class FrameQuery:
    """Which picture of a part.

    Attributes:
        width: of a small picture in pixels; None for the frame's own size
        triggered_at: changes nothing but the address. A browser fetches an address once for a page,
            and ids begin anew when the records are replaced
    """

    width: int | None = None
    triggered_at: str | None = None

    def __post_init__(self) -> None:
        if self.width is not None and self.width not in WIDTHS:
            raise ValueError(
                f"width is {self.width}, wanted {WIDTHS.start} to {WIDTHS.stop - 1} pixels"
            )


@dataclass(frozen=True, slots=True)
class QueueQuery:
    """Attributes: the most parts of an answer."""

    limit: int = 50

    def __post_init__(self) -> None:
        _check_limit(self.limit)


@dataclass(frozen=True, slots=True)
class QualityQuery:
    """Attributes: a job and a time, as for ``PartsQuery``."""

    job: int | None = None
    since: str | None = None
    until: str | None = None

    def __post_init__(self) -> None:
        self.filter()

    def filter(self, labelled: bool | None = None) -> Filter:
        """The filter of the records."""
        return PartsQuery(
            job=self.job, since=self.since, until=self.until, labelled=labelled
        ).filter()


@dataclass(frozen=True, slots=True)
class LabelForm:
    """Attributes: what the part really is, why, and a comment."""

    verdict: str
    reason: str
    comment: str = ""

    def __post_init__(self) -> None:
        if self.verdict not in ("good", "bad"):
            raise ValueError(f"verdict is {self.verdict[:20]!r}, wanted good or bad")
        if len(self.comment) > MOST_COMMENT:
            raise ValueError(f"comment has more than {MOST_COMMENT} characters")


def _check_limit(limit: int) -> None:
    if not 1 <= limit <= MOST_PARTS:
        raise ValueError(f"limit is {limit}, wanted 1 to {MOST_PARTS}")


def _as_recorded(name: str, text: str | None) -> str | None:
    """A time in UTC as the records have it, so that texts compare as times do."""
    if text is None:
        return None
    try:
        found = datetime.fromisoformat(text)
        moment = found if found.tzinfo is not None else found.replace(tzinfo=UTC)
        return moment.astimezone(UTC).isoformat(timespec="microseconds")
    except (ValueError, OverflowError):
        raise ValueError(
            f"{name} is {text[:40]!r}, wanted a time such as 2026-03-01T06:00:00Z"
        ) from None
