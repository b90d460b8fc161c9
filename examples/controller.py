"""A controller of your own: its loop, its PLC library, and a station that inspects.

python examples/controller.py part.rdx frames
"""

import sys
from pathlib import Path

from my_plc import connect  # your fieldbus: parts() yields ids, reject(id) and accept(id) act

from rdx_fast import Detector
from rdx_fast.station import FolderReplay, HandshakeConfig, Station, StationConfig

bundle, frames = sys.argv[1:]
config = StationConfig(HandshakeConfig(deadline_ms=200))
with (
    Detector(bundle, threads=2) as detector,
    connect() as plc,
    Station(detector, FolderReplay(Path(frames)), config) as station,
):
    for part_id in plc.parts():
        record = station.inspect(part_id)
        if record.result == "OK":
            plc.accept(part_id)
        else:  # NG, REVIEW, LATE, ERROR: not inspected is not good
            plc.reject(part_id)
        print(f"part {part_id}: {record.result} {record.error or ''} {record.decided_ms:.1f} ms")
