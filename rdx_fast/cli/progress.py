"""How a command gets on: a bar on a terminal, and a plain line now and then in a file or pipe."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from rdx_fast.cli.common import notes

if TYPE_CHECKING:
    from rdx_fast.engines import Progress as EngineProgress
    from rdx_fast.training import Progress as Step

EVERY_S = 30.0
EVERY_SHARE = 0.01

Clock = Callable[[], float]  # seconds, from any beginning


class Lines:
    """Progress as lines, for a console on which a bar would not show before its end.

    A line at the first step, one at the end, and between them at most one in 30 s, or in a
    hundredth of the elapsed time where that is longer: a run of a night leaves some hundred lines.
    """

    def __init__(self, console: Console = notes, clock: Clock = time.monotonic) -> None:
        self._console = console
        self._clock = clock
        self._unsaid = ""
        self.begin()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def begin(self) -> None:
        """What comes now is a run of its own; time counts from here."""
        self.end()
        self._begun = self._clock()
        self._due = 0.0
        self._first: tuple[int, float] | None = None

    def end(self) -> None:
        """Say what is news since the last line."""
        if self._unsaid:
            self.say(self._unsaid)
        self._unsaid = ""

    def say(self, line: str) -> None:
        # Neither wrapped nor coloured, and flushed.
        self._console.out(line, highlight=False)

    def tell(self, news: str) -> None:
        """Said if it is time for a line, or else at the end unless newer news replaces it."""
        elapsed = self._clock() - self._begun
        self._unsaid = f"{news}, elapsed {_hours(elapsed)}"
        if elapsed >= self._due:
            self.end()
            self._due = elapsed + max(EVERY_S, EVERY_SHARE * elapsed)

    def step(
        self, what: str, done: int, total: int, detail: str = "", limit_s: float | None = None
    ) -> None:
        """Tell of a step, with the time left at the pace since the first step, which may have a
        high number (a resumed run). ``limit_s``: the run ends when so much time has elapsed."""
        elapsed = self._clock() - self._begun
        if self._first is None:
            self._first = (done, elapsed)
        first, since = self._first
        left = ""
        if done > first:
            seconds = (elapsed - since) * (total - done) / (done - first)
            if limit_s is not None:
                seconds = max(0.0, min(seconds, limit_s - elapsed))
            left = f", left {_hours(seconds)}"
        self.tell(f"{what} {done} of {total}{detail}{left}")


class TrainingLines(Lines):
    """Training as lines; call it with each step. ``stage`` begins another run, whose lines it
    heads. ``max_minutes``: of each run."""

    def __init__(
        self,
        max_minutes: float | None = None,
        console: Console = notes,
        clock: Clock = time.monotonic,
    ) -> None:
        super().__init__(console, clock)
        self.last: Step | None = None
        self._stage = "training"
        self._limit_s = None if max_minutes is None else 60 * max_minutes

    def __enter__(self) -> Self:
        self.say(
            f"images are read before the first step; then a line at most every {EVERY_S:.0f} s"
        )
        return self

    def stage(self, what: str) -> None:
        self.begin()
        self._stage = what
        self.say(what)

    def __call__(self, step: Step) -> None:
        self.last = step
        loss = ", ".join(f"{term} {loss:.4f}" for term, loss in step.losses.items())
        detail = f", epoch {step.epoch + 1}, loss {loss}"
        if step.epoch_loss is not None:
            detail += f" (last epoch {step.epoch_loss:.4f})"
        self.step(f"{self._stage}, step", step.step, step.total_steps, detail, self._limit_s)


class TrainingBar:
    """A bar over all steps, with the last epoch's loss; call it with each step."""

    def __init__(self, console: Console = notes) -> None:
        self.last: Step | None = None
        self._bar = Progress(
            TextColumn("training"),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TextColumn("epoch {task.fields[epoch]}  loss {task.fields[loss]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
        )
        self._task = self._bar.add_task("training", total=None, epoch="-", loss="-")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def stage(self, what: str) -> None:
        self._bar.console.print(what)

    def __call__(self, step: Step) -> None:
        self.last = step
        loss = sum(step.losses.values()) if step.epoch_loss is None else step.epoch_loss
        self._bar.update(
            self._task,
            completed=step.step,
            total=step.total_steps,
            epoch=step.epoch + 1,
            loss=f"{loss:.4f}",
        )


def show_training(
    max_minutes: float | None = None, console: Console = notes, clock: Clock = time.monotonic
) -> TrainingBar | TrainingLines:
    """What to call with each step, and whose ``stage`` to call with each stage."""
    # Not is_terminal: on a terminal that cannot move its cursor, rich shows no bar either.
    if console.is_interactive:
        return TrainingBar(console)
    return TrainingLines(max_minutes, console, clock)


@contextmanager
def show_images(
    what: str, console: Console = notes, clock: Clock = time.monotonic
) -> Iterator[Callable[[int, int], None]]:
    """What to call with the number of images done and of all."""
    if console.is_interactive:
        columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=console) as bar:
            task = bar.add_task(what, total=None)
            yield lambda done, total: bar.update(task, completed=done, total=total)
    else:
        with Lines(console, clock) as lines:
            yield lambda done, total: lines.step(f"{what}, image", done, total)


@contextmanager
def show_plan(console: Console = notes, clock: Clock = time.monotonic) -> Iterator[EngineProgress]:
    """What to call with the steps of a plan's building; nothing shows before the first."""
    if console.is_interactive:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        with Progress(*columns, TimeElapsedColumn(), console=console) as bar:
            task = bar.add_task("plan", total=None, visible=False)
            yield lambda what, done, steps: bar.update(
                task, description=what, completed=done, total=steps, visible=True
            )
    else:
        with Lines(console, clock) as lines:
            # Its phases lie within each other: no pace, and no time left, can be told from them.
            yield lambda what, done, steps: lines.tell(f"plan: {what}, step {done} of {steps}")


@contextmanager
def show_stages(what: str, first: str, console: Console = notes) -> Iterator[Callable[[str], None]]:
    """What to call with each stage after the first: few, so that each gets its line."""
    if console.is_interactive:
        with console.status(first) as status:
            yield status.update
    else:

        def say(stage: str) -> None:
            console.out(f"{what}: {stage}", highlight=False)

        say(first)
        yield say


def _hours(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"
