"""Records and pictures as a station writes them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from rdx_fast.station.records.store import InspectionRecord, RecordWriter

START = datetime(2026, 3, 2, 6, 0, tzinfo=UTC)
_RECORD = InspectionRecord(
    inspection_id=1,
    part_id=1,
    job=1,
    bundle="part",
    bundle_sha256="0" * 64,
    triggered_at="",
    deadline_ms=500.0,
    result="OK",
    error=None,
    detail=None,
    score=0.5,
    threshold=1.0,
    area_px=0,
    start_ms=1.0,
    grab_ms=2.0,
    preprocess_ms=1.0,
    network_ms=3.0,
    postprocess_ms=1.0,
    score_ms=5.0,
    decided_ms=9.0,
    ng_above=2.0,
    executed="fp32",
    sampled=0,
)


def a_record(inspection_id: int, result: str = "OK", **values: Any) -> InspectionRecord:
    """A part each second, from ``START`` on, unless ``triggered_at`` is given."""
    taken = (START + timedelta(seconds=inspection_id)).isoformat(timespec="microseconds")
    known = {"inspection_id": inspection_id, "part_id": inspection_id, "result": result}
    return replace(_RECORD, **{"triggered_at": taken, **known, **values})


def write_records(path: Path, *records: InspectionRecord) -> None:
    """Write rows, as the station does, to a file that may exist already."""
    writer = RecordWriter(path, sync=False)
    for record in records:
        writer.write(record)
    writer.close()
