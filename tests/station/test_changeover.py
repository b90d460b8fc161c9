"""A line that goes on while its bundles are released, taken back, and changed over to."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from rdx_fast.bundle.bundle import Bundle, open_bundle
from rdx_fast.bundle.changes import override_limits
from rdx_fast.bundle.versions import list_versions, new_candidate, release
from rdx_fast.station.records.read import read_records
from rdx_fast.station.status_client import StatusClient
from support.line import check
from support.line_processes import PlcProcess, free_port
from support.programs import running, wait_for_station
from support.scripted import wait_until

PARTS, RATE, RELEASES = 100, 4, 4


@pytest.mark.slow
def test_no_trigger_is_missed(bundle: Bundle, parts: Path, tmp_path: Path) -> None:
    """Over Modbus, to a station that is a process of its own."""
    path = tmp_path / "part.rdx"
    released = open_bundle(shutil.copytree(bundle.path, path))
    threshold = released.manifest.executions[0].threshold.value
    with new_candidate(path) as folder:
        override_limits(open_bundle(folder), "another lamp", ng_above=4 * threshold, user="eva")
    modbus = free_port()
    (tmp_path / "station.toml").write_text(f"""\
[jobs]
1 = "part.rdx"
[camera]
kind = "folder"
path = "{parts / "calibration"}"
timeout_ms = 5000
[handshake]
deadline_ms = 5000
[modbus]
port = {modbus}
[status]
""")
    # A part that waited for a bundle to be opened would still be inspected when the next one comes.
    with running(tmp_path, "station", "station.toml"):
        wait_for_station(tmp_path)
        client = StatusClient(tmp_path / "station.socket")
        with PlcProcess(modbus, "--count", PARTS, "--give-up", 10, "--rate", RATE) as plc:
            for number in range(RELEASES):
                wait_until(lambda n=number: len(plc.answers) > PARTS * (n + 0.5) / (RELEASES + 1))
                _, other = list_versions(path)
                assert release(path, other.sha256).sha256 == other.sha256
                before = client.status()["jobs"]["1"]["sha256"]
                client.select_job(1)
                wait_until(lambda old=before: client.status()["jobs"]["1"]["sha256"] != old)
            plc.wait_for(lambda: plc.process.poll() is not None, 120)
            plc.stop()
        counts = client.status()["counts"]
    records = {r.inspection_id: r for r in read_records(tmp_path / "records.sqlite")}
    check(plc.answers, records, PARTS)
    assert counts["triggers"] == PARTS
    assert counts["missed"] == 0
    assert {r.result for r in records.values()} == {"OK"}
    changes = [a != b for a, b in zip(_bundles(records), _bundles(records)[1:], strict=False)]
    assert sum(changes) == RELEASES, "each release was used, for the parts after it"


def _bundles(records: dict[int, object]) -> list[str]:
    return [records[i].bundle_sha256 for i in sorted(records)]  # type: ignore[attr-defined]
