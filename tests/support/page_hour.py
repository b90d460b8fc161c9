"""A page that is left open while parts go by, from a checkout:
``PYTHONPATH=tests python -m support.page_hour --minutes 60``.

Station, page's server and PLC are processes of their own, beside a real browser. Prints a row of
JSON every minute, and at last how fast each figure grows.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from PIL import Image

from rdx_fast import Detector
from rdx_fast.bench.result_rows import append, facts
from rdx_fast.bundle.bundle import open_bundle
from rdx_fast.bundle.changes import override_limits
from rdx_fast.images import read_image
from rdx_fast.station.config import read_station
from support.line_processes import PlcProcess, free_port
from support.page_browser import PASSED, Person, person
from support.programs import run, running, wait_for_station
from support.small_bundle import write_bundle

PASSWORDS = {"eva": "a long password"}
FRAMES = 60
HEIGHT, WIDTH = 480, 640
OK_SHARE, NG_SHARE = 0.8, 0.1  # of the frames


def main(
    minutes: Annotated[float, typer.Option(min=0.1, help="Time that the page is open.")] = 60.0,
    rate: Annotated[float, typer.Option(min=0.1, help="Parts per second.")] = 5.0,
    every: Annotated[float, typer.Option(min=1.0, help="Seconds between two rows.")] = 60.0,
    output: Annotated[Path | None, typer.Option(help="File of JSON lines to append to.")] = None,
) -> None:
    """Leave a page open, and print memory, nodes of the document and size of the server."""
    with tempfile.TemporaryDirectory(prefix="page-hour-") as name:
        folder = Path(name)
        port = lay_out(folder)
        with (
            running(folder, "station", "station.toml"),
            running(folder, "hmi", "station.toml") as server,
            person(f"http://127.0.0.1:{port}", 1920, 1080) as someone,
        ):
            wait_for_station(folder)
            someone.open()
            someone.log_in("eva", PASSWORDS["eva"])
            rows = watch(folder, someone, server, minutes, rate, every)
    grows = slopes(rows)
    print(json.dumps({"per hour, after the first third": grows}))
    if output is not None:
        row = {"rate": rate, "rows": rows, "per_hour": grows}
        append(output, [{**facts("page hour", ("openvino", "starlette")), **row}])


def lay_out(folder: Path) -> int:
    """A line whose frames have more or less noise in a corner. Returns the page's port."""
    rng = np.random.default_rng(0)
    plate = 128 + 40 * np.sin(np.arange(WIDTH) / 30)[:, None] * np.ones((HEIGHT, 1, 3))
    (folder / "frames").mkdir()
    for i in range(FRAMES):
        frame = plate + rng.standard_normal(plate.shape)
        top, left = rng.integers(0, HEIGHT // 2), rng.integers(0, WIDTH // 2)
        patch = frame[top : top + HEIGHT // 3, left : left + WIDTH // 3]
        patch += rng.uniform(1, 60) * rng.standard_normal(patch.shape)
        Image.fromarray(frame.clip(0, 255).astype(np.uint8)).save(folder / "frames" / f"{i}.png")
    bundle = write_bundle(folder / "part.rdx").path
    with Detector(bundle) as detector:
        paths = (folder / "frames").iterdir()
        scores = [float(detector.score(read_image(path)).scores[0]) for path in paths]
    ok, ng = np.quantile(scores, (OK_SHARE, 1 - NG_SHARE))
    opened = open_bundle(bundle)
    override_limits(opened, "as many as wanted", ok_below=ok, ng_above=ng, user="eva")
    port = free_port()
    (folder / "station.toml").write_text(f"""\
[jobs]
1 = "part.rdx"
[camera]
kind = "folder"
path = "frames"
[handshake]
deadline_ms = 5000
[records]
ok_share = 0.01
[modbus]
port = {free_port()}
[status]
[hmi]
port = {port}
""")
    (folder / "password").write_text(PASSWORDS["eva"])
    run(folder, "hmi-user", "add", "eva", "--role", "engineer", "--password-file", "password")
    return port


def watch(
    folder: Path,
    someone: Person,
    server: subprocess.Popen[bytes],
    minutes: float,
    rate: float,
    every: float,
) -> list[dict[str, Any]]:
    """Have parts go by. Returns what was printed."""
    modbus = read_station(folder / "station.toml").modbus
    assert modbus is not None
    count, rows = round(60 * minutes * rate), []
    begin = time.monotonic()
    with PlcProcess(modbus.port, "--count", count, "--give-up", 10, "--rate", rate) as plc:
        while plc.process.poll() is None:
            rows.append(
                {
                    "minutes": round((time.monotonic() - begin) / 60, 2),
                    "parts": len(plc.answers),
                    **footprint(someone),
                    "server_mb": resident_mb(server.pid),
                }
            )
            print(json.dumps(rows[-1]), flush=True)
            someone.allowed = [PASSED]
            someone.check()  # also empties the browser's logs
            next_row = begin + len(rows) * every
            while plc.process.poll() is None and time.monotonic() < next_row:
                time.sleep(0.2)
        plc.stop()
        assert len(plc.answers) == count
    return rows


def footprint(someone: Person) -> dict[str, float]:
    """What the page holds once its garbage is collected: JavaScript's heap in MB of 10^6 bytes,
    nodes of all documents, and listeners."""
    command = someone.browser.execute_cdp_cmd
    command("HeapProfiler.collectGarbage", {})
    heap = command("Runtime.getHeapUsage", {})["usedSize"]
    counters = command("Memory.getDOMCounters", {})
    return {
        "heap_mb": round(heap / 1e6, 3),
        "nodes": counters["nodes"],
        "listeners": counters["jsEventListeners"],
    }


def resident_mb(pid: int) -> float:
    """Memory of a process that is in RAM, in MB of 10^6 bytes."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    (line,) = (line for line in status.splitlines() if line.startswith("VmRSS:"))
    return round(int(line.split()[1]) * 1024 / 1e6, 1)


def slopes(rows: list[dict[str, Any]]) -> dict[str, float]:
    """How much each figure grows in an hour, by a line through all rows but the first third."""
    kept = rows[len(rows) // 3 :]
    hours = [row["minutes"] / 60 for row in kept]
    names = ("heap_mb", "nodes", "listeners", "server_mb")
    return {n: round(float(np.polyfit(hours, [row[n] for row in kept], 1)[0]), 3) for n in names}


if __name__ == "__main__":
    typer.run(main)
