"""Progress of commands: a bar on a terminal, occasional plain lines in a file or pipe."""

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

Clock = Callable[[], float]  # returns seconds since any fixed time


class Lines:
    """Prints progress as lines, for a console that would show a bar only at its end.

    Prints one line at the first step, one at the end, and between them at most one every 30 s, or
    every hundredth of the elapsed time where that is longer: a run of a night prints some hundred
    lines. A context manager: prints the last line at the end.

    Args:
        console: where the lines are printed
        clock: returns seconds since any fixed time
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
        """Start a new run; its time is measured from here."""
        self.end()
        self._begun = self._clock()
        self._due = 0.0
        self._first: tuple[int, float] | None = None

    def end(self) -> None:
        """Print the newest message if it was not printed yet."""
        if self._unsaid:
            self.say(self._unsaid)
        self._unsaid = ""

    def say(self, line: str) -> None:
        """Print a line at once."""
        # Neither wrapped nor coloured, and flushed.
        self._console.out(line, highlight=False)

    def tell(self, news: str) -> None:
        """Print a message if a line is due; else at the end, unless a newer one replaces it."""
        elapsed = self._clock() - self._begun
        self._unsaid = f"{news}, elapsed {_hours(elapsed)}"
        if elapsed >= self._due:
            self.end()
            self._due = elapsed + max(EVERY_S, EVERY_SHARE * elapsed)

    def step(
        self, what: str, done: int, total: int, detail: str = "", limit_s: float | None = None
    ) -> None:
        """Report a step, with an estimate of the remaining time.

        The estimate uses the pace since the first reported step, which may have a high number in a
        resumed run.

        Args:
            what: what the steps are
            done: steps done
            total: steps in all
            detail: further text after the numbers
            limit_s: elapsed time in seconds at which the run ends; None for no limit
        """
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
    """Prints the progress of training as lines. Call the object with each step.

    Args:
        max_minutes: time limit of each run in minutes; None for no limit
        console: where the lines are printed
        clock: returns seconds since any fixed time

    Attributes:
        last: the last step, None before the first
    """

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
            f"reading images before the first step; then progress at most every {EVERY_S:.0f} s"
        )
        return self

    def stage(self, what: str) -> None:
        """Start a new run with this name, which begins its lines."""
        self.begin()
        self._stage = what
        self.say(what)

    def __call__(self, step: Step) -> None:
        self.last = step
        loss = ", ".join(f"{term} {loss:.4f}" for term, loss in step.losses.items())
        detail = f", epoch {step.epoch + 1}, loss {loss}"
        if step.epoch_loss is not None:
            together = ", terms together," if len(step.losses) > 1 else ""
            detail += f" (last epoch{together} {step.epoch_loss:.4f})"
        self.step(f"{self._stage}, step", step.step, step.total_steps, detail, self._limit_s)


class TrainingBar:
    """Shows a bar over all training steps with the last epoch's loss. Call it with each step.

    Args:
        console: the terminal

    Attributes:
        last: the last step, None before the first
    """

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

    def end(self) -> None:
        """Nothing: the bar shows the last step."""

    def say(self, line: str) -> None:
        """Print a line above the bar."""
        self._bar.console.out(line, highlight=False)

    def stage(self, what: str) -> None:
        """Print the name of the stage that begins."""
        self.say(what)

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
    """Return the progress display of a training: a bar on a terminal, else lines.

    Args:
        max_minutes: time limit of each run in minutes; None for no limit
        console: where the progress is shown
        clock: returns seconds since any fixed time

    Returns:
        A context manager. Call it with each step, and its ``stage`` with each stage.
    """
    # Not is_terminal: on a terminal that cannot move its cursor, rich shows no bar either.
    if console.is_interactive:
        return TrainingBar(console)
    return TrainingLines(max_minutes, console, clock)


@contextmanager
def show_images(
    what: str, console: Console = notes, clock: Clock = time.monotonic
) -> Iterator[Callable[[int, int], None]]:
    """Show the progress of work on images.

    Args:
        what: what is done
        console: where the progress is shown
        clock: returns seconds since any fixed time

    Yields:
        A function to call with the number of images done and in all.
    """
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
    """Show the progress of building a TensorRT plan. Nothing is shown before the first step.

    Args:
        console: where the progress is shown
        clock: returns seconds since any fixed time

    Yields:
        A function to call with the step's name, steps done and steps in all.
    """
    if console.is_interactive:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        with Progress(*columns, TimeElapsedColumn(), console=console) as bar:
            task = bar.add_task("plan", total=None, visible=False)
            yield lambda what, done, steps: bar.update(
                task, description=what, completed=done, total=steps, visible=True
            )
    else:
        with Lines(console, clock) as lines:
            # The phases are nested: neither pace nor remaining time can be computed from them.
            yield lambda what, done, steps: lines.tell(f"plan: {what}, step {done} of {steps}")


@contextmanager
def show_stages(what: str, first: str, console: Console = notes) -> Iterator[Callable[[str], None]]:
    """Show the stages of a command. There are few, so each is printed.

    Args:
        what: name of the command, before each line
        first: the first stage
        console: where the stages are shown

    Yields:
        A function to call with each further stage.
    """
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
