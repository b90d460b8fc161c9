"""Drift at the station: alarm, its reset, records, restarts, and what a PLC reads."""

from __future__ import annotations

import logging
import re
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families
from pymodbus.client import ModbusTcpClient

from rdx_fast import Detector
from rdx_fast.bundle.bundle import Bundle
from rdx_fast.drift import SIGNALS
from rdx_fast.images import list_images, read_image
from rdx_fast.recipe.frame_check import look_at, sharpness_of
from rdx_fast.station import CameraFrame, DriftConfig, Jobs, Station, StationConfig
from rdx_fast.station.config import read_station
from rdx_fast.station.handshake.signals import Controls
from rdx_fast.station.interfaces import LOOPBACK, MetricsConfig, ModbusConfig
from rdx_fast.station.plc.modbus import ModbusServer
from rdx_fast.station.plc.registers import (
    STATION_COUNT,
    STATION_START,
    is_set,
    value,
    write_controls,
)
from rdx_fast.station.prometheus import StationMetrics
from support.checkout import ROOT
from support.scripted import ScriptedCamera, rows, wait_until

USUAL = 40  # parts until something changes


@pytest.fixture(scope="module")
def detector(bundle: Bundle) -> Iterator[Detector]:
    with Detector(bundle.path) as opened:
        yield opened


@pytest.fixture
def watched(config: StationConfig, tmp_path: Path) -> StationConfig:
    """A false alarm in 30 parts is expected only where parts change; these are all alike."""
    return replace(config, drift=DriftConfig(false_alarm_every=30, path=tmp_path / "drift"))


class Line(ScriptedCamera):
    """The good parts in turn, under a lamp that may be dimmed."""

    def __init__(self, parts: Path) -> None:
        self.usual = [read_image(path) for path in list_images(parts / "calibration")]
        self.gain = 1.0
        super().__init__(self.usual[0])

    def grab(self, timeout_s: float) -> CameraFrame:
        self.frame = self.usual[self.number % len(self.usual)]
        if self.gain != 1:
            self.frame = np.rint(self.gain * self.frame).astype(np.uint8)
        return super().grab(timeout_s)


@pytest.fixture
def line(parts: Path) -> Line:
    return Line(parts)


def inspect_until(station: Station, met: Callable[[], bool]) -> None:
    """The watch looks at a part after its result, so the alarm comes some parts later."""
    for i in range(1000):
        if met():
            return
        assert station.inspect(i).result in ("OK", "NG")
    raise AssertionError("waited in vain")


def test_a_lamp_that_is_dimmed(
    detector: Detector,
    line: Line,
    watched: StationConfig,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with Station(detector, line, watched) as station:
        for i in range(USUAL):
            station.inspect(i)
        assert not station.status.drift
        line.gain = 0.9
        inspect_until(station, lambda: station.status.drift)
        cause = station.status.drift_cause
        assert cause.startswith("lamp or exposure: ")
        assert "brightness fell" in cause
        assert not station.status.error, "parts are inspected as before"
        (logged,) = (r for r in caplog.records if r.message == "drift")
        facts = vars(logged)
        assert logged.levelno == logging.WARNING
        assert (facts["job"], facts["cause"]) == (1, "lamp or exposure")
        assert facts["detail"] == cause
        # It stays, until reset; while nothing was mended it comes again.
        for i in range(5):
            station.inspect(i)
        assert station.status.drift
        station.reset()
        assert not station.status.drift
        inspect_until(station, lambda: station.status.drift)
    on_disk = rows(watched)
    for i, gain in ((0, 1.0), (USUAL, 0.9)):
        usual = line.usual[i % len(line.usual)]
        assert on_disk[i].brightness == pytest.approx(gain * look_at(usual).brightness, rel=0.01)
        assert on_disk[i].sharpness == pytest.approx(gain * sharpness_of(usual), rel=0.05)


def test_a_monitor_goes_on_after_a_restart(
    detector: Detector,
    line: Line,
    watched: StationConfig,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """With its memory, and with its alarm; not with a bundle that is another one."""
    caplog.set_level(logging.INFO, "rdx_fast")
    with Station(detector, line, watched) as station:
        for i in range(USUAL):
            station.inspect(i)
    line.gain = 0.9
    with Station(detector, line, watched) as station:
        inspect_until(station, lambda: station.status.drift)
        cause = station.status.drift_cause
    with Station(detector, line, watched) as station:
        assert not station.status.drift
        inspect_until(station, lambda: station.status.drift)
        assert station.status.drift_cause == cause
        assert len([r for r in caplog.records if r.message == "drift"]) == 1
    assert [r.message for r in caplog.records].count("drift monitor begins") == 1
    cropped = replace(watched, crop=(0, 0, *(n // 2 for n in line.shape[:2])))
    with Station(detector, line, cropped) as station:
        for i in range(USUAL):
            station.inspect(i)
        assert not station.status.drift
    assert [r.message for r in caplog.records].count("drift monitor begins") == 2
    assert watched.drift is not None
    (file,) = watched.drift.path.iterdir()
    file.write_bytes(b"PK\x03\x04 and no more")
    with Station(detector, line, watched) as station:
        station.inspect(1)
    assert "drift monitor lost" in [r.message for r in caplog.records]
    assert [r.message for r in caplog.records].count("drift monitor begins") == 3


def test_each_job_has_its_monitor(
    detector: Detector,
    bundle: Bundle,
    line: Line,
    watched: StationConfig,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(detector, "close", lambda: None)
    jobs = Jobs({1: bundle.path, 2: bundle.path}, lambda path: detector)
    with Station(jobs, line, watched) as station:
        for i in range(USUAL):  # what is usual for one job is not for the other
            line.gain = 0.9 if i % 2 else 1.0
            station.inspect(i, job=1 + i % 2)
        assert not station.status.drift
    assert station.drift is not None
    assert {job for job, _ in station.drift.statistics} == {1, 2}


def test_scores_are_of_passed_parts_alone(
    detector: Detector, camera: ScriptedCamera, watched: StationConfig, parts: Path
) -> None:
    notched = read_image(list_images(parts / "test" / "notch")[0])
    told: list[dict[str, float]] = []
    for frame, result in ((camera.frame, "OK"), (notched, "NG")):
        camera.frame = frame
        with Station(detector, camera, watched) as station:
            assert station.inspect(1).result == result
        assert station.drift is not None
        told.append({signal: s for (_, signal), s in station.drift.statistics.items()})
    assert told[0]["score"] == told[1]["score"]
    assert told[0]["brightness"] != told[1]["brightness"]
    assert told[0]["sharpness"] != told[1]["sharpness"]


def test_it_can_be_turned_off(
    detector: Detector, camera: ScriptedCamera, config: StationConfig, tmp_path: Path
) -> None:
    path = tmp_path / "station.toml"
    text = '[jobs]\n1 = "a"\n[camera]\nkind = "still"\npath = "x"\n'
    path.write_text(text)
    on = read_station(path).station.drift
    assert on == DriftConfig(path=tmp_path / "drift")
    path.write_text(text + "[drift]\nenabled = false\n")
    off = read_station(path).station.drift
    assert off is None
    with Station(detector, camera, replace(config, drift=off)) as station:
        station.inspect(1)
        assert station.drift is None
    assert rows(config)[0].brightness is None
    with pytest.raises(ValueError, match="false_alarm_every is 0, wanted at least 1"):
        DriftConfig(false_alarm_every=0)


def test_what_plc_and_metrics_show(detector: Detector, line: Line, watched: StationConfig) -> None:
    """Over Modbus: the lamp is dimmed in the middle, the bit comes, and goes by the reset bit."""
    station = Station(detector, line, watched)
    modbus = ModbusServer(station, ModbusConfig(port=0))
    metrics = StationMetrics(station, MetricsConfig(port=0))
    with station, modbus, metrics, ModbusTcpClient(LOOPBACK, port=modbus.port) as client:

        def words() -> list[int]:
            return client.read_holding_registers(STATION_START, count=STATION_COUNT).registers

        def write(**controls: bool) -> None:
            written = write_controls(Controls(enable=True, **controls))
            assert not client.write_registers(0, written).isError()

        def inspect() -> None:
            write()
            wait_until(lambda: is_set(words(), "trigger_ready"))
            write(trigger=True)
            wait_until(lambda: is_set(words(), "valid"))
            write(ack=True)

        for _ in range(USUAL):
            inspect()
        assert not is_set(words(), "drift")
        line.gain = 0.9
        for _ in range(1000):
            inspect()
            if is_set(words(), "drift"):
                break
        assert is_set(words(), "drift")
        assert value(words(), "alarm") == 0
        scores = "rdx_fast_score_ratio_count", ("1",)  # are counted after the result is shown
        wait_until(lambda: scraped(metrics.port)[scores] == len(rows(watched)))
        found = scraped(metrics.port)
        assert found["rdx_fast_drift", ()] == 1
        passed = sum(row.result == "OK" for row in rows(watched))
        assert found["rdx_fast_score_ratio_bucket", ("1", "1.0")] == passed > USUAL
        dashboard = (ROOT / "examples" / "grafana.json").read_text()
        asked = set(re.findall(r"rdx_fast_\w+", dashboard))
        assert asked <= {name for name, _ in found}
        evidence = [found["rdx_fast_drift_log10", ("1", signal)] for signal in SIGNALS]
        assert min(evidence) < 0 <= max(evidence)
        write(reset=True)
        wait_until(lambda: not is_set(words(), "drift"))
        assert scraped(metrics.port)["rdx_fast_drift", ()] == 0


def scraped(port: int) -> dict[tuple[str, tuple[str, ...]], float]:
    text = urllib.request.urlopen(f"http://{LOOPBACK}:{port}/metrics").read().decode()
    return {
        (sample.name, tuple(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
