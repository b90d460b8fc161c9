"""Tables of ``station.toml`` for the interfaces of a station."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class ModbusConfig:
    """The table ``[modbus]``: the Modbus TCP server.

    Attributes:
        address: IP address of this machine to listen on
        port: TCP port to listen on; 0 for any free one
        max_clients: most open connections. A further client replaces the connection that has been
            idle longest if that is more than ``idle_s``; otherwise the new one is closed
        idle_s: idle time in seconds after which a connection may be replaced
    """

    address: str = LOOPBACK
    port: int = 1502
    max_clients: int = 8
    idle_s: float = 10.0


@dataclass(frozen=True, slots=True)
class OpcUaConfig:
    """The table ``[opcua]``: the OPC UA server.

    Attributes:
        address: IP address of this machine to listen on
        port: TCP port to listen on; 0 for any free one
        users: user names and passwords
        anonymous: whether clients without a user and without encryption are allowed
        certificate: the server's certificate, PEM or DER; created if neither file exists
        private_key: the server's private key, PEM or DER; created if neither file exists

    Raises:
        ValueError: there are no users and anonymous clients are not allowed
    """

    address: str = LOOPBACK
    port: int = 4840
    users: dict[str, str] = field(default_factory=dict)
    anonymous: bool = False
    certificate: Path = Path("station-certificate.der")
    private_key: Path = Path("station-key.pem")

    def __post_init__(self) -> None:
        if not self.users and not self.anonymous:
            raise ValueError(
                "opcua: no client can log in: set users with passwords, or anonymous = true"
            )


@dataclass(frozen=True, slots=True)
class MetricsConfig:
    """The table ``[metrics]``: Prometheus metrics over HTTP.

    Attributes:
        address: IP address of this machine to listen on
        port: TCP port to listen on
    """

    address: str = LOOPBACK
    port: int = 9464


@dataclass(frozen=True, slots=True)
class StatusConfig:
    """The table ``[status]``: the station tells its status to processes of this machine.

    Attributes:
        socket: Unix-domain socket, which only the station's own user may open
    """

    socket: Path = Path("station.socket")
