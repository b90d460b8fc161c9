"""Two weeks of a line in minutes, on images of solar cells, from a checkout:
``PYTHONPATH=tests python -m support.weekly_loop FOLDER``.

A bundle is trained on few good cells. In each week a station inspects a stream of others for a
simulated PLC; what it rejects, what it is unsure of, and a random sample are labelled in a real
browser; the network is trained again, and the candidate is released in the browser.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from rdx_fast.bench.result_rows import append, facts
from rdx_fast.bundle.versions import list_versions
from rdx_fast.solar_cells import solar_cells
from rdx_fast.station.records.quality import Quality
from rdx_fast.station.records.read import read_records
from support.line_processes import free_port
from support.page_browser import Person, person
from support.programs import drive, run, running, wait_for_station

TRAIN, CALIBRATION = 40, 20  # of the 60 good cells that there are at the start
WEEK = 200  # good cells that a week's stream has
DEFECTIVE = 25  # and defective ones
USERS = {"eva": "engineer", "otto": "operator"}


def main(
    folder: Annotated[Path, typer.Argument(help="Folder for everything; it must not exist yet.")],
    iterations: Annotated[int, typer.Option(min=1, help="Batches of each training.")] = 150,
    share: Annotated[float, typer.Option(help="Of the parts in the random sample.")] = 0.2,
    output: Annotated[Path | None, typer.Option(help="File of JSON lines to append to.")] = None,
) -> None:
    """Run the loop for two weeks, and print what it changed on the frozen set."""
    begin = time.monotonic()
    folder.mkdir(parents=True)
    truth = lay_out(folder)
    passwords = {name: f"password of {name}" for name in USERS}
    seconds: dict[str, float] = {}
    with timed(seconds, "first bundle"):
        first_bundle(folder, iterations)
    page_port = configure(folder, share, passwords)
    row: dict[str, Any] = {"first_images": TRAIN, "weeks": []}
    with (
        running(folder, "station", "station.toml"),
        running(folder, "hmi", "station.toml"),
        person(f"http://127.0.0.1:{page_port}") as browser,
    ):
        wait_for_station(folder)
        before = 0
        for week, defective in enumerate(truth, 1):
            with timed(seconds, f"week {week}: stream"):
                drive(folder, len(defective))
            with timed(seconds, f"week {week}: labels"):
                labels = label(browser, passwords, defective)
            with timed(seconds, f"week {week}: retraining"):
                run(folder, "retrain", 1, "--station", "station.toml", "--iterations", iterations)
            with timed(seconds, f"week {week}: release"):
                release(browser, passwords["eva"])
            row["weeks"].append(week_row(folder, before, labels))
            before += len(defective)
            print(json.dumps(row["weeks"][-1], indent=2))
        row["quality"] = quality(browser, passwords["otto"])
    row |= {"seconds": seconds, "total_s": round(time.monotonic() - begin, 1)}
    print(json.dumps(row, indent=2))
    if output is not None:
        append(output, [{**facts("weekly loop", ("openvino", "torch")), **row}])


def lay_out(folder: Path) -> list[list[bool]]:
    """Folders of links to the cells. Returns which parts of each week's stream are defective."""
    cells = solar_cells(seed=0)
    rest = [*cells.train, *cells.calibration]
    first, rest = rest[: TRAIN + CALIBRATION], rest[TRAIN + CALIBRATION :]
    link(folder / "good", first[:TRAIN])
    link(folder / "calibration", first[TRAIN:])
    link(folder / "frozen" / "train" / "good", first[:TRAIN])
    link(folder / "frozen" / "test" / "good", cells.good)
    half = len(cells.defective) // 2
    link(folder / "frozen" / "test" / "defective", cells.defective[:half])
    rng = np.random.default_rng(0)
    truth, number = [], 0
    (folder / "stream").mkdir()
    for week in range(2):
        good = rest[week * WEEK : (week + 1) * WEEK]
        bad = cells.defective[half + week * DEFECTIVE :][:DEFECTIVE]
        parts = [(path, False) for path in good] + [(path, True) for path in bad]
        parts = [parts[i] for i in rng.permutation(len(parts))]
        for path, _ in parts:
            (folder / "stream" / f"{number:04d}.png").symlink_to(path)
            number += 1
        truth.append([defective for _, defective in parts])
    return truth


def link(folder: Path, paths: list[Path]) -> None:
    folder.mkdir(parents=True)
    for path in paths:
        (folder / path.name).symlink_to(path)


def first_bundle(folder: Path, iterations: int) -> None:
    """What there is before any part was inspected."""
    network = ("--backbone", "efficientnet_lite0", "--image-size", 128, 128)
    run(folder, "train", "good", "run", *network, "--iterations", iterations, "--seed", 0)
    run(folder, "export", "run", "cells.rdx", "--good", "calibration", "--name", "solar cells")
    promise = ("--false-reject", 0.05, "--review", 0.15)
    run(folder, "calibrate", "cells.rdx", "calibration", *promise)


def configure(folder: Path, share: float, passwords: dict[str, str]) -> int:
    """Write the station's configuration and the page's users. Returns the page's port."""
    page = free_port()
    (folder / "station.toml").write_text(f"""\
[jobs]
1 = "cells.rdx"
[camera]
kind = "folder"
path = "stream"
timeout_ms = 5000
[handshake]
deadline_ms = 5000
[records]
ok_share = {share}
[modbus]
port = {free_port()}
[status]
[hmi]
port = {page}
good_reasons = ["as usual", "dust"]
bad_reasons = ["crack", "dark cell"]
[retrain.1]
run = "run"
good = "good"
calibration = "calibration"
frozen = "frozen"
""")
    for name, role in USERS.items():
        (folder / "password").write_text(passwords[name])
        run(folder, "hmi-user", "add", name, "--role", role, "--password-file", "password")
    return page


def label(browser: Person, passwords: dict[str, str], defective: list[bool]) -> dict[str, int]:
    """All that waits is labelled by one user, then by another what waits for a second."""
    browser.open()
    given = {}
    for user in ("otto", "eva"):
        browser.log_in(user, passwords[user])
        given[user] = browser.label_all(lambda part: defective[part - 1])
        browser.log_out()
    return given


def release(browser: Person, password: str) -> None:
    """The engineer looks at the candidate, releases it, and has the station change over."""
    browser.open()
    browser.log_in("eva", password)
    browser.open("job")
    browser.click(".version[data-state=candidate] button")
    browser.click("dialog[open] button.primary")
    browser.see(".version[data-state=previous]")
    browser.click(".view-job > .bar button.primary")
    browser.click("dialog[open] button.primary")
    browser.until(lambda: not browser.all(".view-job > .bar button.primary:not([hidden])"))
    browser.log_out()


def quality(browser: Person, password: str) -> dict[str, Any]:
    """The quality figures that the page shows."""
    browser.open()
    browser.log_in("otto", password)
    found = browser.script("return fetch('/api/quality?job=1').then((answer) => answer.json())")
    assert set(found) >= set(Quality.__dataclass_fields__)
    return dict(found)


def week_row(folder: Path, before: int, labels: dict[str, int]) -> dict[str, Any]:
    """Results and labels of a week, and the bundle that was released at its end against the one
    before it."""
    released, *_ = list_versions(folder / "cells.rdx")
    found = released.comparison
    assert found is not None
    parts = [r for r in read_records(folder / "records.sqlite") if r.inspection_id > before]
    return {
        "results": dict(Counter(r.result for r in parts)),
        "sampled": sum(bool(r.sampled) for r in parts),
        "labels": labels,
        "confirmed_good_trained_on": len(found["trained_on"]),
        **{name: found[name] for name in ("images", "steps", "frozen", "labelled", "sample")},
        **{name: len(found[name]) for name in ("again_rejected", "escaped")},
    }


@contextmanager
def timed(seconds: dict[str, float], what: str) -> Iterator[None]:
    begin = time.monotonic()
    yield
    seconds[what] = round(time.monotonic() - begin, 1)
    print(f"{what}: {seconds[what]} s", flush=True)


if __name__ == "__main__":
    typer.run(main)
