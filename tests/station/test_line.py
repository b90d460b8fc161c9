"""Station and PLC as processes: killed, cut off, broken; and the commands around them."""

from __future__ import annotations

import csv
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pyarrow.parquet as pq
import pytest

from rdx_fast import Detector
from rdx_fast.bundle.bundle import Bundle
from rdx_fast.cli.station import end_by_signal
from rdx_fast.images import list_images, read_image
from rdx_fast.station import ConfigError, Filter, RecordError, read_records
from rdx_fast.station.config import read_station
from support.checkout import ROOT
from support.commands import RDX_FAST, run, unboxed
from support.line import drive
from support.line_faults import FAULTS, Fault, Line, unexpected
from support.line_processes import configure, free_port

PAIRS = (("engine hangs", "camera stalls"), ("record disk full", "process killed and restarted"))


@pytest.fixture(scope="module")
def expected(bundle: Bundle, parts: Path) -> list[str]:
    """What the test images are, in order."""
    with Detector(bundle.path) as detector:
        results = [detector.score(read_image(path)) for path in list_images(parts / "test")]
    verdicts = [result.verdicts[0] for result in results]
    assert set(verdicts) == {"OK", "NG"}
    return verdicts


# Faults while parts flow


@pytest.fixture(scope="module")
def line(bundle: Bundle, parts: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Line]:
    made = Line(tmp_path_factory.mktemp("line"), bundle.path, parts / "calibration", 1.2)
    with made.running():
        yield made
    # Of all that happened: every part answered once, OK only if it was scored, all on record.
    totals = made.check()
    assert totals["parts"] > 50


@pytest.mark.parametrize("names", [*((fault.name,) for fault in FAULTS), *PAIRS], ids=" and ".join)
def test_fault(line: Line, names: tuple[str, ...]) -> None:
    faults = tuple(fault for fault in FAULTS if fault.name in names)
    row = line.suffer(*faults)
    print(row)
    assert not unexpected(row, faults)
    assert row["parts"] >= 3
    if any(fault.errors for fault in faults if not fault.silent):
        assert row["errors"]


def test_a_fault_that_is_not_named_is_noticed() -> None:
    quiet = Fault("quiet", frozenset())
    assert unexpected({"errors": {"ENGINE": 1}, "results": {}}, (quiet,)) == ["ENGINE"]
    assert unexpected({"errors": {}, "results": {"NONE": 1}}, (quiet,))
    assert unexpected({"errors": {}, "results": {"OK": 2}}, (quiet,)) == ["OK"]


@pytest.mark.slow
def test_every_part_is_answered_once(
    bundle: Bundle, parts: Path, expected: list[str], tmp_path: Path
) -> None:
    """Over Modbus, with an OPC UA client that hears of each result too, and by OPC UA alone."""
    frames = parts / "test"
    assert len(expected) == 16
    row = drive(tmp_path / "a", bundle.path, frames, 64, None, "modbus+opcua")
    assert row["results"] == {v: 4 * expected.count(v) for v in ("OK", "NG")}
    row = drive(tmp_path / "b", bundle.path, frames, 16, None, "opcua")
    assert row["results"] == {v: expected.count(v) for v in ("OK", "NG")}
    assert row["ms"]["trigger to result"]["p50"] > row["ms"]["engine"]["p50"]


# Records


WRITER = """
import sys
from pathlib import Path
from rdx_fast.station.records.store import InspectionRecord, RecordWriter
writer = RecordWriter(Path(sys.argv[1]))
while True:
    i = writer.next_id
    row = InspectionRecord(i, i, 1, "b", "0" * 64, "2026-01-01", 1.0, "NG", None, None, 0.5, 0.4,
                           7, 0.1, 0.1, 0.1, 0.1, 0.1, 0.3, 0.5)
    writer.write(row)
    print(i, flush=True)  # what a PLC has seen
    writer.note(i, "taken_ms", 1.5)
    writer.next_id += 1
"""


def test_nothing_that_was_told_is_missing_after_a_kill(tmp_path: Path) -> None:
    records = tmp_path / "records.sqlite"
    rng = random.Random(0)
    last = 0
    for _ in range(8):
        writer = subprocess.Popen(
            [sys.executable, "-P", "-c", WRITER, str(records)], stdout=subprocess.PIPE, text=True
        )
        assert writer.stdout is not None
        first = int(writer.stdout.readline())
        assert first in (last + 1, last + 2)  # a row may be on disk and not told
        time.sleep(rng.uniform(0, 0.05))
        writer.send_signal(signal.SIGKILL)
        told = [first, *map(int, writer.stdout.read().split())]
        writer.wait()
        last = told[-1]
        found = [r.inspection_id for r in read_records(records)]
        assert set(told) <= set(found)
        assert found == list(range(1, len(found) + 1))
    (state,) = sqlite3.connect(records).execute("PRAGMA integrity_check").fetchone()
    assert state == "ok"
    assert read_first(records).taken_ms == 1.5


def read_first(records: Path):
    return next(read_records(records, Filter(part_id=1)))


def test_records_command(bundle: Bundle, parts: Path, tmp_path: Path) -> None:
    drive(tmp_path / "line", bundle.path, parts / "test", 24, None, "modbus")
    records = tmp_path / "line" / "records.sqlite"
    every = list(read_records(records))
    rejected = [r for r in every if r.result == "NG"]
    assert len(every) == 24
    assert rejected
    shown = run("records", records, "--result", "NG").stdout
    assert shown.count("NG") == min(len(rejected), 20)
    lines = run("records", records, "--json", "--last", 3).stdout.splitlines()
    assert [json.loads(line)["part_id"] for line in lines] == [22, 23, 24]
    assert run("records", records, "--json", "--part", 5).stdout.count("\n") == 1
    assert run("records", records, "--json", "--job", 2).stdout == ""
    since = every[10].triggered_at[:26]
    later = run("records", records, "--json", "--since", since.partition(".")[0]).stdout
    assert later.count("\n") >= 14
    assert run("records", records, "--json", "--until", "2020-01-01").stdout == ""

    table = tmp_path / "out" / "ng.csv"
    assert (
        f"{len(rejected)} inspections"
        in run("records", records, "--result", "NG", "--output", table).stderr
    )
    with table.open() as stream:
        read = list(csv.DictReader(stream))
    assert [float(row["score"]) for row in read] == [r.score for r in rejected]
    columns = pq.read_table(_parquet(records, tmp_path))
    assert columns["inspection_id"].to_pylist() == [r.inspection_id for r in every]
    assert columns["score"].to_pylist() == [r.score for r in every]
    assert columns["error"].to_pylist() == [None] * 24

    for arguments, message in (
        ((tmp_path / "none.sqlite",), "no such file"),
        ((ROOT / "README.md",), "not a station's records file"),
        ((records, "--output", tmp_path / "x.txt"), ".csv or .parquet"),
        ((records, "--result", "GOOD"), "wanted OK, REVIEW, NG, ERROR or LATE"),
    ):
        assert message in run("records", *arguments, code=2).stderr
    with pytest.raises(RecordError):
        list(read_records(tmp_path / "none.sqlite"))


def _parquet(records: Path, folder: Path) -> Path:
    output = folder / "all.parquet"
    run("records", records, "--output", output)
    return output


# The command, its configuration, the example


def test_station_command(bundle: Bundle, parts: Path, tmp_path: Path) -> None:
    shown = run("station", "--map").stdout
    assert "trigger_ready" in shown
    assert "float32" in shown
    text = run("station", "--example", os.path.relpath(bundle.path)).stdout
    text = text.replace('"frames"', f'"{parts / "calibration"}"')
    text = text.replace("1502", str(free_port()))
    path = tmp_path / "station.toml"
    path.write_text(text)
    assert read_station(path).modbus is not None
    assert read_station(path).bundles == {1: bundle.path.resolve()}
    process = subprocess.Popen(
        [str(RDX_FAST), "station", str(path)], stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    lines = []
    for line in process.stderr:
        lines.append(line)
        if line.startswith("online"):
            break
    process.send_signal(signal.SIGTERM)
    lines += process.stderr.read().splitlines()
    assert process.wait(60) == 0
    events = [json.loads(line) for line in lines if line.startswith("{")]
    assert [e["event"] for e in events] == ["job opened", "online", "Modbus", "offline"]
    assert " CPU " in events[0]["engine"]
    assert events[2]["address"] == "127.0.0.1"
    assert all(e["timestamp"].endswith("Z") for e in events)
    assert (tmp_path / "records.sqlite").is_file(), "beside the configuration"


def test_a_signal_ends_the_station_whenever_it_comes() -> None:
    """At each step that Python takes until it waits: at one that holds a lock, nothing may need
    it."""
    before = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}
    traced_before, profiled_before = sys.gettrace(), sys.getprofile()
    steps, moment, steps_until_it_waits = 0, -1, 0

    def traced(frame: FrameType, event: str, argument: Any) -> Callable[..., Any]:
        nonlocal steps
        frame.f_trace_opcodes = True
        steps += 1
        if steps == moment:
            signal.raise_signal(signal.SIGTERM)
        return traced

    def profiled(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal steps_until_it_waits
        if event == "c_call" and argument.__name__ == "get":
            steps_until_it_waits = steps
            signal.raise_signal(signal.SIGTERM)

    try:
        wait = end_by_signal()
        sys.setprofile(profiled)
        sys.settrace(traced)
        wait()
        sys.setprofile(profiled_before)
        assert steps_until_it_waits > 10
        for moment in range(1, steps_until_it_waits + 1):  # noqa: B007 -- it is read in traced
            sys.settrace(None)
            wait = end_by_signal()
            steps = 0
            sys.settrace(traced)
            wait()
    finally:
        sys.settrace(traced_before)
        sys.setprofile(profiled_before)
        for number, handler in before.items():
            signal.signal(number, handler)


def test_a_former_key_is_read_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "station.toml"
    text = '[jobs]\n1 = "part.rdx"\n[camera]\nkind = "still"\npath = "good.png"\n'
    path.write_text(text + "[modbus]\nmost_clients = 3\n")
    read = read_station(path).modbus
    assert read is not None
    assert read.max_clients == 3
    assert "most_clients is called max_clients now" in caplog.text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "jobs"),
        ("[jobs", "not TOML"),
        ('[jobs]\n1 = "a"\n[camera]\nkind = "folder"\n', "needs path"),
        ('[jobs]\n1 = "a"\n[camera]\nkind = "opencv"\n', "needs either device or path"),
        ('[jobs]\none = "a"\n[camera]\nkind = "still"\npath = "x"\n', "numbers from 1"),
        ('[jobs]\n1 = "a"\n[camera]\nkind = "still"\npath = "x"\nsped = 1\n', "sped"),
        (
            'precision = "FP32"\n[jobs]\n1 = "a"\n[camera]\nkind = "still"\npath = "x"\n',
            'precision is "FP32", wanted "fp32" or "fp16" or "bf16" or "int8" or "fp8"',
        ),
        (
            'threads = "2"\n[jobs]\n1 = "a"\n[camera]\nkind = "still"\npath = "x"\n',
            "wanted a whole",
        ),
        ("jobs = 3\n", "jobs is 3, wanted a table of paths"),
        ("[jobs]\n1 = 5\n", "a path is 5, wanted text in quotes"),
        ("opcua = 3\n[jobs]\n1 = 'a'\n[camera]\nkind = 'still'\npath = 'x'\n", "opcua is 3"),
        (
            '[jobs]\n1 = "a"\n[camera]\nkind = "still"\npath = "x"\n[handshake]\nqueue = 0\n',
            "queue is 0",
        ),
        (
            '[jobs]\n1 = "a"\n[camera]\nkind = "still"\npath = "x"\n[opcua]\n',
            "no client can log in",
        ),
        (
            '[jobs]\n1 = "a"\n[camera]\nkind = "still"\npath = "x"\nlevels = [4095, 0]\n',
            "wanted the grey levels of black and white",
        ),
        ('first_job = 2\n[jobs]\n1 = "a"\n[camera]\nkind = "still"\npath = "x"\n', "first_job"),
    ],
)
def test_configurations_that_make_no_sense(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "station.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_station(path)
    assert message in unboxed(run("station", path, code=2).stderr)


SMALL = '[jobs]\n1 = "a"\n[camera]\nkind = "still"\npath = "x"\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (SMALL + '[handshake]\nreview = "yes"\n', 'is "yes", wanted "ng" or "review" or "ok"'),
        (SMALL + '[records]\npictures_of = ["GOOD"]\n', "pictures_of has GOOD, wanted some of OK"),
    ],
)
def test_values_that_make_no_sense(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "station.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_station(path)


def test_paths_start_at_the_configuration(bundle: Bundle, parts: Path, tmp_path: Path) -> None:
    path, _ = configure(tmp_path / "a", {1: bundle.path}, parts, {"queue": 3}, opcua=True)
    read = read_station(path)
    assert read.records.path == tmp_path / "a" / "records.sqlite"
    assert read.opcua is not None
    assert read.opcua.private_key == tmp_path / "a" / "station-key.pem"
    assert read.bundles == {1: bundle.path}
    assert read.handshake.queue == 3
