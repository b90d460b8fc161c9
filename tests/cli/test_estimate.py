"""What ``train`` tells beforehand: length, time, and how far a time limit reaches."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from rdx_fast.cli import estimate
from rdx_fast.training import Progress, Recipe
from support.checkout import ROOT
from support.commands import run

EXPERT = Recipe(method="rd-expert")
PER_EPOCH = 14
LEAST = 900
MACHINE = "a batch on this machine (bf16"
RECORDED = estimate.EXPERT_LEAST_ITERATIONS


@pytest.fixture(autouse=True)
def recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is tested holds whatever number the newest rows give."""
    monkeypatch.setattr(estimate, "EXPERT_LEAST_ITERATIONS", {"a": 7, "b": LEAST})


def told(
    recipe: Recipe,
    *,
    pace: float,
    max_minutes: float | None = None,
    before: float = 60,
    first: int = 1,
    batches: int = 100,
    category: str | None = None,
) -> list[tuple[int, str]]:
    """What is told of a training, each with the number of the batch after which it is told.

    Args:
        recipe: options of the run
        pace: seconds of a batch; the first takes three times as long
        max_minutes: its time limit
        before: seconds before the first batch
        first: number of the first batch
        batches: batches that are trained
        category: of MVTec AD
    """
    now = 5000.0
    number = first
    lines: list[tuple[int, str]] = []
    tell = estimate.Estimate(
        recipe, category, max_minutes, lambda line: lines.append((number, line)), lambda: now
    )
    now += before + 2 * pace
    total = recipe.total_steps(PER_EPOCH)
    for number in range(first, min(first + batches, total + 1)):
        now += pace
        tell(Progress(number, total, 0, {"student": 1.0}, None, 0.0, PER_EPOCH, "bf16"))
    return lines


def test_time_of_the_published_length() -> None:
    assert told(EXPERT, pace=4) == [
        (6, f"4.00 s {MACHINE}, over 5 batches): the remaining 4994 take 5 h 33 min")
    ]
    assert told(Recipe(), pace=0.02, batches=2800) == [
        (501, f"20 ms {MACHINE}, over 500 batches): the remaining 2299 take 46 s")
    ]


def test_a_pace_is_measured_for_ten_seconds() -> None:
    """A few batches of a fast machine say little about its pace."""
    ((at, line),) = told(EXPERT, pace=0.5)
    assert at == 21
    assert line.endswith("the remaining 4979 take 41 min")
    assert not told(EXPERT, pace=0.5, batches=20)


def test_a_resumed_run_takes_what_remains_of_it() -> None:
    ((at, line),) = told(EXPERT, pace=4, first=4900)
    assert at == 4905
    assert line.endswith("the remaining 95 take 6 min")
    lines = told(EXPERT, pace=4, first=4900, max_minutes=3)
    # 60 s before the first, 12 s for it: 108 s are left for 27 more.
    assert (
        lines[1][1]
        == "--max-minutes 3 reaches about batch 4927 of 5000, 99% of the published length"
    )


def test_what_a_time_limit_reaches() -> None:
    # 60 s before the first batch and 12 s for it: 7128 s are left for 1782 more.
    _, (at, line) = told(EXPERT, pace=4, max_minutes=120)
    assert at == 6
    assert line == (
        "--max-minutes 120 reaches about batch 1783 of 5000, 36% of the published length"
    )
    *_, (_, line) = told(Recipe(epochs=10), pace=4, max_minutes=120)
    assert line == "--max-minutes 120 reaches all 140 batches, 5.0% of the published length"


def test_the_page_shows_what_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimate, "EXPERT_LEAST_ITERATIONS", RECORDED)
    page = (ROOT / "docs/how-to/expert.md").read_text()
    example = page.partition("```text\n")[2].partition("```")[0]
    assert [line for _, line in told(EXPERT, pace=4, max_minutes=20)] == example.splitlines()


def test_a_short_limit_is_not_spent_measuring() -> None:
    assert [at for at, _ in told(EXPERT, pace=4, before=0, max_minutes=1)] == [3, 3, 3]


@pytest.mark.parametrize(
    ("recipe", "length"),
    [
        (Recipe(epochs=40), "560 batches are 20% of the published 2800"),
        (Recipe(iterations=140), "140 batches are 5.0% of the published 2800"),
        (Recipe(method="rd-expert", iterations=4000), "4000 batches are 80% of the published 5000"),
    ],
)
def test_a_length_below_the_published_one(recipe: Recipe, length: str) -> None:
    assert told(recipe, pace=4)[0] == (1, length)


def test_a_category_with_a_longer_published_length() -> None:
    long = Recipe(method="rd-expert", iterations=5000)
    told_of = told(long, pace=4, category="cable")
    assert told_of[0] == (1, "5000 batches are 50% of the published 10000")
    assert not warnings(told_of)  # where a number of batches was enough, that number counts
    *_, (_, line) = told(long, pace=4, category="transistor", max_minutes=120)
    assert line.endswith("about batch 1783 of 5000, 18% of the published length")


@pytest.mark.parametrize("recipe", [Recipe(epochs=200), Recipe(epochs=300), EXPERT])
def test_the_published_length_needs_no_comparison(recipe: Recipe) -> None:
    assert [at for at, _ in told(recipe, pace=4)] == [6]


def warnings(lines: list[tuple[int, str]]) -> list[tuple[int, str]]:
    return [(at, line) for at, line in lines if line.startswith("warning: ")]


def test_too_few_batches_to_be_better_than_rd4ad() -> None:
    short = Recipe(method="rd-expert", iterations=LEAST - 1)
    ((at, line),) = warnings(told(short, pace=4, max_minutes=2))
    assert at == 1
    assert line.startswith(
        f"warning: {LEAST - 1} batches may be too few for rd-expert to be better"
    )
    assert f"it was: from 7 batches on (a), from {LEAST} batches on (b). Train {LEAST} or" in line
    assert line.endswith(
        "(--iterations), and compare both methods on your parts (rdx-fast experiment)"
    )
    assert not warnings(told(Recipe(method="rd-expert", iterations=LEAST), pace=4))
    assert not warnings(told(Recipe(iterations=1), pace=4, max_minutes=2))


def test_the_number_of_a_recorded_category_counts_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimate, "EXPERT_LEAST_ITERATIONS", {"screw": 7, "b": LEAST, "pill": None})
    for category, least in (("screw", 7), ("pill", LEAST), ("cable", LEAST)):
        for iterations in (least - 1, least):
            recipe = Recipe(method="rd-expert", iterations=iterations)
            assert bool(warnings(told(recipe, pace=4, category=category))) == (iterations < least)


def test_where_no_number_of_batches_was_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimate, "EXPERT_LEAST_ITERATIONS", {"a": LEAST, "b": None})
    ((_, line),) = warnings(told(Recipe(method="rd-expert", iterations=LEAST - 1), pace=4))
    assert f"it was: from {LEAST} batches on (a), at no recorded length (b). Train {LEAST}" in line
    assert not warnings(told(Recipe(method="rd-expert", iterations=LEAST), pace=4))
    # Where it was on no data set, the published length is the only one to advise.
    monkeypatch.setattr(estimate, "EXPERT_LEAST_ITERATIONS", {"b": None})
    ((_, line),) = warnings(told(Recipe(method="rd-expert", iterations=4999), pace=4))
    assert "it was: at no recorded length (b). Train 5000 or more (--iterations), and com" in line
    assert not warnings(told(EXPERT, pace=4))
    assert not warnings(told(Recipe(iterations=1), pace=4))


def test_a_limit_that_is_too_short_to_be_better_than_rd4ad() -> None:
    """The warning names a limit that is long enough."""
    ((at, line),) = warnings(told(EXPERT, pace=4, max_minutes=5))
    assert at == 6
    assert line.startswith("warning: 58 batches may be too few for ")
    found = re.search(r"Give --max-minutes (\d+) or more, continue with --resume", line)
    assert found
    enough = int(found[1])
    assert warnings(told(EXPERT, pace=4, max_minutes=enough - 1))
    assert not warnings(told(EXPERT, pace=4, max_minutes=enough))
    # The sixth batch ends after 92 s.
    just = (92 + 4 * (LEAST - 6) + 1) / 60
    lines = told(EXPERT, pace=4, max_minutes=just)
    assert f"about batch {LEAST} of" in lines[1][1]
    assert not warnings(lines)


def test_a_run_that_stops_before_its_pace_is_known() -> None:
    lines: list[str] = []
    tell = estimate.Estimate(EXPERT, None, 1, lines.append, lambda: 0.0)
    last = Progress(2, 5000, 0, {"student": 1.0}, None, 0.0, PER_EPOCH, "bf16")
    tell(last)
    tell.stopped(last)
    assert lines[0] == "2 batches trained in bf16, 0.0% of the published 5000"
    assert lines[1].startswith("warning: 2 batches may be too few for rd-expert to be better than ")
    assert f"Train {LEAST} or more (continue with --resume), and compare both" in lines[1]
    now = [0.0]
    tell = estimate.Estimate(EXPERT, None, None, lines.append, lambda: now[0])
    for number in range(1, 8):
        now[0] += 4
        tell(replace(last, step=number))
    lines.clear()
    tell.stopped(replace(last, step=7))  # it is told already
    assert not lines


@pytest.mark.slow
def test_train_tells_them(parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimate, "SECONDS", 0)
    options = ["--method", "rd-expert", "--backbone", "efficientnet_lite0", "--no-amp"]
    options += ["--image-size", "64", "64", "--batch", "8", "--max-minutes", 600]
    done = run("train", parts, tmp_path, *options, "--iterations", 8)
    assert (
        "8 batches are 0.2% of the published 5000\nwarning: 8 batches may be too few" in done.stderr
    )
    assert re.search(
        r"\n[\d.]+ m?s a batch on this machine \(fp32, over 5 batches\): the remaining 2 ",
        done.stderr,
    )
    assert (
        "\n--max-minutes 600 reaches all 8 batches, 0.2% of the published length\n" in done.stderr
    )
    done = run("train", parts, tmp_path, *options, "--iterations", 16, "--resume")
    assert "the remaining 2 take" in done.stderr
