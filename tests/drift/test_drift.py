"""Drift: p-values, the rate of false alarms, restarts and causes, on generated values."""

from __future__ import annotations

import math
from collections.abc import Callable
from copy import deepcopy
from itertools import permutations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from rdx_fast.drift import (
    LENS,
    LIGHT,
    PART,
    SIGNALS,
    DriftAlarm,
    DriftMonitor,
    OnlinePValues,
    ShiryaevRoberts,
    passed_scores,
)

Draw = Callable[[np.random.Generator, int], NDArray[np.float64]]


# p-values


@pytest.mark.parametrize("earlier", [(), (2.5, 4.5)])
def test_every_order_of_values_has_its_own_p_values(earlier: tuple[float, ...]) -> None:
    """So that in random order each p-value is uniform, and independent of the others."""
    seen = set()
    for order in permutations([1.0, 2.0, 3.0, 4.0, 5.0]):
        found = OnlinePValues(np.random.default_rng(0), earlier)
        ps = [found.add(value) for value in order]
        assert all(0 < p <= 1 for p in ps)
        seen.add(tuple(math.ceil(p * (len(earlier) + i + 1)) for i, p in enumerate(ps)))
    assert len(seen) == math.factorial(5)


@pytest.mark.parametrize(
    "draw",
    [
        lambda rng, n: rng.normal(size=n),
        lambda rng, n: rng.integers(0, 4, n).astype(float),
        lambda rng, n: np.ones(n),
        lambda rng, n: rng.standard_cauchy(n),
    ],
    ids=["normal", "four values", "one value", "heavy tails"],
)
@pytest.mark.parametrize("memory", [300, 10_000])
def test_p_values_are_uniform_and_independent(draw: Draw, memory: int) -> None:
    """Also where the memory forgets half of itself again and again."""
    rng = np.random.default_rng(5)
    found = OnlinePValues(rng, draw(rng, 50), memory)
    ps = np.array([found.add(value) for value in draw(rng, 4000)])
    assert stats.kstest(ps, "uniform").pvalue > 0.001
    for lag in (1, 2, 50, 150):
        assert stats.spearmanr(ps[lag:], ps[:-lag]).pvalue > 0.001
    assert len(found.values) <= memory + 256
    assert list(found.values) == sorted(found.values)


def test_large_values_have_small_p_values() -> None:
    found = OnlinePValues(np.random.default_rng(0), np.arange(99))
    assert found.add(1000.0) <= 0.01
    assert found.add(-1000.0) > 100 / 101


# The statistic


def test_it_grows_by_one_on_average() -> None:
    """Whatever came before: less the number of values it is a martingale."""
    statistic = ShiryaevRoberts()
    grid = (np.arange(4000) + 0.5) / 4000
    for earlier in (0.3, 0.9, 0.05, 0.02):
        after = [deepcopy(statistic).add(p) for p in grid.tolist()]
        assert np.mean(after) == pytest.approx(statistic.value + 1, rel=0.01)
        statistic.add(earlier)
    assert statistic.value > 1


def count_alarms(monitor: DriftMonitor, values: dict[str, NDArray[np.float64]]) -> int:
    """Each alarm is acknowledged when the next part comes."""
    alarms = 0
    for row in zip(*(of.tolist() for of in values.values()), strict=True):
        if monitor.alarm is not None:
            monitor.acknowledge()
        alarms += monitor.add(dict(zip(values, row, strict=True))) is not None
    return alarms


def dependent(rng: np.random.Generator, n: int) -> dict[str, NDArray[np.float64]]:
    """Sharpness follows brightness, with few different values; scores have heavy tails."""
    brightness = rng.normal(0.5, 0.02, n)
    return {
        "score": rng.lognormal(-1, 1, n),
        "brightness": brightness,
        "sharpness": np.round(0.1 * brightness, 3),
    }


@pytest.mark.parametrize(
    ("every", "parts"), [(20, 8_000), pytest.param(1000, 400_000, marks=pytest.mark.slow)]
)
def test_false_alarms_are_as_rare_as_stated(every: int, parts: int) -> None:
    monitor = DriftMonitor(every, memory=2000)
    alarms = count_alarms(monitor, dependent(np.random.default_rng(2), parts))
    assert parts / every / 4 < alarms <= parts / every


def test_a_reset_at_any_moment_causes_no_more_of_them() -> None:
    monitor = DriftMonitor(20, memory=2000)
    values = dependent(np.random.default_rng(2), 4000)
    alarms = 0
    for i in range(4000):
        if i % 7 == 0 or max(monitor.statistics.values()) > 40:
            monitor.acknowledge()
        alarms += monitor.add({name: float(of[i]) for name, of in values.items()}) is not None
    assert alarms <= 4000 / 20


# Changes and their causes


def usual(rng: np.random.Generator) -> dict[str, float]:
    light = rng.normal(1, 0.02)
    return {
        "score": float(rng.normal(0.5, 0.1)),
        "brightness": float(0.4 * light),
        "sharpness": float(0.02 * light * rng.normal(1, 0.02)),
    }


def changed(
    change: Callable[[dict[str, float]], dict[str, float]], seed: int = 0
) -> tuple[int, DriftAlarm]:
    """Parts from the change to the alarm, and the alarm."""
    rng = np.random.default_rng(seed)
    monitor = DriftMonitor(10_000)
    for _ in range(300):
        assert monitor.add(usual(rng)) is None
    for i in range(1, 301):
        alarm = monitor.add(change(usual(rng)))
        if alarm is not None:
            return i, alarm
    raise AssertionError("no alarm")


@pytest.mark.parametrize(
    ("change", "cause", "words"),
    [
        (
            lambda v: {
                **v,
                "brightness": 0.95 * v["brightness"],
                "sharpness": 0.95 * v["sharpness"],
            },
            LIGHT,
            "brightness fell from 0.",
        ),
        (
            lambda v: {
                **v,
                "brightness": 1.05 * v["brightness"],
                "sharpness": 1.05 * v["sharpness"],
            },
            LIGHT,
            "brightness rose from 0.",
        ),
        (lambda v: {**v, "brightness": v["brightness"] + 0.03}, LIGHT, "sharpness did not move"),
        (lambda v: {**v, "sharpness": 0.9 * v["sharpness"]}, LENS, "brightness did not move"),
        (
            # A veil: what is seen through it is weaker, and it is bright itself.
            lambda v: {
                **v,
                "brightness": v["brightness"] + 0.02,
                "sharpness": 0.9 * v["sharpness"],
            },
            LENS,
            "brightness rose from 0.",
        ),
        (lambda v: {**v, "score": v["score"] + 0.15}, PART, "score rose from 0."),
        (lambda v: {**v, "sharpness": 1.1 * v["sharpness"]}, PART, "sharpness rose"),
        (
            lambda v: {**v, "score": 0.5 + 3 * (v["score"] - 0.5)},
            PART,
            "the values of score are spread otherwise",
        ),
    ],
    ids=["dimmer", "brighter", "stray light", "focus", "veil", "part", "texture", "spread"],
)
def test_the_cause_of_a_change(
    change: Callable[[dict[str, float]], dict[str, float]], cause: str, words: str
) -> None:
    parts, alarm = changed(change)
    assert parts < 60
    assert alarm.cause == cause
    assert words in alarm.text
    assert alarm.text.startswith(f"{cause}: over the last {alarm.parts} parts")
    assert 0.5 * parts <= alarm.parts <= parts + 5, "since the change"


def test_a_signal_that_never_moved_before() -> None:
    monitor = DriftMonitor(100)
    for i in range(60):
        assert monitor.add({"brightness": 0.5 if i < 40 else 0.4}) is None or i > 40
    assert monitor.alarm is not None
    assert "brightness fell from 0.5 to 0.4. Check the lamp" in monitor.alarm.text
    assert "spreads" not in monitor.alarm.text


def test_from_an_alarm_to_its_end_values_are_ignored() -> None:
    rng = np.random.default_rng(0)
    monitor = DriftMonitor(1000)
    for _ in range(200):
        monitor.add(usual(rng))
    while monitor.alarm is None:
        monitor.add({**usual(rng), "brightness": 0.1})
    frozen = monitor.state()
    assert monitor.add({**usual(rng), "brightness": 0.1}) is None
    assert all(np.array_equal(frozen[name], now) for name, now in monitor.state().items())
    monitor.acknowledge()
    assert monitor.alarm is None
    assert set(monitor.statistics.values()) == {0}
    assert all(monitor.add(usual(rng)) is None for _ in range(100)), "what was usual is usual again"


def test_scores_of_the_calibration_come_first() -> None:
    """A line that differs from it is found though it does not change."""
    rng = np.random.default_rng(0)
    limits = [2.0, 4.0]
    calibration = rng.normal(1, 0.2, (200, 2)) * [1, 2]
    calibration[0] = [2.0, 1.0]  # the limit is one of the scores
    earlier = passed_scores(calibration, limits)
    assert len(earlier) == 199
    assert earlier.max() < 1
    monitor = DriftMonitor(1000, earlier={"score": earlier})
    assert any(monitor.add({"score": score}) for score in rng.normal(0.8, 0.1, 60).tolist())


def test_values_that_are_none() -> None:
    monitor = DriftMonitor(10)
    for values in ({"score": math.nan}, {"brightness": math.inf}, {"loudness": 1.0}):
        with pytest.raises(ValueError, match="wanted finite values of score, brightness"):
            monitor.add(values)
    assert monitor.add({}) is None
    with pytest.raises(ValueError, match="wanted at least 1"):
        DriftMonitor(0)


# Restarts


@pytest.mark.parametrize("saved", [0, 1, 300, 400, 620])
def test_a_restart_changes_nothing(saved: int) -> None:
    """Bit for bit: statistics, alarm, what is remembered, also where half is forgotten."""
    rng = np.random.default_rng(3)
    rows = [usual(rng) for _ in range(600)]
    rows += [{**usual(rng), "brightness": 0.3} for _ in range(30)]
    unbroken, broken = DriftMonitor(1000, seed=9, memory=250), DriftMonitor(1000, 9, memory=250)
    for i, row in enumerate(rows):
        if i == saved:
            broken = DriftMonitor.restored(broken.state(), 1000, memory=250)
        assert unbroken.add(row) == broken.add(row)
        assert unbroken.statistics == broken.statistics
    assert unbroken.alarm is not None
    for name, values in unbroken.state().items():
        np.testing.assert_array_equal(broken.state()[name], values)


def test_a_state_that_is_none() -> None:
    state = DriftMonitor(10).state()
    for wrong in (
        {},
        {**state, "facts": np.array("{}")},
        {**state, "facts": np.array("[]")},
        {name: of for name, of in state.items() if name != f"{SIGNALS[1]}_older"},
    ):
        with pytest.raises(ValueError, match="no state of a drift monitor"):
            DriftMonitor.restored(wrong, 10)
