"""What people said of parts, what of it is trained on, and what the limits were for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rdx_fast.bundle.bundle import Bundle
from rdx_fast.bundle.changes import override_limits
from rdx_fast.errors import CheckpointError
from rdx_fast.limits.calibration import calibrate_threshold
from rdx_fast.limits.limits import WHOLE, Limits
from rdx_fast.limits.promise import Wish
from rdx_fast.retraining.confirmed import (
    HOLD_OUT,
    Confirmed,
    RetrainError,
    confirmed_frames,
    is_held_out,
)
from rdx_fast.retraining.origin import RETRAINED, origin_of, retrained_folder
from rdx_fast.retraining.promises import wish_of
from rdx_fast.station.config import StationFile
from rdx_fast.training.checkpoint import Checkpoint, save_checkpoint
from support.labelled_line import label, record, write_station
from support.small_bundle import write_bundle

FRAME = np.full((8, 8, 3), 99, np.uint8)


@pytest.fixture
def station(tmp_path: Path) -> StationFile:
    for name in ("parts", "run"):
        (tmp_path / name).mkdir()
    bundle = write_bundle(tmp_path / "part.rdx").path
    return write_station(tmp_path / "station", tmp_path / "parts", tmp_path / "run", bundle)


def confirmed(station: StationFile) -> Confirmed:
    return confirmed_frames(station.records.path, station.records.pictures, 1)


def test_what_labels_say_together(station: StationFile) -> None:
    for number in range(1, 8):
        record(station, number, None if number == 4 else FRAME, sampled=number % 2)
    record(station, 8, FRAME, job=2)
    for number in (1, 2, 4, 5, 6, 8):
        label(station, number, "good")
    label(station, 2, "bad", "otto")
    label(station, 3, "bad")
    label(station, 5, "bad")  # she has changed her mind
    label(station, 7, "good")
    (station.records.pictures / "2026-01-01" / f"{7:010d}_frame.png").unlink()
    found = confirmed(station)
    assert [(f.inspection_id, f.bad, f.sampled) for f in found.frames] == [
        (1, False, True),
        (3, True, True),
        (5, True, True),
        (6, False, False),
    ]
    assert all(frame.path.is_file() for frame in found.frames)
    assert (found.disputed, found.missing) == ((2,), (4, 7))
    first, second = found.told()
    assert "1 labelled parts whose labels contradict each other" in first
    assert "2 labelled parts whose stored frame is gone" in second
    assert second.endswith("\n  4\n  7")


def test_hold_out_is_kept_apart(station: StationFile) -> None:
    held_out = [number for number in range(1, 4001) if is_held_out(number)]
    assert len(held_out) == pytest.approx(4000 * HOLD_OUT, rel=0.1)
    assert held_out[:6] == [7, 13, 23, 28, 29, 34]  # never another choice: frames were trained on
    for number in range(1, 31):
        record(station, number, FRAME, sampled=number % 2)
        label(station, number, "bad" if number == 7 else "good")
    found = confirmed(station)
    trained, calibrated = (
        {frame.inspection_id for frame in of} for of in (found.to_train_on, found.to_calibrate_on)
    )
    assert trained == {*range(1, 31)} - {*held_out}
    assert calibrated == {number for number in held_out if number <= 30 and number % 2} - {7}


def conformal(rate: float, scores: int = 99) -> Limits:
    return Limits.single(calibrate_threshold(np.linspace(0.1, 1, scores), rate), WHOLE)


def test_wish_of_calibrated_limits(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "a.rdx", limits=(conformal(0.05),))
    assert wish_of(bundle) == (Wish(0.05, weaker=True), [])
    two = Limits(WHOLE, conformal(0.1).ok_below, conformal(0.02).ng_above)
    assert wish_of(write_bundle(tmp_path / "b.rdx", limits=(two,)))[0] == Wish(
        0.02, 0.1, weaker=True
    )


def test_wish_of_limits_set_by_hand(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "a.rdx", limits=(conformal(0.05),))
    for reason in ("new lamp", "newer lamp"):
        bundle = override_limits(bundle, reason, ok_below=0.4, ng_above=0.5, user="anna")
    wish, (said,) = wish_of(bundle)
    assert wish == Wish(0.05, weaker=True)
    assert "set by hand (newer lamp) are not carried over" in said
    assert "at most 5.000% false rejects" in said
    with pytest.raises(RetrainError, match="not clear what a candidate's are for: say it"):
        wish_of(write_bundle(tmp_path / "b.rdx"))


def stating(bundle: Bundle, **facts: object) -> Bundle:
    return replace(bundle, manifest=replace(bundle.manifest, training=facts))


def test_checkpoint_of_a_bundle_is_found(checkpoint: Checkpoint, tmp_path: Path) -> None:
    run = tmp_path / "run"
    save_checkpoint(checkpoint, run)
    bundle = write_bundle(tmp_path / "a.rdx")
    own = stating(bundle, network_sha256=checkpoint.network_sha256())
    assert origin_of(own, run)[0].network_sha256() == checkpoint.network_sha256()
    name, tensor = next(iter(checkpoint.network.items()))
    retrained = replace(checkpoint, network=checkpoint.network | {name: tensor + 1})
    stated = stating(bundle, network_sha256=retrained.network_sha256())
    with pytest.raises(CheckpointError, match=r"are not what .* was exported from"):
        origin_of(stated, run)
    folder = retrained_folder(run, retrained)
    assert folder.parent == run / RETRAINED
    save_checkpoint(retrained, folder)
    found, said = origin_of(stated, run)
    assert (found.network_sha256(), said) == (retrained.network_sha256(), [])


def test_checkpoint_of_a_bundle_of_an_earlier_version(
    checkpoint: Checkpoint, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    save_checkpoint(checkpoint, run)
    losses = {term: means[-1] for term, means in checkpoint.losses.items()}
    facts = {
        "images_sha256": checkpoint.images,
        "steps": checkpoint.step,
        "last_epoch_losses": losses,
        "imported": (),
    }
    bundle = write_bundle(tmp_path / "a.rdx")
    found, (said,) = origin_of(stating(bundle, **facts), run)
    assert found.step == checkpoint.step
    assert "does not state whose weights it has" in said
    with pytest.raises(CheckpointError, match="images, number of batches or losses differ"):
        origin_of(stating(bundle, **(facts | {"steps": 1})), run)
