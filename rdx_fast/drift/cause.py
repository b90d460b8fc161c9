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

    def differs(self, expected: float) -> int:
        """1 or -1 if the recent mean is above or below an expected one by more than chance
        explains, else 0."""
        error = self.spread * math.sqrt(1 / self.recent + 1 / self.earlier)
        change = self.now - expected
        return 0 if abs(change) <= _MOVED * error else int(math.copysign(1, change))

    @property
    def moved(self) -> int:
        """1 if the mean rose by more than chance explains, -1 if it fell, else 0."""
        return self.differs(self.before)

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
    light = 1.0
    if brightness is not None and brightness.moved and brightness.before > 0:
        light = min(1.0, brightness.now / brightness.before)
    if sharpness is not None and sharpness.differs(light * sharpness.before) < 0:
        cause = LENS
    elif (brightness is not None and brightness.moved) or signal == "brightness":
        cause = LIGHT
    else:
        cause = PART
    return DriftAlarm(cause, signal, parts, tuple(shifts))
