"""Whether browsers at the operator's page make the line wait, from a checkout:
``PYTHONPATH=tests python -m support.line_browsers --help``.

Phases with and without open pages alternate in one run, and every third phase is one more without,
which shows by how much the measurement varies by itself. The browsers run on this machine, when
nothing else has work for its cores, since real ones run on others; the page's server is as it is.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import psutil
import typer
from PIL import Image

from rdx_fast.bench.result_rows import append, facts
from rdx_fast.station.records.read import read_records
from support.line import check, demo_frames
from support.line_processes import LineProcess, PlcProcess, free_port
from support.page_browser import Person, person
from support.programs import running, wait_for_station
from support.simulated_plc import Answer

ARMS = ("without", "with", "without again")
SETTLE = 20  # parts at the begin of a phase that do not count: the pages are being loaded


def main(
    bundle: Path,
    frames: Annotated[
        Path | None,
        typer.Option(help="Folder of images; by default the demo's, 1 in 20 defective."),
    ] = None,
    camera: Annotated[
        tuple[int, int] | None,
        typer.Option(help="Instead, one frame of this height and width, of noise."),
    ] = None,
    browsers: Annotated[int, typer.Option(min=1)] = 5,
    drawing: Annotated[
        bool,
        typer.Option(
            help="Real browsers, or clients that ask what these ask and draw nothing: real ones "
            "draw on machines of their own."
        ),
    ] = True,
    rounds: Annotated[int, typer.Option(min=1)] = 8,
    parts: Annotated[int, typer.Option(min=SETTLE + 1, help="Parts of a phase.")] = 250,
    rate: Annotated[float, typer.Option(help="Parts per second.")] = 20.0,
    output: Annotated[Path | None, typer.Option(help="File of JSON lines to append to.")] = None,
) -> None:
    """Measure the time from trigger to result, as the PLC sees it."""
    count = rounds * len(ARMS) * parts
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = ("folder", frames or demo_frames(folder))
        if camera is not None:
            source = ("still", noise(folder / "frame.png", camera))
        ports = configure(folder, bundle, *source)
        answers = alternate(folder, ports, browsers, drawing, count, parts, rate)
        records = {r.inspection_id: r for r in read_records(folder / "records.sqlite")}
    check(answers, records, count)
    row = {
        "camera": camera,
        "browsers": browsers,
        "drawing": drawing,
        "rounds": rounds,
        "parts_per_phase": parts,
        "rate": rate,
        **figures(answers, rounds, parts),
    }
    print(row)
    if output is not None:
        append(output, [{**facts("line browsers", ("openvino", "pymodbus", "starlette")), **row}])


def noise(file: Path, size: tuple[int, int]) -> Path:
    pixels = np.random.default_rng(0).integers(60, 200, (*size, 3), np.uint8)
    Image.fromarray(pixels).save(file)
    return file


def configure(folder: Path, bundle: Path, kind: str, frames: Path) -> dict[str, int]:
    ports = {name: free_port() for name in ("modbus", "hmi")}
    (folder / "station.toml").write_text(f"""\
[jobs]
1 = "{bundle.resolve()}"
[camera]
kind = "{kind}"
path = "{frames.resolve()}"
timeout_ms = 5000
[handshake]
deadline_ms = 5000
[records]
ok_share = 0.01
[modbus]
port = {ports["modbus"]}
[status]
[hmi]
port = {ports["hmi"]}
anonymous = true
""")
    return ports


def alternate(
    folder: Path,
    ports: dict[str, int],
    browsers: int,
    drawing: bool,
    count: int,
    parts: int,
    rate: float,
) -> list[Answer]:
    """Run the line, and open and close the pages. Returns all answers."""
    with ExitStack() as stack:
        stack.enter_context(running(folder, "station", "station.toml"))
        stack.enter_context(running(folder, "hmi", "station.toml"))
        wait_for_station(folder)
        address = f"http://127.0.0.1:{ports['hmi']}"
        open_pages = (_drawn if drawing else _asked)(stack, address, browsers)
        lower_priority()
        plc = stack.enter_context(
            PlcProcess(ports["modbus"], "--count", count, "--give-up", 10, "--rate", rate)
        )
        for phase in range(count // parts):
            open_pages(ARMS[phase % len(ARMS)] == "with")
            plc.wait_for(partial(_told, plc, (phase + 1) * parts), 600)
        plc.stop()
        return plc.answers


def _drawn(stack: ExitStack, address: str, count: int) -> Callable[[bool], None]:
    """Real browsers. Returns what opens or closes their pages."""
    people = [stack.enter_context(person(address)) for _ in range(count)]
    for someone in people:
        someone.open()  # so that all processes of the browser are there
    return partial(show, people)


def _asked(stack: ExitStack, address: str, count: int) -> Callable[[bool], None]:
    """Clients that draw nothing. Returns likewise."""
    command = (sys.executable, "-m", "support.page_clients", address, "--count", count)
    clients = stack.enter_context(LineProcess(*command))

    def order(wanted: bool) -> None:
        before = len(clients.rows)
        clients.order("open" if wanted else "close")
        clients.wait_for(lambda: len(clients.rows) > before, 60)

    order(True)
    return order


def _told(plc: PlcProcess, count: int) -> bool:
    return len(plc.answers) >= count


def show(people: list[Person], open_pages: bool) -> None:
    for someone in people:
        if open_pages:
            someone.open()
            someone.see(".recent tbody tr")
        else:
            someone.browser.get("about:blank")


def lower_priority() -> None:
    """All browsers and their drivers, and clients, run when nothing else has work for the core."""
    names = {Path(found).name for found in map(shutil.which, ("chromium", "chromedriver")) if found}
    for process in psutil.Process().children(recursive=True):
        if process.name() in names or "support.page_clients" in process.cmdline():
            for thread in process.threads():  # of which each has a priority of its own
                os.sched_setscheduler(thread.id, os.SCHED_IDLE, os.sched_param(0))


def figures(answers: list[Answer], rounds: int, parts: int) -> dict[str, Any]:
    """Percentiles of each arm in ms, and ratios to "without": of all parts, and of each round."""
    by_part = sorted(answers, key=lambda answer: answer.part)
    ms = np.array([1e3 * (a.answered - a.triggered) for a in by_part])
    ms = ms.reshape(rounds, len(ARMS), parts)[:, :, SETTLE:]
    row: dict[str, Any] = {}
    for percent in (50, 99):
        pooled = np.percentile(ms.transpose(1, 0, 2).reshape(len(ARMS), -1), percent, axis=1)
        each = np.percentile(ms, percent, axis=2)
        row[f"p{percent}_ms"] = dict(zip(ARMS, pooled.round(3).tolist(), strict=True))
        for i, arm in enumerate(ARMS[1:], 1):
            row[f"p{percent} {arm} / without"] = {
                "all": round(float(pooled[i] / pooled[0]), 4),
                "rounds": (each[:, i] / each[:, 0]).round(3).tolist(),
            }
    return row


if __name__ == "__main__":
    typer.run(main)
