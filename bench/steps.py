"""Steps of a long measurement that goes on where an earlier call ended."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import Any, NamedTuple

from rdx_fast.bench.result_rows import append
from rdx_fast.errors import DeviceLostError

Step = tuple[str, Callable[[], Iterable[dict[str, Any]]]]
"""A name, and the function that measures and yields rows."""


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
    output: Path | None,
    budget_s: float,
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
        output: JSON lines, read for what is done already; None to keep nothing
        budget_s: seconds after which no further step is started
        clock: gives the time in seconds

    Returns:
        state of each step by name: "done", "failed", or "not run"
    """
    begun, done = _recorded(output, {name: common[name] for name in same})
    states = {name: "done" if name in done else "not run" for name, _ in steps}
    end = clock() + budget_s
    for name, measure in sorted(steps, key=lambda step: begun[step[0]]):
        if name in done:
            continue
        if clock() >= end:
            break
        begin = clock()

        def record(row: Mapping[str, Any], name: str = name) -> None:
            print(name, dict(row), flush=True)
            if output is not None:
                time = datetime.now(UTC).isoformat(timespec="seconds")
                append(output, [{**common, "time": time, "step": name, **row}])

        record({"state": "begun"})
        try:
            for row in measure():
                record(row)
        except Exception as error:
            record({"state": "failed", "failed": f"{type(error).__name__}: {error}"})
            states[name] = "failed"
            if isinstance(error, DeviceLostError) or "CUDA error" in str(error):
                print("the GPU is lost to this process: call again for the remaining steps")
                break
        else:
            record({"state": "done", "seconds": round(clock() - begin, 1)})
            states[name] = "done"
    return states


def _recorded(output: Path | None, same: Mapping[str, Any]) -> tuple[Counter[str], set[str]]:
    """How often each step was begun, and which are done."""
    begun: Counter[str] = Counter()
    done: set[str] = set()
    if output is None or not output.exists():
        return begun, done
    for line in output.read_text(encoding="utf-8").splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue  # cut off while it was written
        if any(row.get(name) != value for name, value in same.items()):
            continue
        begun[row["step"]] += row.get("state") == "begun"
        if row.get("state") == "done":
            done.add(row["step"])
    return begun, done
