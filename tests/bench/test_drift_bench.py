"""The benchmark of drift: simulated changes do what they say; rates and delays are counted."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from rdx_fast.bench import drift, drift_generated
from rdx_fast.bench.drift_changes import CHANGES, changed
from rdx_fast.recipe.frame_check import look_at, sharpness_of

FRAME = np.random.default_rng(0).integers(80, 160, (64, 64, 3), dtype=np.uint8)
OF = {name: (change, strengths) for name, _, change, strengths in CHANGES}


def after(name: str, frame: np.ndarray = FRAME) -> np.ndarray:
    change, strengths = OF[name]
    return changed([frame], change, strengths[-1])[0]


@pytest.mark.parametrize("name", OF)
def test_what_a_change_moves(name: str) -> None:
    found = after(name)
    assert found.dtype == np.uint8
    assert found.shape == FRAME.shape
    assert (found != FRAME).any()
    brightness = look_at(found).brightness / look_at(FRAME).brightness
    sharpness = sharpness_of(found) / sharpness_of(FRAME)
    if name in ("lamp", "stray light"):
        assert abs(brightness - 1) > 0.05
    if name in ("focus", "texture of the material", "colour of the material"):
        assert brightness == pytest.approx(1, abs=0.02)
    if name in ("focus", "veil on the lens", "dirt on the lens"):
        assert sharpness < 0.95
    if name == "lamp":
        assert sharpness == pytest.approx(brightness, abs=0.02)
    if name == "dirt on the lens":
        assert (found[:, :5] == FRAME[:, :5]).all(), "at one place"
    if not name.startswith("colour"):
        assert after(name, FRAME[..., 0]).shape == (64, 64)


def values(brightness: float = 0.4) -> drift.Values:
    rng = np.random.default_rng(1)
    return rng.normal([0.6, brightness, 0.02], [0.1, 0.01, 0.001], (200, 3))


def test_delays_and_causes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drift, "RUNS", 4)
    monkeypatch.setattr(drift, "BEFORE", 300)
    row = drift.detection(values(), partial(drift.drawn, values(0.38), 200))
    assert row["found"] == 4
    assert 3 < row["delay"]["p50"] <= row["delay"]["p90"] < 60
    assert row["causes"].get("lamp or exposure", 0) >= 3
    moved = drift.shifts(values(), values(0.38))["shifts"]
    assert moved["brightness"] == pytest.approx(-0.02 / values()[:, 1].std(), abs=0.01)
    row = drift.detection(values(), partial(drift.drawn, values(), 100))
    assert (row["found"], row["delay"], row["causes"]) == (0, {"p50": None, "p90": None}, {})
    (part,) = list(drift.drawn(np.array([[1.5, 0.4, 0.02]]), 1, np.random.default_rng(0)))
    assert part == {"brightness": 0.4, "sharpness": 0.02}, "the score of a reject does not count"


def test_rates() -> None:
    assert 5 < drift.false_alarms(values(), 20, 4, 500) <= 100
    assert drift.false_alarms(values(), 1000, 1, 500, batch=3) > 1
    fixed, ranked = (drift_generated.normal_alarms(which, 50, 5, 1000) for which in (True, False))
    assert ranked <= 100 < 2 * fixed
