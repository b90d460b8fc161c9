"""What a retraining works with is looked at before anything is trained."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rdx_fast.bundle.bundle import Bundle, open_bundle
from rdx_fast.errors import DatasetError
from rdx_fast.images import find_bad_images
from rdx_fast.preprocess import FrameOptions
from rdx_fast.recipe.recipe import FrameSpec, InspectionRecipe
from rdx_fast.retraining import material
from rdx_fast.retraining.confirmed import RetrainError
from rdx_fast.retraining.material import Material, gather
from rdx_fast.retraining.own_frames import keep_frame, own_frames
from rdx_fast.station.config import StationFile
from rdx_fast.training.checkpoint import Checkpoint, save_checkpoint
from support.labelled_line import a_week, draw_dusty, label, record, write_station
from support.trained import write_parts


@pytest.fixture
def station(parts: Path, checkpoint: Checkpoint, bundle: Bundle, tmp_path: Path) -> StationFile:
    save_checkpoint(checkpoint, tmp_path / "run")
    made = write_station(tmp_path / "station", parts, tmp_path / "run", bundle.path)
    a_week(made, 1, 4, 1, seed=1)
    return made


def gathered(
    station: StationFile,
    start: Checkpoint,
    recipe: InspectionRecipe | None = None,
    **config: Path,
) -> Material:
    released = open_bundle(station.bundles[1])
    if recipe is not None:
        released = replace(released, manifest=replace(released.manifest, recipe=recipe))
    table = replace(station.retrain["1"], **config)
    frames = Path(tempfile.mkdtemp(dir=station.records.path.parent))
    return gather(station, 1, table, released, start, FrameOptions(), frames, lambda stage: None)


def test_all_is_well(station: StationFile, checkpoint: Checkpoint) -> None:
    found = gathered(station, checkpoint)
    assert (len(found.originals), len(found.calibration)) == (24, 20)
    assert [frame.inspection_id for frame in found.confirmed.frames] == [1, 2, 3, 4, 5]
    assert (found.trained_before, found.calibrated_before, found.notes) == (set(), set(), [])


def test_frames_stay_whatever_the_picture_store_deletes(
    station: StationFile, checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that it deletes while they are collected are missing."""
    stored = sorted(station.records.pictures.rglob("*_frame.png"))

    def keep(path: Path, folder: Path) -> Path | None:
        if path == stored[1]:
            path.unlink()
        return keep_frame(path, folder)

    monkeypatch.setattr(material, "keep_frame", keep)
    found = gathered(station, checkpoint).confirmed
    shutil.rmtree(station.records.pictures)
    assert (found.missing, found.missing_since[:10]) == ((2,), "2026-01-01")
    assert [frame.inspection_id for frame in found.frames] == [1, 3, 4, 5]
    named = [f"{frame.path.parent.name}/{frame.path.name}" for frame in found.frames]
    assert named == [f"2026-01-01/{number:010d}_frame.png" for number in (1, 3, 4, 5)]
    assert find_bad_images([frame.path for frame in found.frames]) == []


@pytest.mark.parametrize("links", [True, False])
def test_frames_are_kept_by_links_or_copies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    def no_links(*_: object) -> None:
        raise OSError(errno.EXDEV, "another file system")

    if not links:
        monkeypatch.setattr(os, "link", no_links)
    frame = tmp_path / "2026-01-01" / "1_frame.png"
    frame.parent.mkdir()
    frame.write_bytes(b"a frame")
    left = tmp_path / "retrained" / ".frames-left"
    left.mkdir(parents=True)  # of a process that was killed
    with own_frames(tmp_path) as first, own_frames(tmp_path) as second:
        assert not left.exists()
        kept = keep_frame(frame, first)
        assert kept == first / "2026-01-01" / "1_frame.png"
        assert kept.samefile(frame) == links
        frame.unlink()
        assert kept.read_bytes() == b"a frame"
        assert keep_frame(frame, first) is None
        assert second.is_dir()
        (first / "2026-01-02").write_text("a file")
        with pytest.raises(RetrainError, match="cannot be kept in"):
            keep_frame(tmp_path / "2026-01-02" / "2_frame.png", first)
    assert list((tmp_path / "retrained").iterdir()) == []


def test_sets_that_share_images(
    station: StationFile, checkpoint: Checkpoint, tmp_path: Path
) -> None:
    """Under whatever names: contents count."""
    config = station.retrain["1"]
    with pytest.raises(RetrainError, match="frozen set and the calibration folder share 8 images"):
        gathered(station, checkpoint, calibration=config.frozen / "test" / "good")
    (tmp_path / "calibration").mkdir()
    shutil.copy(config.good / "003.png", tmp_path / "calibration" / "new.png")
    with pytest.raises(RetrainError, match=r"share 1 images, such as .*new\.png"):
        gathered(station, checkpoint, calibration=tmp_path / "calibration")


def test_frames_that_are_in_other_sets(
    station: StationFile, checkpoint: Checkpoint, tmp_path: Path
) -> None:
    shutil.copytree(station.retrain["1"].calibration, tmp_path / "calibration")
    first, *_ = gathered(station, checkpoint).confirmed.frames
    shutil.copy(first.path, tmp_path / "calibration")
    found = gathered(station, checkpoint, calibration=tmp_path / "calibration").confirmed
    assert found.unusable == {1: "its frame is also one of the calibration folder"}
    assert [frame.inspection_id for frame in found.frames] == [2, 3, 4, 5]


@pytest.mark.parametrize(
    ("size", "recipe", "fits"),
    [
        ((90, 120), None, False),
        ((160, 224), None, True),  # the same shape: the network sees the same
        ((160, 224), InspectionRecipe(FrameSpec(80, 112)), False),
    ],
)
def test_frames_of_another_size(
    station: StationFile,
    checkpoint: Checkpoint,
    size: tuple[int, int],
    recipe: InspectionRecipe | None,
    fits: bool,
) -> None:
    record(station, 20, np.full((*size, 3), 100, np.uint8))
    label(station, 20, "good")
    found = gathered(station, checkpoint, recipe).confirmed
    assert (20 not in found.unusable) == fits
    assert fits or f"is {size[0]} x {size[1]} pixels" in found.unusable[20]


def test_images_that_cannot_be_used(
    station: StationFile, checkpoint: Checkpoint, tmp_path: Path
) -> None:
    shutil.copytree(station.retrain["1"].calibration, tmp_path / "calibration")
    (tmp_path / "calibration" / "000.png").write_bytes(b"no image")
    with pytest.raises(DatasetError, match="1 images of the calibration folder and the frozen set"):
        gathered(station, checkpoint, calibration=tmp_path / "calibration")


def test_images_that_the_run_was_not_trained_on(
    station: StationFile, checkpoint: Checkpoint, tmp_path: Path
) -> None:
    """They may have the names of those."""
    write_parts(tmp_path / "elsewhere", 24, seed=77, defective=True)
    (said,) = gathered(station, checkpoint, good=tmp_path / "elsewhere").notes
    assert "does not hold what" in said
    # After a retraining, the run itself states it.
    later = replace(checkpoint, started_from="a", images="of a retraining")
    assert gathered(station, later).notes == []


def test_what_earlier_networks_were_trained_on(
    station: StationFile, checkpoint: Checkpoint
) -> None:
    """The checkpoint tells it, whatever became of the bundle; labels may have changed since."""
    label(station, 2, "bad")
    label(station, 3, "bad", "otto")
    record(station, 30, draw_dusty(np.random.default_rng(0)))
    found = gathered(station, replace(checkpoint, inspections=[1, 2, 3, 30]))
    assert found.trained_before == {1, 2, 3, 30}
    (said,) = (note for note in found.notes if "not labelled good any more" in note)
    assert "trained on 3 parts" in said
    assert said.endswith("\n  2\n  3\n  30")
