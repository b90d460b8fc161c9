"""An OPC UA client of another make (o6, built on open62541), as a process of its own: without a
licence it ends whatever process imports it after ten minutes."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import o6

JOB_UNKNOWN = 30


def client(port: str, identity: tuple[str, str] | None, **options: Any) -> o6.Client:
    if identity is not None:
        options |= {
            "certificate": Path(identity[0]),
            "privateKey": Path(identity[1]),
            "securityMode": 3,
            "securityPolicy": "http://opcfoundation.org/UA/SecurityPolicy#Basic256Sha256",
            "applicationUri": "urn:test:plc",
        }
    return o6.Client(f"opc.tcp://127.0.0.1:{port}/rdx_fast/station", **options)


def wait_for(met: Callable[[], Any]) -> None:
    end = time.monotonic() + 60
    while not met():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


def drive(port: str, *identity: str) -> None:
    """Inspect a part in doubt and a good one, ask for a job that is not there, and reset."""
    certificate, key = identity
    with client(port, (certificate, key), username="plc", password="secret") as plc:
        system = plc.objects.VisionSystem
        machine = system.VisionStateMachine
        automatic = machine.AutomaticModeStateMachine
        latest = system.ResultManagement.Results.LatestResult
        acknowledge = system.ResultManagement.AcknowledgeResult
        assert machine.CurrentState() == "Operational"
        assert automatic.CurrentState() == "Ready"
        assert system.Status.Online()
        events: list[dict[str, Any]] = []
        plc.monitorEvent("i=2253", lambda event, *_: events.append(event))

        def start(part: int, job: int) -> int:
            status, result_id, error = automatic.StartSingleJob(
                o6.UInt16(part), o6.UInt16(job), o6.UInt16(60_000)
            )
            assert (status, error) == (0, 0)
            wait_for(latest.Valid)
            assert latest.ResultId() == result_id
            return int(result_id)

        result_id = start(20, 1)
        assert (latest.Verdict(), latest.Review(), latest.ErrorCode()) == ("NG", True, 0)
        assert acknowledge(o6.UInt32(result_id))[1] == 0
        wait_for(lambda: not latest.Valid())
        assert not latest.Review()
        result_id = start(21, 1)
        assert latest.PartId() == 21
        assert not latest.Review()
        assert latest.Verdict() == "OK"
        assert latest.JobId() == 1
        assert latest.Score() > 0
        assert latest.ErrorCode() == 0
        assert latest.EndTime() > latest.CreationTime()
        wait_for(lambda: len(events) == 2)
        told = [str(event["/Message"]) for event in events]
        assert "part 20: REVIEW" in told[0]
        assert "part 21: OK" in told[1]
        assert acknowledge(o6.UInt32(result_id + 1))[1] != 0
        assert acknowledge(o6.UInt32(result_id))[1] == 0
        wait_for(lambda: not latest.Valid())
        assert latest.Verdict() == "NONE"
        # A job that is not configured: an error, an alarm, and a reset.
        result_id = start(22, 5)
        assert (latest.Verdict(), latest.ErrorCode()) == ("ERROR", JOB_UNKNOWN)
        wait_for(lambda: machine.CurrentState() == "Error")
        assert acknowledge(o6.UInt32(result_id))[1] == 0
        wait_for(lambda: not latest.Valid())
        start(23, 1)
        assert latest.Verdict() == "OK"
        assert machine.Reset()[1] == 0
        wait_for(lambda: machine.CurrentState() == "Operational")
        assert is_refused(lambda: system.Status.Online(False)), (
            "status is not the client's to write"
        )


def review(port: str, told: str) -> None:
    """Inspect a part in doubt, at a station that tells it as ``told``."""
    with client(port, None) as plc:
        system = plc.objects.VisionSystem
        latest = system.ResultManagement.Results.LatestResult
        events: list[dict[str, Any]] = []
        plc.monitorEvent("i=2253", lambda event, *_: events.append(event))
        start = system.VisionStateMachine.AutomaticModeStateMachine.StartSingleJob
        _, result_id, error = start(o6.UInt16(7), o6.UInt16(0), o6.UInt16(60_000))
        assert error == 0
        wait_for(latest.Valid)
        assert (latest.Verdict(), latest.Review(), latest.ErrorCode()) == (told, True, 0)
        wait_for(lambda: events)
        assert "part 7: REVIEW" in str(events[0]["/Message"])
        wait_for(lambda: system.Status.Reviews() == 1)
        assert (system.Status.Passed(), system.Status.Rejected()) == (told == "OK", told != "OK")
        assert system.ResultManagement.AcknowledgeResult(o6.UInt32(result_id))[1] == 0
        wait_for(lambda: not latest.Valid())
        assert not latest.Review()


def knock(port: str, *identity: str) -> None:
    """Try what must not let anybody in."""
    certificate, key = identity
    for given, options in (
        (None, {}),
        (None, {"username": "plc", "password": "secret"}),
        ((certificate, key), {}),
        ((certificate, key), {"username": "plc", "password": "wrong"}),
        ((certificate, key), {"username": "other", "password": ""}),
    ):
        assert is_refused(client(port, given, **options).connect), f"let in with {options}"


def look(port: str) -> None:
    """Anonymous, and without encryption."""
    with client(port, None) as plc:
        assert plc.objects.VisionSystem.Status.Online()


def is_refused(act: Callable[[], Any]) -> bool:
    try:
        act()
    except o6.StatusCodeError:
        return True
    return False


if __name__ == "__main__":
    acts: dict[str, Callable[..., None]] = {f.__name__: f for f in (drive, review, knock, look)}
    acts[sys.argv[1]](*sys.argv[2:])
    print("done")
