"""The weekly loop from labels to a candidate, and the week after."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.labelled_line import a_week, write_station

from rdx_fast.bundle.bundle import Bundle, open_bundle
from rdx_fast.bundle.bundle_history import verify_bundle
from rdx_fast.bundle.versions import list_versions, manifest_sha256, release
from rdx_fast.retraining.retrain import retrain
from rdx_fast.station.config import StationFile
from rdx_fast.station.records.changes import read_changes
from rdx_fast.training.checkpoint import FILE, Checkpoint, save_checkpoint


@pytest.fixture
def station(parts: Path, checkpoint: Checkpoint, bundle: Bundle, tmp_path: Path) -> StationFile:
    save_checkpoint(checkpoint, tmp_path / "run")
    return write_station(tmp_path / "station", parts, tmp_path / "run", bundle.path)


@pytest.mark.slow
def test_two_weeks(station: StationFile) -> None:
    path = station.bundles[1]
    released = manifest_sha256(path)
    a_week(station, 1, 24, 6, seed=1)
    version, found = retrain(station, 1, iterations=60, user="anna", device="cpu")
    print(json.dumps(found.to_dict(), indent=1))
    assert (version.state, version.action, version.user) == ("candidate", "compare", "anna")
    assert version.comparison == json.loads(json.dumps(found.to_dict()))
