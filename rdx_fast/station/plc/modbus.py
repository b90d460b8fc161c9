"""The Modbus TCP server. The only file that imports pymodbus."""

from __future__ import annotations

import logging
import time
from typing import Any

from rdx_fast.errors import MissingDependencyError
from rdx_fast.station.interfaces import ModbusConfig
from rdx_fast.station.plc.registers import (
    PLC_COUNT,
    PLC_START,
    STATION_COUNT,
    STATION_START,
    TOTAL,
    read_controls,
    write_status,
)
from rdx_fast.station.plc.server_thread import ServerThread
from rdx_fast.station.station import Station

try:
    from pymodbus.constants import ExcCodes
    from pymodbus.exceptions import ModbusIOException
    from pymodbus.framer import FramerSocket
    from pymodbus.server import ModbusTcpServer
    from pymodbus.simulator import DataType, SimData, SimDevice
except ModuleNotFoundError as _error:
    if _error.name != "pymodbus":
        raise
    raise MissingDependencyError("pymodbus", "Modbus TCP", "station") from None

log = logging.getLogger(__name__)

# Register functions: read (3, 4), write (6, 16), mask write (22), read and write (23).
_FUNCTIONS = (3, 4, 6, 16, 22, 23)
# Bytes after the length field: at least unit and function, at most what the standard allows.
_SHORTEST, _LONGEST = 2, 254


class _StrictFramer(FramerSocket):
    """Rejects data that cannot be a Modbus frame, instead of waiting forever for the rest."""

    def decode(self, data: bytes) -> tuple[int, int, int, bytes]:
        if len(data) >= 6:
            protocol, length = int.from_bytes(data[2:4], "big"), int.from_bytes(data[4:6], "big")
            if protocol != 0 or not _SHORTEST <= length <= _LONGEST:
                raise ModbusIOException("not a Modbus TCP frame")
        return super().decode(data)


class _BoundedServer(ModbusTcpServer):
    """Limits the number of connections.

    A further client replaces the connection that has been idle longest if that is more than
    ``idle_s``; otherwise the new connection is closed.
    """

    max_clients = 0
    idle_s = 0.0

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._heard: dict[Any, float] = {}  # when each connection last sent data

    def callback_new_connection(self) -> Any:
        handler: Any = super().callback_new_connection()  # type: ignore[no-untyped-call]
        connected, disconnected = handler.callback_connected, handler.callback_disconnected
        take = handler.callback_data

        def on_connected() -> None:
            now = time.monotonic()
            connected()
            if len(self._heard) >= self.max_clients:
                silent = min(self._heard, key=self._heard.__getitem__)
                dropped = silent if now - self._heard[silent] > self.idle_s else handler
                log.warning("too many Modbus clients", extra={"refused": dropped is handler})
                self._heard.pop(dropped, None)
                dropped.transport.abort()
                if dropped is handler:
                    return
            self._heard[handler] = now

        def on_disconnected(error: Exception | None) -> None:
            self._heard.pop(handler, None)
            disconnected(error)

        def on_data(data: bytes, addr: tuple[Any, ...] | None = None) -> int:
            if handler in self._heard:
                self._heard[handler] = time.monotonic()
            return take(data, addr)

        handler.callback_connected = on_connected
        handler.callback_disconnected = on_disconnected
        handler.callback_data = on_data
        return handler


class ModbusServer(ServerThread):
    """Serves a station's registers over Modbus TCP. A context manager: see ``ServerThread``.

    Every unit id is answered. One request reads or writes a consistent state.

    Args:
        station: the station
        config: address, port and limits of connections
    """

    def __init__(self, station: Station, config: ModbusConfig) -> None:
        super().__init__("Modbus", config.address, config.port)
        self._station, self._config = station, config
        self._controls = [0] * PLC_COUNT
        self._server: _BoundedServer | None = None

    @property
    def port(self) -> int:
        """The TCP port that the server listens on, also if the configuration says 0."""
        assert self._server is not None
        listening: Any = self._server.transport
        return listening.sockets[0].getsockname()[1]

    async def _open(self) -> None:
        registers = SimData(0, count=TOTAL, values=0, datatype=DataType.REGISTERS)
        device = SimDevice(0, simdata=[registers], action=self._access)
        address = (self._config.address, self._config.port)
        self._server = _BoundedServer(device, address=address)
        self._server.framer = _StrictFramer
        self._server.max_clients = self._config.max_clients
        self._server.idle_s = self._config.idle_s
        await self._server.serve_forever(background=True)
        log.info("Modbus", extra={"address": self._config.address, "port": self.port})

    async def _close(self) -> None:
        assert self._server is not None
        await self._server.shutdown()  # type: ignore[no-untyped-call]

    async def _access(
        self,
        function: int,
        start: int,
        address: int,
        count: int,
        registers: list[int],
        written: list[int] | list[bool] | None,
    ) -> ExcCodes | None:
        """Called before each access: rejects it, or updates the registers."""
        if function not in _FUNCTIONS:
            return ExcCodes.ILLEGAL_FUNCTION
        if written is not None:
            if not PLC_START <= address <= address + len(written) <= PLC_START + PLC_COUNT:
                return ExcCodes.ILLEGAL_ADDRESS
            self._controls[address : address + len(written)] = [int(word) for word in written]
            self._station.write(read_controls(self._controls))
        registers[STATION_START : STATION_START + STATION_COUNT] = write_status(
            self._station.status
        )
        return None
