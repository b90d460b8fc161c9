"""Steps of a long measurement that goes on where an earlier call ended."""

from __future__ import annotations

import json
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import Any, NamedTuple

from rdx_fast.bench.result_rows import append
from rdx_fast.errors import DeviceLostError

Step = tuple[str, Callable[[], Iterable[dict[str, Any]]]]
"""A name, and the function that measures and yields rows."""
TRACEBACK_LINES = 30  # kept of a failure, from its end
# In the words of torch and Triton, whose errors may leave the GPU of no use to the process.
_LOST = ("CUDA error", "Triton Error [CUDA]")


class NotApplicable(Exception):
    """Raised by a step that has nothing to measure on this machine: it is done, and its row says
    why."""


class Target(NamedTuple):
    """A figure to reach."""

    what: str
    limit: float
    at_most: bool

    def judged(self, value: float) -> dict[str, Any]:
        """The target, the value and whether it is met, for a row's ``targets``."""
        relation = "<=" if self.at_most else ">="
        met = value <= self.limit if self.at_most else value >= self.limit
        return {"target": f"{self.what} {relation} {self.limit}", "value": value, "met": met}


def run_steps(
    steps: Sequence[Step],
    common: Mapping[str, Any],
    same: Sequence[str],
    output: Path,
    budget_s: float,
    between: Callable[[], None] = lambda: None,
    clock: Callable[[], float] = monotonic,
) -> dict[str, str]:
    """Run the steps that are not done yet; print their rows and append them to ``output`` at once.

    Steps that were begun less often go first, so that one which ends the process, or fails each
    time, does not keep the others from running. A step that fails is a row, and the others go on,
    except after a lost device, which no step in this process can use again.

    Args:
        steps: in the order to run them
        common: facts that all rows get
        same: names of facts; rows in which they differ are of another measurement
        output: JSON lines, read for what is done already
        budget_s: seconds after which no further step is started
        between: called after each step; if it raises, the device is lost
        clock: gives the time in seconds

    Returns:
        state of each step by name: "done", "failed", or "not run"
    """
    rows = recorded(output, common, same)
    begun = Counter(row["step"] for row in rows if row.get("state") == "begun")
    done = {row["step"] for row in rows if row.get("state") == "done"}
    states = {name: "done" if name in done else "not run" for name, _ in steps}
    end = clock() + budget_s
    for name, measure in sorted(steps, key=lambda step: begun[step[0]]):
        if name in done:
            continue
        if clock() >= end:
            break
        begin = clock()
        lost = False

        def record(row: Mapping[str, Any], name: str = name) -> None:
            print(name, dict(row), flush=True)
            time = datetime.now(UTC).isoformat(timespec="seconds")
            append(output, [{**common, "time": time, "step": name, **row}])

        record({"state": "begun"})
        try:
            for row in _rows(measure):
                record(row)
        except Exception as error:
            record({"state": "failed", **_described(error)})
            states[name] = "failed"
            lost = isinstance(error, DeviceLostError) or any(w in str(error) for w in _LOST)
        else:
            record({"state": "done", "seconds": round(clock() - begin, 1)})
            states[name] = "done"
        if lost or _raises(between):
            print("the GPU is lost to this process: call again for the remaining steps")
            break
    return states


def _rows(measure: Callable[[], Iterable[dict[str, Any]]]) -> Iterator[dict[str, Any]]:
    try:
        yield from measure()
    except NotApplicable as why:
        yield {"not_measured": str(why)}


def recorded(output: Path, common: Mapping[str, Any], same: Sequence[str]) -> list[dict[str, Any]]:
    """The rows of ``output`` that hold the ``same`` facts, in the order they were written."""
    found = []
    for line in output.read_text(encoding="utf-8").splitlines() if output.exists() else ():
        try:
            row = json.loads(line)
        except ValueError:
            continue  # cut off while it was written
        if all(row.get(name) == common[name] for name in same):
            found.append(row)
    return found


def _described(error: Exception) -> dict[str, str]:
    """An error and the end of its traceback, for a row."""
    lines = "".join(traceback.format_exception(error)).splitlines()
    return {
        "failed": f"{type(error).__name__}: {error}",
        "traceback": "\n".join(lines[-TRACEBACK_LINES:]),
    }


def _raises(between: Callable[[], None]) -> bool:
    try:
        between()
    except Exception:
        traceback.print_exc()
        return True
    return False
