"""A monitor of a line's parts: its alarms, their acknowledgement, and its state."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rdx_fast.drift.cause import DriftAlarm, Shift, diagnose
from rdx_fast.drift.conformal import MEMORY, OnlinePValues, ShiryaevRoberts, Values

SIGNALS = ("score", "brightness", "sharpness")
State = dict[str, NDArray[Any]]

_RECENT = 1000  # values of each signal that are kept in their order, to say what has changed


class _Signal:
    """One signal of a monitor."""

    def __init__(self, rng: np.random.Generator, earlier: ArrayLike, memory: int) -> None:
        self.rng = rng
        self.p_values = OnlinePValues(rng, earlier, memory)
        self.statistic = ShiryaevRoberts()
        self.recent: deque[tuple[int, float]] = deque(maxlen=_RECENT)  # part, value

    def add(self, part: int, value: float) -> float:
        self.recent.append((part, value))
        return self.statistic.add(self.p_values.add(value))

    def changed(self) -> int:
        """Number of the part that the change is likely to have begun with: the values since then
        differ most clearly from all."""
        memory = self.p_values.values
        off = np.array([value for _, value in self.recent]) - memory.mean()
        if self.statistic.of_spread:
            off = off**2 - memory.var()
        clearly = np.abs(np.cumsum(off[::-1])) / np.sqrt(np.arange(1, len(off) + 1))
        return self.recent[-1 - int(clearly.argmax())][0]

    def shift(self, name: str, since: int) -> Shift | None:
        """How the values from the part ``since`` on differ from those before. None if there are
        none of one kind."""
        now = np.array([value for part, value in self.recent if part >= since])
        before = _without(self.p_values.values, np.sort(now))
        if not (len(now) and len(before)):
            return None
        means = float(before.mean()), float(now.mean())
        return Shift(name, *means, float(before.std()), len(before), len(now))


class DriftMonitor:
    """Watches a line's parts for changes of score, brightness and sharpness.

    Without a change at most n / ``false_alarm_every`` alarms are expected in n parts, whatever the
    distribution of the values, however the signals depend on each other, and whenever alarms are
    acknowledged. This holds for parts that are exchangeable: where they come in batches or follow
    the time of day, these are changes, and are found.

    From an alarm until it is acknowledged values are ignored, so that those of the fault do not
    become the new normal.

    Args:
        false_alarm_every: the stated number of parts
        seed: of the random numbers that break ties
        earlier: values by signal, of parts that were measured before; scores of a calibration: see
            ``passed_scores``
        memory: see ``OnlinePValues``

    Attributes:
        limit: what a signal's statistic raises the alarm at: ``false_alarm_every`` times the number
            of signals
        alarm: the alarm that is not acknowledged yet; None if there is none

    Raises:
        ValueError: ``false_alarm_every`` is below 1
    """

    def __init__(
        self,
        false_alarm_every: int,
        seed: int = 0,
        earlier: Mapping[str, ArrayLike] | None = None,
        memory: int = MEMORY,
    ) -> None:
        if false_alarm_every < 1:
            raise ValueError(f"false_alarm_every is {false_alarm_every} parts, wanted at least 1")
        self.limit = float(false_alarm_every * len(SIGNALS))
        self.alarm: DriftAlarm | None = None
        self._parts = 0
        known = earlier or {}
        self._signals = {
            name: _Signal(np.random.default_rng([seed, i]), known.get(name, ()), memory)
            for i, name in enumerate(SIGNALS)
        }

    @property
    def statistics(self) -> dict[str, float]:
        """S of each signal."""
        return {name: signal.statistic.value for name, signal in self._signals.items()}

    def add(self, values: Mapping[str, float]) -> DriftAlarm | None:
        """Take the values of the next part.

        Args:
            values: by signal. A signal may be missing, such as the score of a part that did not
                pass, which is then no part for it

        Returns:
            The alarm that these values raise; None if they raise none.

        Raises:
            ValueError: an unknown signal, or a value that is not finite
        """
        if not (values.keys() <= set(SIGNALS) and np.isfinite(list(values.values())).all()):
            raise ValueError(f"got {dict(values)}, wanted finite values of {', '.join(SIGNALS)}")
        if self.alarm is not None:
            return None
        self._parts += 1
        found = {name: self._signals[name].add(self._parts, v) for name, v in values.items()}
        loudest = max(found, key=found.__getitem__, default=None)
        if loudest is not None and found[loudest] >= self.limit:
            since = self._signals[loudest].changed()
            shifts = (signal.shift(name, since) for name, signal in self._signals.items())
            self.alarm = diagnose(loudest, self._parts - since + 1, [s for s in shifts if s])
        return self.alarm

    def acknowledge(self) -> None:
        """End the alarm: the statistics begin at 0 again, all values stay in memory."""
        self.alarm = None
        for signal in self._signals.values():
            signal.statistic = ShiryaevRoberts()

    def state(self) -> State:
        """All that ``restored`` needs, as arrays."""
        facts = {
            "parts": self._parts,
            "alarm": None if self.alarm is None else self.alarm.to_json(),
            "wealth": {name: s.statistic.wealth for name, s in self._signals.items()},
            "rng": {name: s.rng.bit_generator.state for name, s in self._signals.items()},
        }
        state: State = {"facts": np.array(json.dumps(facts))}
        for name, signal in self._signals.items():
            state[f"{name}_older"] = signal.p_values.older
            state[f"{name}_newest"] = np.array(signal.p_values.newest, np.float64)
            state[f"{name}_recent"] = np.array(signal.recent, np.float64).reshape(-1, 2)
        return state

    @classmethod
    def restored(cls, state: State, false_alarm_every: int, memory: int = MEMORY) -> DriftMonitor:
        """A monitor that goes on from a ``state``, bit for bit as if nothing had been in between.

        Raises:
            ValueError: it is no such state, or ``false_alarm_every`` is below 1
        """
        monitor = cls(false_alarm_every, memory=memory)
        try:
            facts = json.loads(str(state["facts"]))
            for name, signal in monitor._signals.items():
                signal.rng.bit_generator.state = facts["rng"][name]
                signal.statistic.wealth = [float(part) for part in facts["wealth"][name]]
                signal.p_values.older = state[f"{name}_older"]
                signal.p_values.newest = state[f"{name}_newest"].tolist()
                pairs = state[f"{name}_recent"].tolist()
                signal.recent.extend((int(part), value) for part, value in pairs)
            monitor._parts = facts["parts"]
            alarm = facts["alarm"]
            monitor.alarm = None if alarm is None else DriftAlarm.from_json(alarm)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"this is no state of a drift monitor: {error!r}") from error
        return monitor


def passed_scores(scores: ArrayLike, limits: ArrayLike) -> Values:
    """Of calibration scores those that a monitor may begin with, as shares of the limit of OK.

    A limit that was set at one of the scores is not exceeded by it, and no draw from those that
    pass either: only scores below the limit are.

    Args:
        scores: ``[n, R]`` of good parts, in R regions
        limits: ``[R]``, the highest score that is OK

    Returns:
        ``[m]``: the largest share of a limit among the regions, of the m parts below all limits.
    """
    shares = np.max(np.asarray(scores, np.float64) / np.asarray(limits, np.float64), axis=1)
    return shares[shares < 1]


def _without(memory: Values, values: Values) -> Values:
    """Sorted ``memory`` without sorted ``values``, each as often as it occurs there."""
    repeated = np.arange(len(values)) - np.searchsorted(values, values)
    places = np.searchsorted(memory, values) + repeated
    there = places < len(memory)
    places, values = places[there], values[there]
    return np.delete(memory, places[memory[places] == values])
