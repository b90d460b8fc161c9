"""Measurement of a station driven by a simulated PLC, from a checkout:
``PYTHONPATH=tests python -m support.line --help``.
"""

from __future__ import annotations

import socket
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from rich.progress import Progress

from rdx_fast.bench.result_rows import append, facts
from rdx_fast.solar_cells import solar_cells
from rdx_fast.station.handshake.codes import ResultCode
from rdx_fast.station.records.read import read_records
from rdx_fast.station.records.store import InspectionRecord
from support.line_processes import LineProcess, PlcProcess, configure
from support.simulated_plc import Answer


def percentiles(values_ms: NDArray[np.float64]) -> dict[str, float]:
    return {f"p{p:g}": round(float(np.percentile(values_ms, p)), 3) for p in (50, 99, 99.9)}


def check(answers: list[Answer], records: dict[int, InspectionRecord], count: int) -> None:
    """Raises ``AssertionError`` unless each part was answered once, with its own result."""
    told = Counter(a.part for a in answers)
    assert sorted(told) == list(range(1, count + 1)), "parts are missing"
    assert set(told.values()) == {1}, "parts were answered twice"
    for answer in answers:
        assert answer.inspection_id in records, f"no inspection is on record: {answer}"
        record = records[answer.inspection_id]
        assert record.part_id == (answer.part - 1) % 0xFFFF + 1, "an answer of another part"
        assert record.result == ResultCode(answer.code).name, "another result than on record"


def stages(answers: list[Answer], records: dict[int, InspectionRecord]) -> dict[str, Any]:
    """Percentiles in ms of the time from trigger to result and of its stages.

    The fieldbus is the difference between the time seen by the PLC and the station's own time,
    including the cycle.
    """
    rows = [records[a.inspection_id] for a in answers]
    total = np.array([1e3 * (a.answered - a.triggered) for a in answers])
    station = np.array([r.recorded_ms for r in rows], float)
    decided = np.array([r.decided_ms for r in rows])
    grab, score = (np.array([getattr(r, n) or 0.0 for r in rows]) for n in ("grab_ms", "score_ms"))
    return {
        "trigger to result": percentiles(total),
        "fieldbus": percentiles(total - station),
        "camera": percentiles(grab),
        "engine": percentiles(score),
        "record": percentiles(station - decided),
        "handover": percentiles(decided - grab - score),
    }


def drive(
    folder: Path, bundle: Path, frames: Path, count: int, rate: float | None, protocol: str
) -> dict[str, Any]:
    """Run a station and a PLC, and check and measure the answers.

    Args:
        folder: for configuration, records and logs
        bundle: engine bundle
        frames: folder of images
        count: number of parts
        rate: parts per second, None for as fast as possible
        protocol: "modbus", "opcua", or "modbus+opcua" (Modbus with an OPC UA client listening)
    """
    rules = {"deadline_ms": 5000}
    with_opcua = "opcua" in protocol
    configuration, ports = configure(folder, {1: bundle}, frames, rules, with_opcua)
    records = folder / "records.sqlite"
    opcua = ("--opcua", folder)
    options = ("--count", count, "--give-up", 10, *(() if rate is None else ("--rate", rate)))
    program = Path(sys.executable).with_name("rdx-fast")
    with LineProcess(program, "station", configuration) as station:
        _wait_for_port(station, list(ports.values()))
        listener: PlcProcess | None = None
        if protocol == "opcua":
            plc = PlcProcess(ports["opcua"], *options, *opcua)
        else:
            plc = PlcProcess(ports["modbus"], *options)
        if protocol == "modbus+opcua":
            listener = PlcProcess(ports["opcua"], *opcua, "--watch")
            listener.start()
            listener.wait_for(lambda: listener.rows, 30)
        begin = time.monotonic()
        with plc, Progress() as bar:
            task = bar.add_task("parts", total=count)
            while plc.process.poll() is None:
                bar.update(task, completed=len(plc.rows))
                time.sleep(0.5)
            plc.stop()
        seconds = time.monotonic() - begin
        if listener is not None:
            time.sleep(1)
            listener.order("stop")
            listener.wait_for(lambda: listener.process.poll() is not None, 10)
            listener.stop()
        station.process.terminate()
        station.process.wait(20)
    on_record = {r.inspection_id: r for r in read_records(records)}
    answers = plc.answers
    check(answers, on_record, count)
    if listener is not None:
        heard = Counter(a.inspection_id for a in listener.answers)
        assert heard == Counter(a.inspection_id for a in answers), "events are missing"
    return {
        "protocol": protocol,
        "rate": rate,
        "parts": count,
        "parts_per_s": round(count / seconds, 2),
        "results": dict(Counter(ResultCode(a.code).name for a in answers)),
        "errors": dict(Counter(r.error for r in on_record.values() if r.error)),
        "ms": stages(answers, on_record),
    }


def _wait_for_port(station: LineProcess, ports: list[int]) -> None:
    def answered() -> bool:
        try:
            for port in ports:
                socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            return False
        return True

    station.wait_for(answered, 60)


def demo_frames(folder: Path) -> Path:
    """The demo's test cells as links in a folder, 1 in 20 defective."""
    cells = solar_cells(seed=0)
    frames = folder / "frames"
    frames.mkdir()
    for path in [*cells.good, *cells.defective[: len(cells.good) // 19]]:
        (frames / path.name).symlink_to(path)
    return frames


def main(
    bundle: Path,
    frames: Annotated[
        Path | None,
        typer.Option(help="Folder of images; by default the demo's, 1 in 20 defective."),
    ] = None,
    count: Annotated[int, typer.Option(min=1)] = 20_000,
    rate: Annotated[
        float | None, typer.Option(help="Parts per second; by default as fast as possible.")
    ] = None,
    protocol: Annotated[str, typer.Option(help="modbus, opcua or modbus+opcua.")] = "modbus",
    output: Annotated[Path | None, typer.Option(help="File of JSON lines to append to.")] = None,
) -> None:
    """Check that every part is answered once, with its own result, and measure the latency."""
    with tempfile.TemporaryDirectory() as folder:
        frames = frames or demo_frames(Path(folder))
        row = drive(Path(folder), bundle, frames, count, rate, protocol)
    print(row)
    if output is not None:
        append(output, [{**facts("line", ("openvino", "pymodbus", "asyncua")), **row}])


if __name__ == "__main__":
    typer.run(main)
