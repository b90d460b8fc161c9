"""How long a training will take, told after its first batches."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rdx_fast.cli.progress import Clock
    from rdx_fast.training import Progress, Recipe

# By data set: from how many batches on the mean of RD with Expert's image AUROC, pixel AUROC and
# AUPRO was higher than RD4AD's after the same time of training; None where no recorded number was
# enough. bench/break_even.py computes it from the rows of bench/results.
EXPERT_LEAST_ITERATIONS: dict[str, int | None] = {
    "transistor": 150,
    "transistor turned at random": 450,
    "toothbrush": None,
}
BATCHES = 5
SECONDS = 10.0
LIMIT_SHARE = 0.1


class Estimate:
    """Tells how long a run is and how long it will take. Call the object with each step.

    After the first batch it compares the run's length with the published one. Then it measures
    5 batches and at least 10 s, or a tenth of a short time limit, waiting for data included; the
    first batch, which is slower, is not among them. With that pace it tells the duration of the
    remaining batches and how far a time limit reaches. It warns where the batches are too few for
    the method to be better than RD4AD, as far as recorded.

    Args:
        recipe: options of the run
        category: of MVTec AD, for its published length; None for other parts
        max_minutes: time limit in minutes, from now; None for no limit
        say: called with each line
        clock: returns seconds since any fixed time
    """

    def __init__(
        self,
        recipe: Recipe,
        category: str | None,
        max_minutes: float | None,
        say: Callable[[str], None],
        clock: Clock = time.monotonic,
    ) -> None:
        self._recipe = recipe
        self._category = category
        self._max_minutes = max_minutes
        self._say = say
        self._clock = clock
        self._begun = clock()
        self._ends = math.inf if max_minutes is None else self._begun + 60 * max_minutes
        self._first: tuple[int, float] | None = None
        self._told = False

    def __call__(self, step: Progress) -> None:
        now = self._clock()
        if self._first is None:
            self._first = (step.step, now)
            self._tell_length(step)
            return
        first, since = self._first
        batches, seconds = step.step - first, now - since
        enough = batches >= BATCHES and seconds >= SECONDS
        if not self._told and (enough or seconds >= LIMIT_SHARE * (self._ends - since)):
            self._told = True
            self._tell_time(step, now, batches, seconds / batches)

    def stopped(self, step: Progress) -> None:
        """Tell how far a run came that was stopped before its pace was told.

        Args:
            step: the last step
        """
        if self._told:
            return
        published = self._published(step)
        share = _share(step.step / published)
        self._say(
            f"{_batches(step.step)} trained in {step.precision}, {share} of the published "
            f"{published}"
        )
        least = self._least(published)
        if step.step < least <= step.total_steps:
            self._warn(step.step, f"train {least} or more (continue with --resume)")

    def _tell_length(self, step: Progress) -> None:
        total, published = step.total_steps, self._published(step)
        least = self._least(published)
        if total < published:
            self._say(
                f"{total} batches are {_share(total / published)} of the published {published}"
            )
        if total < least:
            self._warn(total, f"train {least} or more (--iterations)")

    def _tell_time(self, step: Progress, now: float, measured: int, pace: float) -> None:
        total, published = step.total_steps, self._published(step)
        least = self._least(published)
        left = total - step.step
        self._say(
            f"{_pace(pace)} a batch on this machine ({step.precision}, over {_batches(measured)}): "
            f"the remaining {left} take {_duration(left * pace)}"
        )
        if self._max_minutes is None:
            return
        reached = min(total, step.step + int(max(0.0, self._ends - now) / pace))
        share = reached / published
        self._say(
            f"--max-minutes {self._max_minutes:g} reaches "
            + (f"all {total} batches" if reached == total else f"about batch {reached} of {total}")
            + f", {_share(share)} of the published length"
        )
        if reached < least <= total:
            minutes = math.ceil((now - self._begun + (least - step.step) * pace) / 60)
            advice = f"give --max-minutes {minutes} or more, continue with --resume afterwards"
            self._warn(reached, advice)

    def _published(self, step: Progress) -> int:
        return self._recipe.published_steps(step.steps_per_epoch, self._category)

    def _least(self, published: int) -> int:
        """Number of batches below which the method was not better than RD4AD, as far as known."""
        if not self._recipe.makes_anomalies:
            return 0
        of_category = EXPERT_LEAST_ITERATIONS.get(self._category or "")
        if of_category is not None:
            return of_category
        known = (least for least in EXPERT_LEAST_ITERATIONS.values() if least is not None)
        return max(known, default=published)

    def _warn(self, batches: int, advice: str) -> None:
        """Warn of too few batches; of a method that takes long, so never of RD4AD."""
        needed = ", ".join(
            ("at no recorded length" if least is None else f"from {least} batches on")
            + f" ({dataset})"
            for dataset, least in EXPERT_LEAST_ITERATIONS.items()
        )
        self._say(
            f"warning: {_batches(batches)} may be too few for {self._recipe.method} to be better "
            f"than rd4ad after the same time of training. With efficientnet_lite0 at 128 x 128, "
            f"textures from photographs, and by the mean of image AUROC, pixel AUROC and AUPRO it "
            f"was: {needed}. {advice[0].upper()}{advice[1:]}, and compare both methods on your "
            f"parts (rdx-fast experiment)"
        )


def _batches(count: int) -> str:
    return "1 batch" if count == 1 else f"{count} batches"


def _pace(seconds: float) -> str:
    return f"{1000 * seconds:.0f} ms" if seconds < 0.1 else f"{seconds:.2f} s"


def _share(share: float) -> str:
    return f"{share:.1%}" if share < 0.1 else f"{share:.0%}"


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    if minutes < 90:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min"
