"""The OPC UA server. The only file that imports asyncua.

Nodes have the names, but not the types, of the companion specification for machine vision (OPC
40100-1), and are in the station's own namespace.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import os
import socket
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from rdx_fast.errors import MissingDependencyError
from rdx_fast.station.handshake.codes import ErrorCode, ResultCode
from rdx_fast.station.handshake.signals import Status
from rdx_fast.station.interfaces import OpcUaConfig
from rdx_fast.station.plc.server_thread import ServerThread
from rdx_fast.station.records.store import InspectionRecord
from rdx_fast.station.station import Station, StationError

try:
    from asyncua import ua
    from asyncua.common.methods import uamethod
    from asyncua.common.node import Node
    from asyncua.crypto.cert_gen import (
        dump_private_key_as_pem,
        generate_private_key,
        generate_self_signed_app_certificate,
    )
    from asyncua.crypto.permission_rules import User, UserRole
    from asyncua.crypto.security_policies import SecurityPolicyBasic256Sha256
    from asyncua.server.server import Server
    from asyncua.server.user_managers import UserManager
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding
    from cryptography.x509.oid import ExtendedKeyUsageOID
except ModuleNotFoundError as _error:
    if (_error.name or "").partition(".")[0] not in ("asyncua", "cryptography"):
        raise
    raise MissingDependencyError("asyncua", "OPC UA", "station") from None

log = logging.getLogger(__name__)

NAMESPACE = "urn:rdx_fast:station"
_Type = ua.VariantType
# ResultState values of OPC 40100-1: completed, aborted.
_COMPLETED, _ABORTED = 1, 3

_STATUS: dict[str, tuple[_Type, Callable[[Status], Any]]] = {
    "Online": (_Type.Boolean, lambda s: s.online),
    "TriggerReady": (_Type.Boolean, lambda s: s.trigger_ready),
    "Busy": (_Type.Boolean, lambda s: s.busy),
    "MissedTrigger": (_Type.Boolean, lambda s: s.missed_trigger),
    "Overrun": (_Type.Boolean, lambda s: s.overrun),
    "LinkLost": (_Type.Boolean, lambda s: s.link_lost),
    "RecordAlarm": (_Type.Boolean, lambda s: s.record_alarm),
    "Drift": (_Type.Boolean, lambda s: s.drift),
    "DriftCause": (_Type.String, lambda s: s.drift_cause),
    "Alarm": (_Type.UInt16, lambda s: int(s.error)),
    "ActiveJob": (_Type.UInt16, lambda s: s.active_job),
    "Waiting": (_Type.UInt16, lambda s: s.waiting),
    "Heartbeat": (_Type.UInt16, lambda s: s.heartbeat),
    "Triggers": (_Type.UInt32, lambda s: s.counts.triggers & 0xFFFFFFFF),
    "Passed": (_Type.UInt32, lambda s: s.counts.passed & 0xFFFFFFFF),
    "Rejected": (_Type.UInt32, lambda s: s.counts.rejected & 0xFFFFFFFF),
    "Reviews": (_Type.UInt32, lambda s: s.counts.reviews & 0xFFFFFFFF),
    "Missed": (_Type.UInt32, lambda s: s.counts.missed & 0xFFFFFFFF),
    "Answered": (_Type.UInt32, lambda s: s.counts.answered & 0xFFFFFFFF),
}
_RESULT: dict[str, tuple[_Type, Callable[[InspectionRecord], Any]]] = {
    "ResultId": (_Type.UInt32, lambda r: r.inspection_id & 0xFFFFFFFF),
    "PartId": (_Type.UInt16, lambda r: r.part_id),
    "JobId": (_Type.UInt16, lambda r: r.job),
    "InternalRecipeId": (_Type.String, lambda r: r.bundle or ""),
    "CreationTime": (_Type.DateTime, lambda r: _time(r, 0.0)),
    "StartTime": (_Type.DateTime, lambda r: _time(r, r.start_ms or 0.0)),
    "EndTime": (_Type.DateTime, lambda r: _time(r, r.decided_ms)),
    "AcquisitionDuration": (_Type.Double, lambda r: r.grab_ms or 0.0),
    "ProcessingDuration": (_Type.Double, lambda r: r.score_ms or 0.0),
    "IsPartial": (_Type.Boolean, lambda r: False),
    "ResultState": (_Type.Int32, lambda r: _ABORTED if r.error else _COMPLETED),
    "Verdict": (_Type.String, lambda r: r.result),
    "Review": (_Type.Boolean, lambda r: r.result == ResultCode.REVIEW.name),
    "Score": (_Type.Float, lambda r: r.score or 0.0),
    "DefectArea": (_Type.UInt32, lambda r: r.area_px or 0),
    "ErrorCode": (_Type.UInt16, lambda r: int(ErrorCode[r.error]) if r.error else 0),
    "ErrorText": (_Type.String, lambda r: r.detail or ""),
}
# Values of the result nodes while there is no result.
_NO_RESULT = InspectionRecord(
    *(0, 0, 0, None, None, "1970-01-01T00:00:00+00:00", 0.0, ResultCode.NONE.name, None, None),
    *(None,) * 9,
    decided_ms=0.0,
)


class _Users(UserManager):
    """Allows users with their passwords, and anonymous clients if they are allowed."""

    def __init__(self, users: dict[str, str], anonymous: bool) -> None:
        self._users, self._anonymous = users, anonymous

    def get_user(
        self,
        iserver: Any,
        username: str | None = None,
        password: str | None = None,
        certificate: Any = None,
    ) -> User | None:
        if username is None:
            return User(role=UserRole.User, name="anonymous") if self._anonymous else None
        wanted = self._users.get(username) or ""
        same = hmac.compare_digest((password or "").encode(), wanted.encode())
        return User(role=UserRole.User, name=username) if same and wanted else None


class _UaServer(Server):
    """Requires that passwords are also encrypted separately, as strict clients do."""

    def _set_endpoints(self, policy: Any, mode: Any, level: int) -> None:
        super()._set_endpoints(policy, mode, level)
        for endpoint in self.iserver.endpoints:
            for token in endpoint.UserIdentityTokens:
                if token.TokenType == ua.UserTokenType.UserName:
                    token.SecurityPolicyUri = SecurityPolicyBasic256Sha256.URI


class OpcUaServer(ServerThread):
    """Serves a station's state, results and methods over OPC UA.

    A context manager: see ``ServerThread``. Create it before the station is started.

    Args:
        station: the station
        config: address, port, users and certificate
    """

    def __init__(self, station: Station, config: OpcUaConfig) -> None:
        super().__init__("OPC UA", config.address, config.port)
        self._station, self._config = station, config
        self._nodes: dict[str, Node] = {}
        self._written: dict[str, Any] = {}
        self._news: asyncio.Queue[InspectionRecord | None] = asyncio.Queue()
        self._told = True
        station.listen(on_status=self._on_status, on_result=self._on_result)

    # Called from the station's threads

    def _on_status(self, status: Status) -> None:
        if self._told:
            self._told = False
            self._put(None)

    def _on_result(self, record: InspectionRecord) -> None:
        self._put(record)

    def _put(self, news: InspectionRecord | None) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._news.put_nowait, news)

    # In the event loop's thread

    async def _open(self) -> None:
        config = self._config
        self._server = _UaServer(user_manager=_Users(config.users, config.anonymous))
        server = self._server
        await server.init()
        server.set_endpoint(f"opc.tcp://{config.address}:{config.port}/rdx_fast/station")
        server.set_server_name("rdx_fast station")
        uri = f"urn:{socket.gethostname()}:rdx_fast:station"
        await server.set_application_uri(uri)
        policies = [ua.SecurityPolicyType.Basic256Sha256_SignAndEncrypt]
        tokens: list[type] = [ua.UserNameIdentityToken] if config.users else []
        if config.anonymous:
            policies.append(ua.SecurityPolicyType.NoSecurity)
            tokens.append(ua.AnonymousIdentityToken)
        server.set_security_policy(policies)
        server.set_identity_tokens(tokens)
        await self._load_certificate(uri)
        await self._make_nodes(await server.register_namespace(NAMESPACE))
        await server.start()
        self._task = asyncio.create_task(self._follow())
        log.info("OPC UA", extra={"address": config.address, "port": self.port})

    async def _close(self) -> None:
        self._task.cancel()
        await self._server.stop()

    @property
    def port(self) -> int:
        """The TCP port that the server listens on, also if the configuration says 0."""
        listening: Any = self._server.bserver
        return listening._server.sockets[0].getsockname()[1]

    async def _load_certificate(self, uri: str) -> None:
        key, certificate = self._config.private_key, self._config.certificate
        if key.exists() != certificate.exists():
            missing = certificate if key.exists() else key
            raise StationError(
                f"{missing} is missing: give both certificate and private key, or neither to have "
                f"them created"
            )
        if not key.exists():
            _make_certificate(key, certificate, uri)
        await self._server.load_certificate(certificate)
        await self._server.load_private_key(key)

    async def _make_nodes(self, namespace: int) -> None:
        async def folder(parent: Node, name: str) -> Node:
            return await parent.add_object(namespace, name)

        async def variable(parent: Node, name: str, kind: _Type, value: Any) -> None:
            self._nodes[name] = await parent.add_variable(namespace, name, value, kind)

        system = await folder(self._server.get_objects_node(), "VisionSystem")
        machine = await folder(system, "VisionStateMachine")
        automatic = await folder(machine, "AutomaticModeStateMachine")
        self._states = [
            await node.add_variable(namespace, "CurrentState", "Preoperational", _Type.String)
            for node in (machine, automatic)
        ]
        management = await folder(system, "ResultManagement")
        results = await folder(management, "Results")
        result = await folder(results, "LatestResult")
        status = await folder(system, "Status")
        for name, (kind, of) in _RESULT.items():
            await variable(result, name, kind, of(_NO_RESULT))
        await variable(result, "Valid", _Type.Boolean, False)
        for name, (kind, of_status) in _STATUS.items():
            await variable(status, name, kind, of_status(Status()))
        words, numbers = [_Type.UInt16] * 3, [_Type.UInt32, _Type.Int32]
        await automatic.add_method(namespace, "StartSingleJob", self._start, words, numbers)
        await machine.add_method(namespace, "Reset", self._reset, [], [_Type.Int32])
        acknowledged = ([_Type.UInt32], [_Type.Int32])
        await management.add_method(
            namespace, "AcknowledgeResult", self._acknowledge, *acknowledged
        )
        event = await self._server.create_custom_event_type(
            namespace,
            "ResultReadyEventType",
            properties=[(name, kind) for name, (kind, _) in _RESULT.items()],
        )
        self._events = await self._server.get_event_generator(event)
        self._events.event.SourceNode = system.nodeid
        self._events.event.SourceName = "VisionSystem"

    # Methods: Error is 0 or an ErrorCode.

    @uamethod
    def _start(self, _parent: Node, part_id: int, job: int, deadline_ms: int) -> tuple[int, int]:
        try:
            return self._station.trigger(part_id, deadline_ms, job) & 0xFFFFFFFF, 0
        except StationError:
            return 0, int(ErrorCode.OVERRUN)

    @uamethod
    def _reset(self, _parent: Node) -> int:
        self._station.reset()
        return 0

    @uamethod
    def _acknowledge(self, _parent: Node, result_id: int) -> int:
        status = self._station.status
        shown = status.result
        if not status.valid or shown is None or shown.inspection_id & 0xFFFFFFFF != result_id:
            return int(ErrorCode.MISSED_TRIGGER)
        self._station.acknowledge()
        return 0

    # State and events

    async def _follow(self) -> None:
        while True:
            record = await self._news.get()
            try:
                if record is None:
                    await self._write_status()
                else:
                    await self._write_result(record)
            except Exception:
                log.exception("OPC UA nodes could not be written")

    async def _write_status(self) -> None:
        self._told = True
        status = self._station.status
        if self._written.get("Valid") and not status.valid:
            await self._write("Valid", False, _Type.Boolean)
            await self._write_fields(_NO_RESULT)
        for name, (kind, of) in _STATUS.items():
            await self._write(name, of(status), kind)
        for node, state in zip(self._states, states(status), strict=True):
            await self._write(str(node.nodeid), state, _Type.String, node)

    async def _write_result(self, record: InspectionRecord) -> None:
        """Write the data, then ``Valid``; then send the event, which outlives the data."""
        await self._write("Valid", False, _Type.Boolean)
        await self._write_fields(record)
        status = self._station.status
        shown = status.result
        if status.valid and shown is not None and shown.inspection_id == record.inspection_id:
            await self._write("Valid", True, _Type.Boolean)
        event = self._events.event
        values = self._values(record)
        for name, value in values.items():
            setattr(event, name, value)
        event.Severity = 100 if values["Verdict"] == ResultCode.OK.name else 500
        await self._events.trigger(message=f"part {record.part_id}: {record.result}")

    async def _write_fields(self, record: InspectionRecord) -> None:
        for name, value in self._values(record).items():
            await self._write(name, value, _RESULT[name][0])

    def _values(self, record: InspectionRecord) -> dict[str, Any]:
        """The result as clients see it: its verdict is the one that the PLC is told."""
        told = ResultCode[record.result].told(self._station.config.handshake.review_as)
        return {name: of(record) for name, (_, of) in _RESULT.items()} | {"Verdict": told.name}

    async def _write(self, name: str, value: Any, kind: _Type, node: Node | None = None) -> None:
        if self._written.get(name) != value:
            self._written[name] = value
            now: Any = datetime.now(UTC)
            data = ua.DataValue(ua.Variant(value, kind), SourceTimestamp=now, ServerTimestamp=now)
            await self._server.write_attribute_value((node or self._nodes[name]).nodeid, data)


def states(status: Status) -> tuple[str, str]:
    """Return the states of OPC 40100-1: of the system, and of its automatic mode.

    Args:
        status: the station's status
    """
    if not status.online:
        return "Halted", "Initialized"
    system = "Operational" if status.error is ErrorCode.NONE else "Error"
    if status.busy:
        return system, "SingleExecution"
    return system, "Ready" if status.trigger_ready else "Initialized"


def _make_certificate(key: Path, certificate: Path, uri: str) -> None:
    """Create a key, readable by its owner only, and a self-signed certificate for ten years."""
    host = socket.gethostname()
    names = [x509.UniformResourceIdentifier(uri), x509.DNSName(host), x509.DNSName("localhost")]
    made = generate_private_key()
    signed = generate_self_signed_app_certificate(
        made,
        f"rdx_fast station at {host}",
        {"organizationName": "rdx_fast"},
        names,
        [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH],
        days=3650,
    )
    for path, content in (
        (key, dump_private_key_as_pem(made)),
        (certificate, signed.public_bytes(Encoding.DER)),
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_EXCL, 0o600), "wb") as file:
            file.write(content)


def _time(record: InspectionRecord, after_ms: float) -> datetime:
    return datetime.fromisoformat(record.triggered_at) + timedelta(milliseconds=after_ms)
