"""Records and pictures of a station that runs."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from rdx_fast import Detector
from rdx_fast.bundle.bundle import Bundle
from rdx_fast.cli.tables import records_table
from rdx_fast.images import list_images, read_image
from rdx_fast.station import (
    Filter,
    RecordConfig,
    RecordError,
    Station,
    StationConfig,
    read_records,
)
from rdx_fast.station.records.pictures import PictureStore
from rdx_fast.station.records.store import _SCHEMA, RecordWriter
from support.scripted import ScriptedCamera, rows, wait_until


@pytest.fixture(scope="module")
def detector(bundle: Bundle) -> Iterator[Detector]:
    with Detector(bundle.path) as opened:
        yield opened


def test_a_full_disk_raises_an_alarm_and_the_line_goes_on(
    detector: Detector, camera: ScriptedCamera, config: StationConfig
) -> None:
    with Station(detector, camera, config) as station:
        assert station.inspect(1).result == "OK"
        assert station._recorder._writer is not None
        database = station._recorder._writer._connection
        (pages,) = database.execute("PRAGMA page_count").fetchone()
        database.execute(f"PRAGMA max_page_count = {pages}")
        answers = [station.inspect(i) for i in range(2, 200)]
        assert {r.result for r in answers} == {"OK"}
        assert station.status.record_alarm
        assert station.status.error.name == "RECORD"
        assert 0 < len(rows(config)) < 199
        database.execute("PRAGMA max_page_count = 100000")
        wait_until(lambda: not station.status.record_alarm)  # with no part needed
        assert [r.part_id for r in rows(config)] == list(range(1, 200)), "those that had to wait"
        assert station.inspect(200).result == "OK"
        assert not station.status.record_alarm


def test_pictures_that_cannot_be_kept_raise_the_alarm_and_are_tried_again(
    detector: Detector, camera: ScriptedCamera, config: StationConfig, parts: Path
) -> None:
    camera.frame = read_image(list_images(parts / "test" / "notch")[0])
    assert config.records is not None
    folder = config.records.pictures
    with Station(detector, camera, config) as station:
        folder.rmdir()
        folder.touch()  # no room for folders of days
        assert station.inspect(1).result == "NG"
        wait_until(lambda: station.status.record_alarm)
        assert station.status.error.name == "RECORD"
        assert station.inspect(2).result == "NG"
        assert station.status.record_alarm, "though the row is on disk"
        folder.unlink()
        folder.mkdir()
        wait_until(lambda: not station.status.record_alarm)
        wait_until(lambda: len(list(folder.rglob("*.png"))) == 4)
    assert all(row.picture is not None for row in rows(config))


def test_pictures_of_the_results_that_the_configuration_names(
    detector: Detector, camera: ScriptedCamera, config: StationConfig, parts: Path
) -> None:
    good = camera.frame
    notched = read_image(list_images(parts / "test" / "notch")[0])
    assert config.records is not None
    chosen = replace(config, records=replace(config.records, pictures_of=("OK",)))
    with Station(detector, camera, chosen) as station:
        for camera.frame in (good, notched):
            station.inspect(1)
    assert [(r.result, r.picture is not None) for r in rows(config)] == [
        ("OK", True),
        ("NG", False),
    ]
    with pytest.raises(ValueError, match="pictures_of has GOOD, wanted some of OK, NG, ERROR"):
        RecordConfig(pictures_of=("NG", "GOOD"))


def test_the_random_sample_is_drawn_whatever_the_result(
    detector: Detector, camera: ScriptedCamera, config: StationConfig, parts: Path
) -> None:
    good = camera.frame
    notched = read_image(list_images(parts / "test" / "notch")[0])
    assert config.records is not None
    with Station(
        detector, camera, replace(config, records=replace(config.records, ok_share=0.25))
    ) as station:
        drawn = iter([0.2, 0.3, 0.2, 0.3])
        station._recorder._random.random = lambda: next(drawn)  # type: ignore[method-assign]
        for camera.frame in (good, good, notched, notched):
            station.inspect(1)
    found = rows(config)
    assert [(r.result, r.sampled) for r in found] == [("OK", 1), ("OK", 0), ("NG", 1), ("NG", 0)]
    assert [r.picture is not None for r in found] == [True, False, True, True]
    path = config.records.path
    assert [r.inspection_id for r in read_records(path, Filter(sampled=True))] == [1, 3]
    assert [r.inspection_id for r in read_records(path, Filter(pictured=False))] == [2]
    with pytest.raises(ValueError, match="ok_share is 2, wanted 0 to 1"):
        RecordConfig(ok_share=2)
    with pytest.raises(ValueError, match="ok_share needs pictures"):
        RecordConfig(ok_share=0.1, pictures_mb=0)


def test_pictures_half_written_by_a_process_that_was_killed_go(tmp_path: Path) -> None:
    (tmp_path / "2026-01-01").mkdir()
    partial = tmp_path / "2026-01-01" / "0000000001_frame.partial"
    partial.touch()
    PictureStore(tmp_path, budget_mb=1)
    assert not partial.exists()


def test_pictures_that_a_killed_process_stored_are_in_their_rows(
    detector: Detector, camera: ScriptedCamera, config: StationConfig, parts: Path
) -> None:
    camera.frame = read_image(list_images(parts / "test" / "notch")[0])
    with Station(detector, camera, config) as station:
        for part in range(3):
            assert station.inspect(part).result == "NG"
    assert config.records is not None
    before = rows(config)
    assert all(row.picture for row in before)
    with closing(sqlite3.connect(config.records.path)) as database:
        database.execute("UPDATE inspections SET picture = NULL WHERE inspection_id > 1")
        # As a part of new records that has the id of a picture of those before.
        database.execute(
            "UPDATE inspections SET triggered_at = '2999' || substr(triggered_at, 5) "
            "WHERE inspection_id = 2"
        )
        database.commit()
    with Station(detector, camera, config):
        assert [r.picture for r in rows(config)] == [before[0].picture, None, before[2].picture]


def test_records_go_on_where_they_ended(
    detector: Detector, camera: ScriptedCamera, config: StationConfig
) -> None:
    for first in (1, 3):
        with Station(detector, camera, config) as station:
            assert [station.inspect(i).inspection_id for i in (0, 0)] == [first, first + 1]


def test_records_of_an_earlier_version_go_on(tmp_path: Path) -> None:
    file = tmp_path / "records.sqlite"
    with sqlite3.connect(file) as database:
        new = (
            "executed TEXT",
            *("p_value REAL", "region TEXT", "ng_above REAL"),
            *("brightness REAL", "sharpness REAL", "sampled INTEGER"),
        )
        added = ",\n    ".join(("picture TEXT", *new)) + "\n"
        schema = _SCHEMA.replace(added, "picture TEXT\n")
        assert schema != _SCHEMA
        database.executescript(schema)
        columns = "inspection_id, part_id, job, triggered_at, deadline_ms, result, decided_ms"
        database.execute(
            f"INSERT INTO inspections ({columns}) VALUES (1, 7, 1, '2026-01-01', 5.0, 'OK', 2.0)"
        )
    (old,) = read_records(file)
    assert (old.part_id, old.executed, old.p_value, old.region) == (7, None, None, None)
    with ThreadPoolExecutor(8) as pool:  # several stations of one file, at one moment
        writers = list(pool.map(RecordWriter, [file] * 8))
    added = {"executed": "int8", "p_value": 0.125, "region": "seal", "brightness": 0.5}
    new = replace(old, inspection_id=writers[0].next_id, **added)
    writers[0].write(new)
    for writer in writers:
        writer.close()
    assert list(read_records(file)) == [old, new]
    columns = {str(c.header): list(c.cells) for c in records_table([old, new]).columns}
    assert columns["region"] == ["-", "seal"]
    assert "region" not in [c.header for c in records_table([old]).columns]


def test_a_clock_that_is_set_back(
    detector: Detector, camera: ScriptedCamera, config: StationConfig
) -> None:
    clock = [1_700_003_600.0]
    with Station(detector, camera, config, wall_clock=lambda: clock[0]) as station:
        first = station.inspect(1)
        clock[0] -= 3600
        second = station.inspect(2)
    assert (first.result, second.result) == ("OK", "OK")
    assert first.triggered_at.startswith("2023-11-14T23:13:")
    assert second.triggered_at.startswith("2023-11-14T22:13:")
    assert [r.part_id for r in rows(config)] == [1, 2]
    assert 0 < second.decided_ms < 20_000


def test_pictures_keep_within_their_budget(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    frame = rng.integers(0, 255, (100, 100), dtype=np.uint8)  # noise: 10 kB as PNG
    store = PictureStore(tmp_path, budget_mb=0.055)
    days = [datetime(2026, 1, day, tzinfo=UTC) for day in (1, 1, 2, 2, 3, 3, 3)]
    for i, day in enumerate(days):
        store.keep(i, day, frame, None)
    kept = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.png"))
    assert kept[-1] == "2026-01-03/0000000006_frame.png"
    assert kept[0] == "2026-01-02/0000000002_frame.png", "the oldest went first"
    assert not (tmp_path / "2026-01-01").exists()
    assert sum(path.stat().st_size for path in tmp_path.rglob("*.png")) <= 55_000
    # A new store counts what it finds.
    PictureStore(tmp_path, budget_mb=0.025).keep(7, days[-1], frame, None)
    assert len(list(tmp_path.rglob("*.png"))) == 2
    with pytest.raises(ValueError, match="budget"):
        PictureStore(tmp_path, 0)


def test_pictures_of_inspections_that_are_counted_from_1_again(tmp_path: Path) -> None:
    """A new file of records does so: what is written again counts once, and is the newest."""
    frame = np.random.default_rng(0).integers(0, 255, (100, 100), dtype=np.uint8)  # 10 kB as PNG
    day = datetime(2026, 1, 1, tzinfo=UTC)
    for i in range(1, 5):
        PictureStore(tmp_path, budget_mb=1).keep(i, day, frame, None)
    store = PictureStore(tmp_path, budget_mb=0.055)  # room for five
    for i in (1, 2):
        store.keep(i, day, frame, None)
    assert len(list(tmp_path.rglob("*.png"))) == 4
    for i in (11, 12):
        store.keep(i, day, frame, None)
    kept = [int(path.name[:10]) for path in sorted(tmp_path.rglob("*.png"))]
    assert kept == [1, 2, 4, 11, 12]


def test_records_cannot_be_opened(
    detector: Detector, camera: ScriptedCamera, tmp_path: Path
) -> None:
    path = tmp_path / "records.sqlite"
    path.write_bytes(b"not a database, and long enough to be looked at" * 100)
    with pytest.raises(RecordError, match="records cannot be opened"):
        Station(detector, camera, StationConfig(records=RecordConfig(path)))
    with pytest.raises(sqlite3.DatabaseError):
        sqlite3.connect(path).execute("SELECT 1 FROM inspections")
