"""Forms of changes of jobs."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from rdx_fast.wording import plain

_MAX_TEXT = 500  # characters
# Whether a polygon crosses itself is checked side against side.
_MAX_REGIONS, _MAX_CORNERS = 64, 200
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class LimitsForm:
    """Limits of one region in one executed precision.

    Attributes:
        region: name of the region
        executed: precision
        ok_below: the first limit
        ng_above: the second limit
        reason: for the history
        base: SHA-256 of the manifest that they were entered for; None for any

    Raises:
        ValueError: the limits are out of order, or a text is
    """

    region: str
    executed: str
    ok_below: float
    ng_above: float
    reason: str
    base: str | None = None

    def __post_init__(self) -> None:
        if not 0 < self.ok_below <= self.ng_above:
            raise ValueError(
                f"ok_below is {self.ok_below:g} and ng_above {self.ng_above:g}: wanted positive "
                f"numbers, of which the first does not exceed the second"
            )
        object.__setattr__(self, "reason", plain(self.reason))
        if not 0 < len(self.reason) <= _MAX_TEXT:
            raise ValueError(f"wanted a reason of 1 to {_MAX_TEXT} characters")


@dataclass(frozen=True, slots=True)
class RegionForm:
    """A region with its corners, x and y in frame pixels, or one that is kept as it is."""

    name: str
    kind: Literal["include", "ignore"]
    polygon: tuple[tuple[float, float], ...] | None = None
    keep: bool = False

    def __post_init__(self) -> None:
        if self.keep == (self.polygon is not None):
            raise ValueError(f"region {self.name[:60]!r} needs either a polygon or keep = true")
        if len(self.name) > 100 or len(self.polygon or ()) > _MAX_CORNERS:
            raise ValueError(
                f"region {self.name[:60]!r} has a name of more than 100 characters or more than "
                f"{_MAX_CORNERS} corners"
            )


@dataclass(frozen=True, slots=True)
class RegionsForm:
    """All regions of a job.

    Attributes:
        regions: in the order in which they are painted
        false_reject: share of good parts that may be NG under the limits that are calibrated
        base: SHA-256 of the manifest that they were drawn for; None for any

    Raises:
        ValueError: there are too many, or the share is out of range
    """

    regions: tuple[RegionForm, ...]
    false_reject: float = 0.005
    base: str | None = None

    def __post_init__(self) -> None:
        if len(self.regions) > _MAX_REGIONS:
            raise ValueError(f"{len(self.regions)} regions are given, wanted at most 64")
        if not 1e-6 <= self.false_reject <= 0.5:
            raise ValueError(f"false_reject is {self.false_reject:g}, wanted 0.000001 to 0.5")


@dataclass(frozen=True, slots=True)
class DiscardForm:
    """The candidate to remove.

    Attributes:
        sha256: of its manifest

    Raises:
        ValueError: ``sha256`` is none
    """

    sha256: str

    def __post_init__(self) -> None:
        _check_sha256(self.sha256)


@dataclass(frozen=True, slots=True)
class ReleaseForm:
    """The version to release.

    Attributes:
        sha256: of its manifest
        base: likewise of the released version that it was compared with; None for any

    Raises:
        ValueError: ``sha256`` is none
    """

    sha256: str
    base: str | None = None

    def __post_init__(self) -> None:
        _check_sha256(self.sha256)


@dataclass(frozen=True, slots=True)
class JobForm:
    """The job to select."""

    job: int


@dataclass(frozen=True, slots=True)
class AuditQuery:
    """How many of the newest entries."""

    last: int = 200

    def __post_init__(self) -> None:
        if not 1 <= self.last <= 10_000:
            raise ValueError(f"last is {self.last}, wanted 1 to 10000")


def _check_sha256(sha256: str) -> None:
    if not _SHA256.fullmatch(sha256):
        raise ValueError("sha256 is not 64 hexadecimal digits")
