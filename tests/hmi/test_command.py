"""The commands hmi and hmi-user."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import sqlite3
import ssl
import subprocess
import sys
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from rdx_fast.hmi.users import Users
from rdx_fast.station.config import read_station
from rdx_fast.station.records.changes import read_changes
from rdx_fast.station.records.store import COLUMNS, RecordWriter
from support.commands import RDX_FAST, run
from support.station_records import a_record, write_records

JOBS = '[jobs]\n1 = "part.rdx"\n[camera]\nkind = "still"\npath = "frame.png"\n'


@pytest.fixture
def station(tmp_path: Path) -> Path:
    """A configuration whose page listens on any free port."""
    path = tmp_path / "line.toml"
    path.write_text(f"{JOBS}[hmi]\nport = 0\n")
    RecordWriter(tmp_path / "records.sqlite").close()
    return path


@pytest.mark.slow
def test_users(station: Path, tmp_path: Path) -> None:
    password = tmp_path / "password.txt"
    password.write_text("secret word\nsecond line\n")
    options = ("--station", station, "--password-file", password)
    run("hmi-user", "add", "olga", "--role", "operator", *options)
    run("hmi-user", "add", "emil", "--role", "engineer", *options)
    assert (
        "already" in run("hmi-user", "add", "emil", "--role", "operator", *options, code=2).stderr
    )
    users = Users(tmp_path / "hmi-users.json")
    assert users.check("olga", "secret word") == users.get("olga")
    listed = json.loads(run("hmi-user", "list", "--station", station, "--json").stdout)
    assert listed == [{"name": "emil", "role": "engineer"}, {"name": "olga", "role": "operator"}]
    assert "engineer" in run("hmi-user", "list", "--station", station).stdout
    run("hmi-user", "remove", "emil", "--station", station)
    assert (
        "no user 'emil'" in run("hmi-user", "remove", "emil", "--station", station, code=2).stderr
    )
    changes = [(c.action, c.before, c.after) for c in read_changes(tmp_path / "records.sqlite")]
    assert changes == [
        ("user", {}, {"user": "olga", "role": "operator"}),
        ("user", {}, {"user": "emil", "role": "engineer"}),
        ("user", {"user": "emil", "role": "engineer"}, {}),
    ]
    password.write_text("")
    assert "is empty" in run("hmi-user", "add", "a", "--role", "operator", *options, code=2).stderr


@pytest.mark.slow
def test_no_user_is_added_or_removed_without_an_entry(station: Path, tmp_path: Path) -> None:
    password = tmp_path / "password.txt"
    password.write_text("secret word\n")
    options = ("--station", station, "--password-file", password)
    run("hmi-user", "add", "olga", "--role", "operator", *options)
    with closing(sqlite3.connect(tmp_path / "records.sqlite", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        refused = [
            run("hmi-user", "add", "emil", "--role", "engineer", *options, code=2),
            run("hmi-user", "remove", "olga", "--station", station, code=2),
        ]
    assert all("cannot be entered" in of.stderr for of in refused)
    assert [of.name for of in Users(tmp_path / "hmi-users.json").all()] == ["olga"]
    assert len(read_changes(tmp_path / "records.sqlite")) == 1


def test_what_is_missing_is_said(station: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare.toml"
    bare.write_text(JOBS)
    assert "no table [hmi]" in run("hmi", bare, code=2).stderr
    assert "no table [hmi]" in run("hmi-user", "list", "--station", bare, code=2).stderr
    assert "hmi-user add" in run("hmi", station, code=2).stderr


def test_a_port_that_is_taken(station: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        station.write_text(f"{JOBS}[hmi]\nport = {port}\nanonymous = true\n")
        assert f"port {port}" in run("hmi", station, code=2).stderr


def test_certificates_that_cannot_be_used(station: Path) -> None:
    station.write_text(
        f"{JOBS}[hmi]\nport = 0\nanonymous = true\ncertificate = 'c.pem'\nprivate_key = 'k.pem'\n"
    )
    assert "c.pem with private_key" in run("hmi", station, code=2).stderr


@pytest.mark.parametrize(
    ("address", "warned"),
    [
        *(("127.0.0.1", False), ("::1", False), ("localhost", False)),
        *(("0.0.0.0", True), ("10.0.0.1", True), ("::", True), ("line-1.plant", True)),
    ],
)
def test_passwords_in_clear_are_warned_of(
    station: Path, monkeypatch: pytest.MonkeyPatch, address: str, warned: bool
) -> None:
    monkeypatch.setattr("rdx_fast.hmi.serve.serve", lambda *_: None)
    station.write_text(f"{JOBS}[hmi]\naddress = '{address}'\n")
    assert ("unencrypted" in run("hmi", station).stderr) == warned


def test_without_starlette(station: Path) -> None:
    # Stands for an installation without the extra: the import system finds no such package.
    code = (
        "import sys; sys.modules['starlette'] = None\n"
        f"sys.argv = ['rdx-fast', 'hmi', {str(station)!r}]\n"
        "from rdx_fast.cli import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert ".[hmi]" in done.stderr


def certificate(folder: Path) -> None:
    """A certificate of localhost, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), False)
        .sign(key, SHA256())
    )
    (folder / "c.pem").write_bytes(signed.public_bytes(Encoding.PEM))
    (folder / "k.pem").write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )


@pytest.mark.parametrize("encrypted", [pytest.param(False, marks=pytest.mark.slow), True])
def test_serving(station: Path, tmp_path: Path, encrypted: bool) -> None:
    certificate(tmp_path)
    table = "[hmi]\nport = 0\nanonymous = true\n"
    table += "certificate = 'c.pem'\nprivate_key = 'k.pem'\n" if encrypted else ""
    station.write_text(JOBS + table)
    with subprocess.Popen([RDX_FAST, "hmi", station], stderr=subprocess.PIPE, text=True) as page:
        try:
            assert page.stderr is not None
            found = re.search(r"(https?)://127\.0\.0\.1:(\d+)/", page.stderr.readline())
            assert found is not None
            assert found[1] == ("https" if encrypted else "http")
            assert os.getpriority(os.PRIO_PROCESS, page.pid) >= 10
            trust = ssl.create_default_context(cafile=tmp_path / "c.pem")
            answer = httpx.get(f"{found[1]}://localhost:{found[2]}/api/session", verify=trust)
            assert answer.json()["station"] == "line"
            assert "server" not in answer.headers
            live = f"{found[1]}://localhost:{found[2]}/api/live"
            with httpx.stream("GET", live, verify=trust) as events:
                lines = events.iter_lines()
                assert next(lines).startswith("retry: ")
                page.send_signal(signal.SIGTERM)
                assert "event: snapshot" in list(lines), "the stream ends by itself"
        finally:
            page.terminate()
            page.wait(20)
        assert page.stderr.read() == ""
    assert page.returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize("sending", [False, True])
def test_it_ends_during_an_export(station: Path, tmp_path: Path, sending: bool) -> None:
    station.write_text(f"{JOBS}[hmi]\nport = 0\nanonymous = true\n")
    records = tmp_path / "records.sqlite"
    write_records(records, a_record(1))
    rows = 20_000 if sending else 400_000
    with closing(sqlite3.connect(records)) as connection:
        columns = ", ".join(COLUMNS[1:])
        connection.execute(
            f"INSERT INTO inspections ({columns}) WITH RECURSIVE n(i) AS "
            f"(SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows}) "
            f"SELECT {columns} FROM inspections, n"
        )
        connection.commit()
    with subprocess.Popen([RDX_FAST, "hmi", station], stderr=subprocess.PIPE, text=True) as page:
        try:
            assert page.stderr is not None
            port = page.stderr.readline().strip().removesuffix("/").rpartition(":")[2]
            with socket.socket() as browser:
                browser.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                browser.connect(("127.0.0.1", int(port)))
                browser.sendall(b"GET /api/export HTTP/1.1\r\nHost: localhost\r\n\r\n")
                if sending:
                    assert browser.recv(12) == b"HTTP/1.1 200"
                else:
                    time.sleep(0.5)
                begun = time.monotonic()
                page.send_signal(signal.SIGTERM)
                if not sending:
                    assert browser.recv(12) == b"HTTP/1.1 503"
                page.wait(20)
                assert time.monotonic() - begun < 6
        finally:
            page.terminate()
            page.wait(20)
        assert "Traceback" not in page.stderr.read()
    assert page.returncode == 0


def test_files_are_beside_the_configuration(station: Path, tmp_path: Path) -> None:
    hmi = read_station(station).hmi
    assert hmi is not None
    assert hmi.users == tmp_path / "hmi-users.json"
