"""A station that serves Modbus TCP, and a PLC (simulated) that sends parts through the handshake.

python examples/plc_modbus.py part.rdx frames --parts 5
"""

import argparse
import sys
import time
from pathlib import Path

from pymodbus.client import ModbusTcpClient
from pymodbus.exceptions import ModbusException

from rdx_fast import Detector, RdxError
from rdx_fast.station import FolderReplay, HandshakeConfig, Station, StationConfig
from rdx_fast.station.interfaces import ModbusConfig
from rdx_fast.station.plc.modbus import ModbusServer

# The PLC's half. It knows only the registers, which 'rdx-fast station --map' prints.
# Written by the PLC from register 0: control, part_id, job, heartbeat, deadline (ms).
ENABLE, TRIGGER, ACK = 1 << 0, 1 << 1, 1 << 2  # bits of control
# Read from register 16: status, part_id, result, ...
STATUS, PART_ID, RESULT, ERROR = 0, 1, 2, 7  # counted from 16
TRIGGER_READY, TRIGGER_ACK, VALID, REVIEW = 1 << 1, 1 << 2, 1 << 4, 1 << 11  # bits of status
RESULTS = ("NONE", "OK", "NG", "ERROR", "LATE", "REVIEW")
CYCLE_S = 0.005


class Plc:
    """Writes its controls and reads the status once a cycle, in one request (function 23)."""

    def __init__(self, client: ModbusTcpClient, deadline_ms: int) -> None:
        self.client, self.deadline_ms = client, deadline_ms
        self.control, self.part_id, self.heartbeat = ENABLE, 0, 0

    def cycle(self) -> list[int]:
        self.heartbeat = (self.heartbeat + 1) % 0x10000  # if it stands still, the link is lost
        controls = [self.control, self.part_id, 0, self.heartbeat, self.deadline_ms]
        answer = self.client.readwrite_registers(
            write_address=0, values=controls, read_address=16, read_count=16
        )
        if answer.isError():
            raise ModbusException(str(answer))
        return list(answer.registers)

    def wait(self, bit: int, level: bool = True) -> list[int] | None:
        """The registers, once a bit of the status has this level; None if it does not in time."""
        # A PLC does not wait for ever: without an answer it rejects the part by itself.
        limit = time.monotonic() + self.deadline_ms / 1000 + 2
        while time.monotonic() < limit:
            words = self.cycle()
            if bool(words[STATUS] & bit) == level:
                return words
            time.sleep(CYCLE_S)
        return None

    def inspect(self, part_id: int) -> str:
        """The whole handshake of one part."""
        if self.wait(TRIGGER_READY) is None:
            return "no answer"
        self.part_id = part_id
        self.control |= TRIGGER  # in the same write as the part's id
        acknowledged = self.wait(TRIGGER_ACK)
        self.control &= ~TRIGGER
        while acknowledged and (words := self.wait(VALID)):  # now all data are there
            self.control |= ACK
            self.wait(VALID, False)  # the data go
            self.control &= ~ACK
            self.cycle()
            if words[PART_ID] == part_id:  # else of an earlier part that was given up
                why = f" (error {words[ERROR]})" if words[ERROR] else ""
                why += " (a person should look at it)" if words[STATUS] & REVIEW else ""
                return RESULTS[words[RESULT]] + why
        return "no answer"


# The station's half.
def run(bundle: Path, frames: Path, parts: int, deadline_ms: int) -> None:
    # A real PLC's heartbeat is steadier than that of a program on a busy machine.
    config = StationConfig(HandshakeConfig(watchdog_ms=10_000))
    with Detector(bundle) as detector:
        station = Station(detector, FolderReplay(frames), config)
        server = ModbusServer(station, ModbusConfig(port=0))  # any free one; a line wants its own
        # The station first: listening says that it answers.
        with station, server, ModbusTcpClient("127.0.0.1", port=server.port) as client:
            plc = Plc(client, deadline_ms)
            for part_id in range(1, parts + 1):
                told = plc.inspect(part_id)
                # Only OK is a good part; NG, REVIEW, ERROR, LATE and no answer are not.
                print(f"part {part_id}: {told}, {'accept' if told == 'OK' else 'reject'}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A station and a simulated PLC by Modbus TCP.")
    parser.add_argument("bundle", type=Path, help="engine bundle, as 'rdx-fast export' wrote it")
    parser.add_argument("frames", type=Path, help="folder of photographs, in place of a camera")
    parser.add_argument("--parts", type=int, default=5)
    parser.add_argument("--deadline-ms", type=int, default=1000, help="from trigger to result")
    given = parser.parse_args()
    try:
        run(given.bundle, given.frames, given.parts, given.deadline_ms)
    except (RdxError, ModbusException) as error:
        sys.exit(f"error: {error}")
