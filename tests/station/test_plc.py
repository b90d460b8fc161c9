"""The station as PLCs see it: registers, Modbus TCP, OPC UA, with clients that others wrote."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from asyncua.crypto.cert_gen import (
    dump_private_key_as_pem,
    generate_private_key,
    generate_self_signed_app_certificate,
)
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families
from pymodbus.client import ModbusTcpClient

from rdx_fast import Detector
from rdx_fast.bundle.bundle import Bundle
from rdx_fast.station import (
    FolderReplay,
    HandshakeConfig,
    Jobs,
    RecordConfig,
    Station,
    StationConfig,
    StationError,
)
from rdx_fast.station.handshake.codes import ErrorCode, ResultCode
from rdx_fast.station.handshake.inspection import Inspection, Outcome
from rdx_fast.station.handshake.signals import (
    Controls,
    Counts,
    Status,
)
from rdx_fast.station.interfaces import LOOPBACK, MetricsConfig, ModbusConfig, OpcUaConfig
from rdx_fast.station.plc.modbus import ModbusServer
from rdx_fast.station.plc.opcua import OpcUaServer
from rdx_fast.station.plc.registers import (
    ERRORS,
    MAP,
    STATION_COUNT,
    STATION_START,
    is_set,
    read_controls,
    value,
    write_controls,
    write_status,
)
from rdx_fast.station.prometheus import StationMetrics
from support.checkout import ROOT
from support.line_fuzz import after, fuzz, fuzzed_station
from support.scripted import ScriptedDetector, wait_until

WORDS = st.integers(0, 0xFFFF)


# Registers


@given(
    st.builds(
        Controls,
        *[st.booleans()] * 5,
        part_id=WORDS,
        job=WORDS,
        heartbeat=WORDS,
        deadline_ms=WORDS,
    )
)
def test_controls_come_through(controls: Controls) -> None:
    assert read_controls(write_controls(controls)) == controls


@given(
    score=st.floats(0, 1e6, width=32),
    area=st.integers(0, 10**6),
    latency=st.floats(0, 10),
    inspection=st.integers(1, 2**32 - 1),
    part=WORDS,
    code=st.sampled_from(list(ResultCode)[1:]),
    review_as=st.sampled_from((ResultCode.NG, ResultCode.REVIEW, ResultCode.OK)),
)
def test_a_status_comes_through(
    score: float,
    area: int,
    latency: float,
    inspection: int,
    part: int,
    code: ResultCode,
    review_as: ResultCode,
) -> None:
    errors = {ResultCode.ERROR: ErrorCode.CAMERA, ResultCode.LATE: ErrorCode.DEADLINE}
    error = errors.get(code, ErrorCode.NONE)
    outcome = Outcome(code, error, "", score, area)
    inspected = Inspection(inspection, part, 1, 0.0, 1.0, outcome)
    status = Status(valid=True, result=inspected, latency_s=latency, review_as=review_as)
    words = write_status(status)
    assert len(words) == STATION_COUNT
    assert all(0 <= word <= 0xFFFF for word in words)
    assert value(words, "score") == score
    assert value(words, "part_id") == part
    assert value(words, "inspection_id") == inspection
    told = review_as if code is ResultCode.REVIEW else code
    assert value(words, "result") == told
    assert value(words, "error") == error
    assert value(words, "defect_area") == min(area, 65535)
    assert value(words, "latency") == min(round(latency * 1e5), 65535)
    assert is_set(words, "valid")
    assert is_set(words, "ok") == (told is ResultCode.OK)
    assert is_set(words, "ng") == (told is not ResultCode.OK)
    assert is_set(words, "review") == (code is ResultCode.REVIEW)


def test_counters_begin_again() -> None:
    counts = Counts(missed=65_535, passed=65_536, rejected=70_000, reviews=65_537)
    words = write_status(Status(counts=counts))
    names = ("missed", "passed", "rejected", "reviews")
    assert [value(words, name) for name in names] == [65_535, 0, 4_464, 1]


def test_registers_keep_to_their_places() -> None:
    used: dict[str, list[int]] = {"PLC": [], "station": []}
    for register in MAP:
        words = 1 + (register.type in WIDE)
        used[register.writer] += range(register.address, register.address + words)
    assert used["station"] == list(range(16, 33))
    assert used["PLC"] == list(range(5)), "5 to 9 are to come"
    assert {code for code, _, _ in ERRORS} == {int(code) for code in ErrorCode if code}


WIDE = ("float32", "uint32")


# Modbus


@pytest.fixture(scope="module")
def detector(bundle: Bundle) -> Iterator[Detector]:
    with Detector(bundle.path) as opened:
        yield opened


@pytest.fixture
def make_station(detector: Detector, parts: Path, tmp_path: Path) -> Callable[..., Station]:
    def make(frames: str = "calibration", by: Any = None, **rules: Any) -> Station:
        config = StationConfig(
            handshake=HandshakeConfig(
                **{"watchdog_ms": 0, "deadline_ms": 20_000, "hang_ms": 20_000, **rules}
            ),
            records=RecordConfig(tmp_path / "records.sqlite", pictures=tmp_path / "pictures"),
        )
        return Station(by or detector, FolderReplay(parts / frames), config)

    return make


@pytest.fixture
def unsure(detector: Detector, bundle: Bundle) -> Jobs:
    """Of a detector that says REVIEW of its first part, then OK."""
    engine: Any = ScriptedDetector(detector)
    engine.verdicts = ["REVIEW"]
    return Jobs({1: bundle.path}, lambda path: engine)


@pytest.fixture
def modbus(make_station: Callable[..., Station]) -> Iterator[tuple[Station, int]]:
    with make_station() as station, ModbusServer(station, ModbusConfig(port=0)) as server:
        yield station, server.port


def read_until(client: ModbusTcpClient, bit: str, wanted: bool = True) -> list[int]:
    end = time.monotonic() + 60
    while True:
        answer = client.read_holding_registers(STATION_START, count=STATION_COUNT)
        words = list(answer.registers)
        if is_set(words, bit) == wanted:
            return words
        assert time.monotonic() < end, f"{bit} did not become {wanted}"


def test_handshake_over_modbus(modbus: tuple[Station, int]) -> None:
    station, port = modbus
    client = ModbusTcpClient(LOOPBACK, port=port)
    assert client.connect()

    def write(**controls: Any) -> None:
        words = write_controls(Controls(enable=True, **controls))
        assert not client.write_registers(0, words).isError()

    write()
    for part_id in (7, 65535, 7):
        words = read_until(client, "trigger_ready")
        write(trigger=True, part_id=part_id, deadline_ms=60_000)
        words = read_until(client, "valid")
        assert is_set(words, "trigger_ack")
        assert value(words, "part_id") == part_id
        assert value(words, "result") == ResultCode.OK
        assert is_set(words, "ok")
        assert not is_set(words, "ng")
        assert 0 < value(words, "score") < 100
        assert 0 < value(words, "latency") == min(round(1e5 * station.status.latency_s), 65535)
        write(part_id=part_id)
        assert not is_set(read_until(client, "trigger_ack", False), "trigger_ack")
        assert is_set(read_until(client, "valid"), "valid"), "held until it is acknowledged"
        write(ack=True)
        words = read_until(client, "valid", False)
        assert not is_set(words, "ok")
        assert value(words, "result") == 0
        write()
    assert value(words, "passed") == 3
    beats = {value(read_until(client, "online"), "heartbeat")}
    wait_until(lambda: value(read_until(client, "online"), "heartbeat") not in beats)
    # What a PLC must not do.
    assert client.write_register(STATION_START, 1).exception_code == 2
    assert client.write_registers(8, [0] * 4).exception_code == 2
    assert client.read_holding_registers(40, count=20).exception_code == 2
    assert client.read_coils(0, count=1).exception_code == 1
    assert client.write_coil(0, True).exception_code == 1
    client.close()


@pytest.mark.parametrize(("review", "code"), [("ng", 2), ("review", 5), ("ok", 1)])
def test_review_over_modbus(
    make_station: Callable[..., Station], unsure: Jobs, review: str, code: int
) -> None:
    station = make_station(by=unsure, review=review)
    with station, ModbusServer(station, ModbusConfig(port=0)) as server:
        client = ModbusTcpClient(LOOPBACK, port=server.port)
        assert client.connect()

        def write(**controls: Any) -> None:
            words = write_controls(Controls(enable=True, **controls))
            assert not client.write_registers(0, words).isError()

        write()
        for part_id, result, is_review in ((7, code, True), (8, 1, False)):
            write(trigger=True, part_id=part_id)
            words = read_until(client, "valid")
            assert (value(words, "part_id"), value(words, "result")) == (part_id, result)
            bits = [is_set(words, bit) for bit in ("ok", "ng", "review")]
            assert bits == [result == 1, result != 1, is_review]
            assert value(words, "error") == 0
            write(ack=True)
            words = read_until(client, "valid", False)
            assert not is_set(words, "review")
            write()
        counts = [value(words, name) for name in ("passed", "rejected", "reviews")]
        assert counts == ([2, 0, 1] if review == "ok" else [1, 1, 1])
        client.close()


def is_refused(client: socket.socket, within_s: float) -> bool:
    """Closed or reset by the other side."""
    client.settimeout(within_s)
    try:
        return client.recv(1) == b""
    except ConnectionResetError:
        return True
    except TimeoutError:
        return False


def clients_of(server: ModbusServer) -> dict[Any, float]:
    """Those that the server has heard of by now."""
    assert server._server is not None
    return server._server._heard


def test_only_so_many_clients(make_station: Callable[..., Station]) -> None:
    config = ModbusConfig(port=0, max_clients=2)
    with make_station() as station, ModbusServer(station, config) as server:
        for _ in range(3):  # those that leave make room
            with ExitStack() as stack:
                clients = [
                    stack.enter_context(socket.create_connection((LOOPBACK, server.port)))
                    for _ in range(3)
                ]
                assert is_refused(clients[2], 60)
                assert not is_refused(clients[0], 0.3)
            wait_until(lambda: not clients_of(server))


def test_a_silent_client_makes_room(make_station: Callable[..., Station]) -> None:
    """Strangers that connect and say nothing do not keep the PLC out."""
    config = ModbusConfig(port=0, max_clients=2, idle_s=0.2)
    with make_station() as station, ModbusServer(station, config) as server, ExitStack() as stack:
        strangers = [
            stack.enter_context(socket.create_connection((LOOPBACK, server.port))) for _ in range(2)
        ]
        wait_until(lambda: len(clients_of(server)) == 2)
        time.sleep(0.3)
        plc = ModbusTcpClient(LOOPBACK, port=server.port)
        assert plc.connect()
        assert is_set(read_until(plc, "online"), "online")
        assert is_refused(strangers[0], 60)
        assert not is_refused(strangers[1], 0.3)
        plc.close()


def test_it_listens_where_the_configuration_says(make_station: Callable[..., Station]) -> None:
    for config in (ModbusConfig(), OpcUaConfig(users={"plc": "x"}), MetricsConfig()):
        assert config.address == "127.0.0.1"
    with make_station() as station, ModbusServer(station, ModbusConfig(port=0)) as server:
        found = subprocess.run(
            ["cat", "/proc/net/tcp"], capture_output=True, text=True, check=True
        ).stdout
        listening = [line.split()[1] for line in found.splitlines() if " 0A " in line]
        here = [where for where in listening if where.endswith(f":{server.port:04X}")]
        assert here == [f"0100007F:{server.port:04X}"]
        taken = ModbusServer(station, ModbusConfig(port=server.port))
        with pytest.raises(StationError, match="Modbus cannot listen"):
            taken.__enter__()


@pytest.mark.skipif(shutil.which("mbpoll") is None, reason="mbpoll is not installed")
def test_mbpoll(modbus: tuple[Station, int]) -> None:
    """A client that no one here wrote."""
    _, port = modbus

    def mbpoll(*arguments: object) -> list[int]:
        command = ["mbpoll", "-m", "tcp", "-p", port, "-1", "-0", "-t", "4", *arguments]
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        lines = [line for line in done.stdout.splitlines() if line.startswith("[")]
        return [int(line.split("\t")[1].split()[0]) for line in lines]

    def write(*words: int) -> None:
        mbpoll("-r", 0, LOOPBACK, "--", *words)

    write(1, 0, 0, 1, 0)
    write(3, 4711, 0, 2, 60_000)
    shown = ("-r", STATION_START, "-c", STATION_COUNT, LOOPBACK)
    wait_until(lambda: is_set(mbpoll(*shown), "valid"))
    words = mbpoll(*shown)
    assert is_set(words, "ok")
    assert value(words, "part_id") == 4711
    # The float as mbpoll itself reads it, most significant word first.
    options = ["-m", "tcp", "-p", str(port), "-1", "-0", "-B", "-t", "4:float", "-r", "19"]
    command = ["mbpoll", *options, LOOPBACK]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    line = next(line for line in done.stdout.splitlines() if line.startswith("[19]"))
    assert float(line.split("\t")[1]) == pytest.approx(value(words, "score"), rel=1e-4)
    write(5, 4711, 0, 3, 0)
    words = mbpoll(*shown)
    assert not is_set(words, "valid")
    assert value(words, "passed") == 1


# OPC UA


@pytest.fixture
def opcua(
    make_station: Callable[..., Station], unsure: Jobs, tmp_path: Path
) -> Iterator[tuple[Station, int]]:
    station = make_station(by=unsure)
    config = OpcUaConfig(
        port=0,
        users={"plc": "secret"},
        certificate=tmp_path / "station.der",
        private_key=tmp_path / "station.pem",
    )
    server = OpcUaServer(station, config)
    with station, server:
        assert (tmp_path / "station.pem").stat().st_mode & 0o777 == 0o600
        yield station, server.port


@pytest.fixture(scope="module")
def identity(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A PLC's certificate and key."""
    folder = tmp_path_factory.mktemp("plc")
    key = generate_private_key()
    names: list[x509.GeneralName] = [x509.UniformResourceIdentifier("urn:test:plc")]
    usage = [ExtendedKeyUsageOID.CLIENT_AUTH]
    certificate = generate_self_signed_app_certificate(key, "plc", {}, names, usage)
    (folder / "plc.der").write_bytes(certificate.public_bytes(Encoding.DER))
    (folder / "plc.pem").write_bytes(dump_private_key_as_pem(key))
    return folder / "plc.der", folder / "plc.pem"


def o6_plc(*arguments: object) -> None:
    script = ROOT / "tests" / "support" / "o6_plc.py"
    command = [sys.executable, "-P", str(script), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)
    assert done.stdout.endswith("done\n"), done.stdout + done.stderr


def test_o6(opcua: tuple[Station, int], identity: tuple[Path, Path]) -> None:
    """A client of another make."""
    station, port = opcua
    o6_plc("drive", port, *identity)
    counts = station.status.counts
    assert (counts.passed, counts.rejected, counts.reviews) == (2, 2, 1)


@pytest.mark.slow  # "ng", the default, is in test_o6
@pytest.mark.parametrize(("review", "told"), [("review", "REVIEW"), ("ok", "OK")])
def test_review_over_opcua(
    make_station: Callable[..., Station],
    unsure: Jobs,
    identity: tuple[Path, Path],
    review: str,
    told: str,
) -> None:
    certificate, key = identity
    config = OpcUaConfig(port=0, anonymous=True, certificate=certificate, private_key=key)
    station = make_station(by=unsure, review=review)
    server = OpcUaServer(station, config)
    with station, server:
        o6_plc("review", server.port, told)


def test_nobody_else_comes_in(opcua: tuple[Station, int], identity: tuple[Path, Path]) -> None:
    o6_plc("knock", opcua[1], *identity)


def test_anonymous_only_if_the_configuration_says_so(
    make_station: Callable[..., Station], tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="no client can log in"):
        OpcUaConfig()
    station = make_station()
    files = {"certificate": tmp_path / "c.der", "private_key": tmp_path / "k.pem"}
    server = OpcUaServer(station, OpcUaConfig(port=0, anonymous=True, **files))
    with station, server:
        o6_plc("look", server.port)


# Metrics


def test_metrics(make_station: Callable[..., Station]) -> None:
    import urllib.request

    station = make_station("test")
    metrics = StationMetrics(station, MetricsConfig(port=0))
    with station, metrics:
        results = [station.inspect(i).result for i in range(16)]
        end = time.monotonic() + 60
        while True:
            address = f"http://{LOOPBACK}:{metrics.port}/metrics"
            text = urllib.request.urlopen(address).read().decode()
            found = {
                (sample.name, frozenset(sample.labels.values())): sample.value
                for family in text_string_to_metric_families(text)
                for sample in family.samples
            }
            if found.get(("rdx_fast_inspection_seconds_count", frozenset({"decided"}))) == 16:
                break
            assert time.monotonic() < end
    assert found["rdx_fast_online", frozenset()] == 1
    assert found["rdx_fast_triggers_total", frozenset()] == 16
    for result in ("OK", "NG"):
        assert found["rdx_fast_results_total", frozenset({result, "", "1"})] == results.count(
            result
        )
    assert 0 < found["rdx_fast_inspection_seconds_sum", frozenset({"score"})] < 16


# Strangers


@pytest.mark.slow
def test_malformed_messages(bundle: Bundle, parts: Path, tmp_path: Path) -> None:
    """As ``python -m support.line_fuzz`` does, with fewer of them."""
    frames = parts / "calibration"
    with fuzzed_station(tmp_path, bundle.path, frames) as (station, ports, watch):
        fuzz(station, ports, 3000, seed=1, tell=print)
        assert watch.broken == []
        assert after(station)["then"] == "OK"
        client = ModbusTcpClient(LOOPBACK, port=ports["modbus"])
        assert client.connect()
        assert is_set(read_until(client, "online"), "online")
        client.close()
