"""From how many batches on RD with Expert is better than RD4AD after the same time."""

from __future__ import annotations

from math import inf

import pytest

from rdx_fast.bench import pages
from rdx_fast.bench.break_even import BASELINE, VARIANTS, better_from, least_steps, margins
from rdx_fast.bench.pages.rows import Row
from rdx_fast.cli.estimate import EXPERT_LEAST_ITERATIONS
from support.checkout import ROOT

ROWS = ROOT / pages.RESULTS / "convergence.jsonl"
PLAIN, MASKED = VARIANTS
NAMES = {
    "mvtec_transistor_256": "transistor",
    "mvtec_transistor_turned": "transistor turned at random",
    "mvtec_toothbrush_256": "toothbrush",
}


def row(name: str, step: int, mean: float, seed: int = 1, of: str = "a") -> Row:
    """A row whose figures have this mean."""
    figures = {"image_auroc": mean - 0.1, "pixel_auroc": mean, "aupro": mean + 0.1}
    key = {"bench": "convergence", "dataset": of, "name": name, "seed": seed, "step": step}
    recipe = {"method": "rd4ad" if name == BASELINE else "rd-expert", **SETTING}
    trained = {"recipe": recipe, "trained_in": "bf16"}
    return key | trained | {"figures": figures | {"pixel_ap": 9.0}}


def pace(method: str, seconds: float, precision: str = "bf16") -> Row:
    timed = {"bench": "training", "method": method, "precision": precision, "seconds": seconds}
    return timed | SETTING | MACHINE


# A batch of RD with Expert takes as long as five of RD4AD, which reaches 0.5 after 10 and 0.7 after
# 30.
SETTING = {"backbone": "b", "image_size": [64, 64], "batch": 16}
MACHINE = {"cpu_features": ["AVX2"], "threads": 1}
PACES = [pace("rd4ad", 9), pace("rd4ad", 0.1), pace("rd-expert", 0.5), pace("rd-expert", 9, "fp32")]
RD4AD = [*PACES, row(BASELINE, 10, 0.5), row(BASELINE, 30, 0.7)]
EXPERT = [row(PLAIN, 1, 0.4), row(PLAIN, 5, 0.7), row(PLAIN, 20, 0.72)]


def test_margins_are_of_the_same_time() -> None:
    wanted = {1: -0.1, 5: 0.05, 20: 0.02}
    assert margins([*EXPERT[::-1], *RD4AD], "a", PLAIN) == pytest.approx(wanted)
    same = dict.fromkeys(wanted, 0)
    assert margins([*RD4AD, *EXPERT], "a", PLAIN, ["pixel_ap"]) == pytest.approx(same)
    assert margins([*RD4AD, *EXPERT], "a", MASKED) == {}
    assert margins(EXPERT, "a", PLAIN) == {}
    other = pace("rd-expert", 0.5) | {"threads": 2}
    with pytest.raises(ValueError, match="different machines, threads 2 and 1"):
        margins([*RD4AD, other, *EXPERT], "a", PLAIN)
    with pytest.raises(ValueError, match="no results of 'training'"):
        margins([*RD4AD[len(PACES) :], *EXPERT], "a", PLAIN)


def test_margins_are_means_over_seeds() -> None:
    rows = [*RD4AD, *EXPERT, row(BASELINE, 10, 0.6, seed=2), row(PLAIN, 5, 0.55, seed=2)]
    rows.append(row(PLAIN, 5, 0.1, seed=3))  # without rows of the baseline
    rows.append(row(PLAIN, 5, 0.1, of="b"))
    assert margins(rows, "a", PLAIN) == pytest.approx({1: -0.1, 5: 0.0, 20: 0.02})
    rows += [row(BASELINE, 10, 0.1), row(BASELINE, 10, 0.5)]  # the newest counts
    assert margins(rows, "a", PLAIN) == pytest.approx({1: -0.1, 5: 0.0, 20: 0.02})


def test_better_from_then_on() -> None:
    assert better_from({2: 0.1, 8: -0.1, 20: 0.1, 30: 0.2}) == 20
    assert better_from({2: 0.1, 8: 0.1}) == 2
    assert better_from({2: 0.1, 8: 0.0}) == inf
    assert better_from({}) == inf


def test_least_steps_are_those_of_the_better_variant() -> None:
    rows = [*RD4AD, *EXPERT]
    assert least_steps(rows) == {"a": 5}
    rows.append(row(MASKED, 2, 0.6))
    rows += [row(BASELINE, 10, 0.5, of="b"), row(MASKED, 40, 0.6, of="b")]
    rows += [row(BASELINE, 10, 0.5, of="c"), row(MASKED, 40, 0.4, of="c")]
    assert least_steps(rows) == {"a": 2, "b": 40, "c": inf}
    with pytest.raises(ValueError, match="no results of 'convergence'"):
        least_steps(EXPERT)


def test_a_data_set_is_not_left_out_until_both_methods_are_recorded() -> None:
    assert least_steps([*RD4AD, *EXPERT, row(BASELINE, 10, 0.5, of="b")]) == {"a": 5, "b": inf}


@pytest.mark.skipif(not ROWS.is_file(), reason=f"{ROWS.name} is not recorded yet")
def test_the_numbers_that_train_warns_with_are_those_of_the_rows() -> None:
    rows = pages.read_rows(ROOT / pages.RESULTS)
    found = {NAMES[on]: None if least == inf else least for on, least in least_steps(rows).items()}
    assert found == EXPERT_LEAST_ITERATIONS
