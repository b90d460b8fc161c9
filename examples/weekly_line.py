"""A line to try the weekly loop on: folders of solar cells with a station's configuration, and a
simulated PLC that has parts of it inspected.

python examples/weekly_line.py write line
python examples/weekly_line.py plc --parts 60 --first 1
"""

import argparse
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
from plc_modbus import ENABLE, Plc  # the handshake, in the file beside this one
from pymodbus.client import ModbusTcpClient
from pymodbus.exceptions import ModbusException

from rdx_fast import RdxError
from rdx_fast.solar_cells import solar_cells

# Few to train on, so that there is something left to learn; 20 are enough for the limits.
TRAIN, CALIBRATION = 40, 20
STREAM = {"good": 200, "defective": 40}  # parts that the camera shows
FROZEN_DEFECTIVE = 60

STATION = """\
[jobs]
1 = "cells.rdx"

[camera]
kind = "folder"
path = "cells/stream"

[handshake]
deadline_ms = 2000
review = "review"      # tell the PLC so; by default it reads NG and a bit

[records]
ok_share = 0.2         # of so few parts many are drawn; on a line 0.01 does

[modbus]
port = 1502

[status]               # for the page

[hmi]
good_reasons = ["as usual", "dust"]
bad_reasons = ["crack", "dark area"]

[retrain.1]
run = "cells/run"
good = "cells/train/good"
calibration = "cells/calibration"
frozen = "cells"
"""


def write(folder: Path) -> None:
    """Folders of links to the cells; no cell is in two of them."""
    found = solar_cells(seed=0)
    cells, good, defective = folder / "cells", found.train + found.calibration, found.defective
    link(cells / "train" / "good", good[:TRAIN])
    link(cells / "calibration", good[TRAIN : TRAIN + CALIBRATION])
    link(cells / "test" / "good", found.good)
    link(cells / "test" / "defective", defective[:FROZEN_DEFECTIVE])
    parts = [(path, "good") for path in good[TRAIN + CALIBRATION :][: STREAM["good"]]]
    parts += [(path, "defective") for path in defective[FROZEN_DEFECTIVE:][: STREAM["defective"]]]
    order = np.random.default_rng(0).permutation(len(parts))
    stream = cells / "stream"
    stream.mkdir()
    # The camera shows them in the order of their names: the third one is part 3.
    for number, i in enumerate(order, 1):
        path, what = parts[i]
        (stream / f"{number:03}_{what}{path.suffix}").symlink_to(path)
    (folder / "station.toml").write_text(STATION)
    print(f"{folder}: station.toml, and a stream of {len(parts)} parts")


def link(folder: Path, paths: list[Path]) -> None:
    folder.mkdir(parents=True)
    for path in paths:
        (folder / path.name).symlink_to(path)


def drive(port: int, parts: int, first: int, rate: float) -> None:
    """Have parts inspected at a pace; the handshake is that of ``plc_modbus.py``."""
    results: Counter[str] = Counter()
    with ModbusTcpClient("127.0.0.1", port=port) as client:
        plc = Plc(client, deadline_ms=2000)
        plc.control = 0  # what a PLC before this one left undone
        plc.cycle()
        plc.control = ENABLE
        begin = time.monotonic()
        for i in range(parts):
            while time.monotonic() < begin + i / rate:
                plc.cycle()  # for the heartbeat
                time.sleep(0.02)
            results[plc.inspect(first + i)] += 1
        plc.control = 0  # without enable the station misses no heartbeat
        plc.cycle()
    print(", ".join(f"{count} {result}" for result, count in sorted(results.items())))
    print(f"next: --first {first + parts}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A line to try the weekly loop on.")
    commands = parser.add_subparsers(dest="command", required=True)
    writing = commands.add_parser("write", help="write the folders and station.toml")
    writing.add_argument("folder", type=Path, help="it must not hold a folder 'cells' yet")
    driving = commands.add_parser("plc", help="have parts inspected by the running station")
    driving.add_argument("--parts", type=int, default=60)
    driving.add_argument("--first", type=int, default=1, help="id of the first part")
    driving.add_argument("--rate", type=float, default=2, help="parts per second")
    driving.add_argument("--port", type=int, default=1502, help="of the station")
    given = parser.parse_args()
    try:
        if given.command == "write":
            write(given.folder)
        else:
            drive(given.port, given.parts, given.first, given.rate)
    except (RdxError, ModbusException, OSError) as error:
        sys.exit(f"error: {error}")
