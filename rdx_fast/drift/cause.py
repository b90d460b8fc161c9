"""Why an alarm of drift was raised: lamp, lens or part, in words and numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

LIGHT, LENS, PART = CAUSES = ("lamp or exposure", "lens or focus", "material or part")
_REMEDIES = {
    LIGHT: "Check the lamp, its supply, ambient light and exposure",
    LENS: "Clean the lens and the glass before it, and check the focus",
    PART: (
        "Look at recent parts and their heat maps: a new material or tool, or, where the maps are "
        "bright at one place, dirt on the lens or the fixture"
    ),
}
_INTENDED = "If the change is intended, calibrate the bundle again. Then reset the alarm."
_MOVED = 4.0  # standard errors


@dataclass(frozen=True, slots=True)
class Shift:
    """How the mean of a signal has changed.

    Attributes:
        signal: its name
        before: mean of earlier values
        now: mean of recent values
        spread: standard deviation of earlier values
        earlier: number of earlier values
        recent: number of recent values
    """

    signal: str
    before: float
    now: float
    spread: float
    earlier: int
    recent: int

    @property
    def spreads(self) -> float:
        """The change in units of ``spread``; infinite if earlier values were all alike."""
        change = self.now - self.before
        if self.spread > 0:
            return change / self.spread
        return math.copysign(math.inf, change) if change else 0.0

    def errors(self, expected: float) -> float:
        """How far the recent mean is above an expected one, in standard errors."""
        change = self.now - expected
        error = self.spread * math.sqrt(1 / self.recent + 1 / self.earlier)
        return change / error if error else math.copysign(math.inf, change) if change else 0.0

    @property
    def moved(self) -> int:
        """1 if the mean rose by more than chance explains, -1 if it fell, else 0."""
        errors = self.errors(self.before)
        return int(math.copysign(1, errors)) if abs(errors) > _MOVED else 0

    def __str__(self) -> str:
        if not self.moved:
            return f"{self.signal} did not move ({self.before:.4g} before, {self.now:.4g} now)"
        moved = "rose" if self.moved > 0 else "fell"
        units = f", {abs(self.spreads):.1f} of its usual spreads" if self.spread else ""
        return f"{self.signal} {moved} from {self.before:.4g} to {self.now:.4g}{units}"


@dataclass(frozen=True, slots=True)
class DriftAlarm:
    """An alarm of drift.

    Attributes:
        cause: the likely one, of ``CAUSES``
        signal: the signal whose statistic raised it
        parts: number of recent parts that it is about
        shifts: of each signal that has recent and earlier values
    """

    cause: str
    signal: str
    parts: int
    shifts: tuple[Shift, ...]

    @property
    def text(self) -> str:
        """Cause, evidence and remedy in words."""
        evidence = "; ".join(map(str, self.shifts))
        if not any(shift.signal == self.signal and shift.moved for shift in self.shifts):
            evidence += f"; the values of {self.signal} are spread otherwise than before"
        return (
            f"{self.cause}: over the last {self.parts} parts {evidence}. {_REMEDIES[self.cause]}. "
            f"{_INTENDED}"
        )

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, facts: dict[str, Any]) -> DriftAlarm:
        """Of the values of ``to_json``."""
        return cls(**{**facts, "shifts": tuple(Shift(**shift) for shift in facts["shifts"])})


def diagnose(signal: str, parts: int, shifts: Sequence[Shift]) -> DriftAlarm:
    """Say which cause is likely.

    Less light makes a frame darker and less sharp in the same proportion, more light brighter and
    no less sharp. Sharpness that fell further was lost in the lens: by focus alone, or with a
    change of brightness by a veil. If neither moved, scores changed because of the parts.

    Args:
        signal: the one whose statistic raised the alarm
        parts: number of recent parts
        shifts: of "score", "brightness" and "sharpness", as far as known
    """
    by_name = {shift.signal: shift for shift in shifts}
    brightness, sharpness = by_name.get("brightness"), by_name.get("sharpness")
    by_light, share = 0.0, 1.0  # evidence for light, and what it leaves of the sharpness
    if brightness is not None and brightness.before > 0:
        by_light = abs(brightness.errors(brightness.before))
        share = min(1.0, brightness.now / brightness.before)
    by_lens, blurred = 0.0, False
    if sharpness is not None:
        by_lens = -sharpness.errors(share * sharpness.before)
        fell = sharpness.now < sharpness.before
        blurred = fell and (signal == "sharpness" or sharpness.moved < 0)
    if by_lens > _MOVED or (blurred and by_lens > by_light):
        cause = LENS
    elif by_light > _MOVED or blurred or signal == "brightness":
        cause = LIGHT
    else:
        cause = PART
    return DriftAlarm(cause, signal, parts, tuple(shifts))
