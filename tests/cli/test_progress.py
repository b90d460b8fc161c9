"""How long commands say how they get on: lines in a file or pipe, a bar on a terminal."""

from __future__ import annotations

import io
import itertools
import re
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from rdx_fast.bundle.bundle import Bundle
from rdx_fast.cli.progress import (
    TrainingBar,
    TrainingLines,
    show_images,
    show_plan,
    show_stages,
    show_training,
)
from rdx_fast.training import Progress

RDX_FAST = Path(sys.executable).with_name("rdx-fast")
TINY = ["--backbone", "efficientnet_lite0", "--image-size", "64", "64", "--batch", "8"]
# By these a user may call something a terminal that is none, or the other way round.
TERMINAL = ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "NO_COLOR")


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in TERMINAL:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "20")  # a line of the log is longer, and stays one line


class Clock:
    """Time passes when the test says so."""

    def __init__(self) -> None:
        self.now = 5000.0

    def __call__(self) -> float:
        return self.now


class Pipe(io.StringIO):
    """Remembers at what time each line was written, in seconds from the beginning."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock = clock
        self.begun = clock.now
        self.times: list[float] = []

    def write(self, text: str) -> int:
        self.times += [self.clock.now - self.begun] * text.count("\n")
        return super().write(text)

    @property
    def lines(self) -> list[str]:
        return self.getvalue().splitlines()


def make_step(number: int, total: int, epoch_loss: float | None = None) -> Progress:
    losses = {"teacher": 0.25, "student": 1 / number}
    return Progress(number, total, (number - 1) // 10, losses, epoch_loss, 0.0, 10, "fp32")


def train_for(
    seconds: float, step_s: float, total: int, first: int = 1, max_minutes: float | None = None
) -> Pipe:
    """Lines of a training that reads images for a minute and then takes ``step_s`` a step, up to
    so many seconds or to its end."""
    clock = Clock()
    pipe = Pipe(clock)
    with show_training(max_minutes, Console(file=pipe), clock) as on_step:
        clock.now += 60 - step_s
        for number in range(first, total + 1):
            clock.now += step_s
            on_step(make_step(number, total))
            if clock.now - pipe.begun >= seconds:
                break
    return pipe


def seconds_of(line: str, word: str) -> int:
    found = re.search(rf"{word} (\d+):(\d\d):(\d\d)", line)
    assert found, line
    hours, minutes, seconds = map(int, found.groups())
    return 3600 * hours + 60 * minutes + seconds


def test_lines_come_every_30_s_and_at_both_ends() -> None:
    pipe = train_for(1000, step_s=2, total=200)  # 398 s after the first step
    assert pipe.times == [0, 60, *range(90, 458, 30), 458]
    assert pipe.lines[1].startswith(
        "training, step 1 of 200, epoch 1, loss teacher 0.2500, student"
    )
    assert pipe.lines[2].startswith("training, step 16 of 200, epoch 2, ")
    assert pipe.lines[-1].startswith("training, step 200 of 200, epoch 20, ")
    assert [seconds_of(line, "elapsed") for line in pipe.lines[1:]] == pipe.times[1:]


def test_a_step_may_take_longer_than_30_s() -> None:
    assert train_for(1000, step_s=50, total=4).times == [0, 60, 110, 160, 210]


def test_a_long_run_leaves_a_log_that_can_be_read() -> None:
    times = train_for(24 * 3600, step_s=1, total=200_000).times
    assert 300 < len(times) < 500
    assert max(b - a for a, b in itertools.pairwise(times)) < 15 * 60


def test_a_run_of_one_step_is_one_line() -> None:
    pipe = train_for(1000, step_s=2, total=1)
    assert len(pipe.lines) == 2
    assert "left" not in pipe.lines[1]


@pytest.mark.parametrize("first", [1, 151])
def test_time_left(first: int) -> None:
    """From the pace of the steps alone: neither what was before them nor the steps of the run that
    is resumed count."""
    pipe = train_for(1000, step_s=2, total=200, first=first)
    assert "left" not in pipe.lines[1]  # no pace yet
    for time, line in zip(pipe.times[2:], pipe.lines[2:], strict=True):
        assert seconds_of(line, "left") == 60 + 2 * (200 - first) - time


def test_time_left_until_the_limit() -> None:
    pipe = train_for(300, step_s=2, total=1000, max_minutes=5)
    for time, line in zip(pipe.times[2:], pipe.lines[2:], strict=True):
        assert seconds_of(line, "left") == 300 - time
    assert pipe.lines[-1].startswith("training, step 121 of 1000")


def test_each_run_counts_its_own_time_under_its_name() -> None:
    clock = Clock()
    pipe = Pipe(clock)
    with show_training(None, Console(file=pipe), clock) as on_step:
        for seed in (111, 112):
            on_step.stage(f"rd4ad, seed {seed}: training")
            for number in range(1, 5):
                clock.now += 10
                on_step(make_step(number, 4, epoch_loss=0.5))
            on_step.stage(f"rd4ad, seed {seed}: evaluating the last epoch")
    assert on_step.last is not None
    assert on_step.last.step == 4
    pattern = (
        r"(rd4ad, seed \d+): training, step (\d) of 4,.* \(last epoch, terms together, 0.5000\).* "
        r"elapsed (.*)"
    )
    found = [re.fullmatch(pattern, line) for line in pipe.lines]
    assert [m and m.groups() for m in found] == [
        None,
        *(
            row
            for name in ("rd4ad, seed 111", "rd4ad, seed 112")
            for row in (
                None,
                (name, "1", "0:00:10"),
                (name, "4", "0:00:40"),
                None,
            )
        ),
    ]


def test_the_last_step_is_said_where_training_fails() -> None:
    clock = Clock()
    pipe = Pipe(clock)

    def train() -> None:
        with show_training(None, Console(file=pipe), clock) as on_step:
            on_step(make_step(1, 9))
            on_step(make_step(2, 9))
            raise ValueError("loss")

    with pytest.raises(ValueError, match="loss"):
        train()
    assert pipe.lines[-1].startswith("training, step 2 of 9")


def test_images_plan_and_stages_as_lines() -> None:
    clock = Clock()
    pipe = Pipe(clock)
    console = Console(file=pipe)
    with show_images("scoring", console, clock) as on_image:
        for number in range(1, 41):
            clock.now += 1
            on_image(number, 40)
    assert pipe.lines == [
        "scoring, image 1 of 40, elapsed 0:00:01",
        "scoring, image 31 of 40, left 0:00:09, elapsed 0:00:31",
        "scoring, image 40 of 40, left 0:00:00, elapsed 0:00:40",
    ]
    pipe.truncate(pipe.seek(0))
    with show_plan(console, clock):
        pass
    assert not pipe.lines  # no plan had to be built
    with show_plan(console, clock) as on_progress:
        on_progress("tactics", 1, 3)
        clock.now += 40
        on_progress("[layers]", 2, 5)
    assert pipe.lines[1] == "plan: [layers], step 2 of 5, elapsed 0:00:40"
    pipe.truncate(pipe.seek(0))
    with show_stages("export", "reading images", console) as on_stage:
        on_stage("network")
    assert pipe.lines == ["export: reading images", "export: network"]


def test_a_terminal_gets_the_bar_and_no_lines() -> None:
    terminal = Console(file=io.StringIO(), force_terminal=True, width=200)
    with show_training(None, terminal) as on_step:
        assert isinstance(on_step, TrainingBar)
        on_step.stage("rd4ad, seed 111: training")
        for number in range(1, 5):
            on_step(make_step(number, 4))
        on_step.say("1.00 s a batch [bf16]")
    with show_images("scoring", terminal) as on_image:
        on_image(3, 3)
    with show_stages("export", "reading images", terminal) as on_stage:
        on_stage("network")
    assert isinstance(terminal.file, io.StringIO)
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.file.getvalue())
    assert "rd4ad, seed 111: training\n" in shown
    assert "1.00 s a batch [bf16]\n" in shown
    assert re.search(r"training ━+ 4/4 epoch 1  loss 0.5000", shown)
    assert re.search(r"scoring ━+ 3/3", shown)
    assert "export:" not in shown
    assert "elapsed" not in shown
    assert "step" not in shown


def test_a_terminal_that_cannot_move_its_cursor_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    console = Console(file=io.StringIO(), force_terminal=True)
    assert isinstance(show_training(None, console), TrainingLines)


def test_training_in_a_pipe(parts: Path, tmp_path: Path) -> None:
    command = [str(RDX_FAST), "train", str(parts), str(tmp_path / "run"), *TINY, "--epochs", "2"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert not done.stdout
    assert "\x1b" not in done.stderr
    pattern = (
        r"training, step (\d) of 6, epoch (\d), loss student \d\.\d{4}( \(last epoch \d\.\d{4}\))?"
        r"(, left \d:\d\d:\d\d)?, elapsed \d:\d\d:\d\d"
    )
    found = [m.groups() for line in done.stderr.splitlines() if (m := re.fullmatch(pattern, line))]
    assert found[0] == ("1", "1", None, None)
    assert found[-1][:2] == ("6", "2")
    assert all(found[-1])
    *_, last_batch, trained = done.stderr.splitlines()
    assert last_batch.startswith("last batch's loss")
    assert trained.startswith("trained 6 batches")
    assert trained.endswith("part.rdx --good FOLDER")  # no image was held out, as is said first
    assert "no image is held out: export will need --good FOLDER" in done.stderr


def test_lines_come_while_training_goes_on(parts: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    command = [str(RDX_FAST), "train", str(parts), str(run), *TINY]
    command += ["--epochs", "5000", "--checkpoint-every", "5000"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            assert any("step 1 of 15000" in line for line in process.stderr)
            assert not list(run.glob("*.pt"))  # which is written at the end
        finally:
            process.kill()


def test_scoring_in_a_pipe(bundle: Bundle, parts: Path) -> None:
    command = [str(RDX_FAST), "evaluate", str(bundle.path), str(parts), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("{")
    lines = done.stderr.splitlines()
    assert lines[0].startswith("checking, image 1 of 16, ")
    assert any(line.startswith("scoring, image 1 of 16, ") for line in lines)
    assert lines[-1].startswith("scoring, image 16 of 16, ")
