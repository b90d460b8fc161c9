from __future__ import annotations

import numpy as np
import pytest

from rdx_fast.limits.calibration import calibrate_threshold


def test_rank_of_the_threshold() -> None:
    scores = np.random.default_rng(0).permutation(np.arange(1.0, 100.0))
    threshold = calibrate_threshold(scores, 0.05)
    assert threshold.value == 95.0  # ceil(100 * 0.95) = 95th smallest of 99
    assert threshold.expected_false_reject_rate == pytest.approx(0.05)
    assert threshold.good_images == 99


def test_few_images_promise_less() -> None:
    threshold = calibrate_threshold([3.0, 1.0, 2.0], 0.01)
    assert threshold.value == 3.0
    assert threshold.false_reject_rate == 0.01
    assert threshold.expected_false_reject_rate == pytest.approx(0.25)


def test_promise_is_kept() -> None:
    rng = np.random.default_rng(1)
    rejected = [
        rng.gamma(3, size=500) > calibrate_threshold(rng.gamma(3, size=99), 0.1).value
        for _ in range(400)
    ]
    assert np.mean(rejected) == pytest.approx(0.1, abs=0.01)


@pytest.mark.parametrize(
    ("scores", "rate", "message"),
    [
        ([], 0.1, "no good scores"),
        ([1.0, np.nan], 0.1, "NaN or infinity"),
        ([1.0], 0.0, "between 0 and 1"),
        ([1.0], 1.0, "between 0 and 1"),
    ],
)
def test_refused(scores, rate, message) -> None:
    with pytest.raises(ValueError, match=message):
        calibrate_threshold(scores, rate)
