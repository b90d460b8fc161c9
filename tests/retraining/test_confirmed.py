"""What people said of parts, what of it is trained on, and what the limits were for."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from rdx_fast.bundle.bundle import Bundle
from rdx_fast.bundle.changes import override_limits
from rdx_fast.errors import CalibrationError, CheckpointError
from rdx_fast.limits.calibration import calibrate_threshold
from rdx_fast.limits.limits import WHOLE, Limits
from rdx_fast.limits.promise import Wish
from rdx_fast.retraining.confirmed import (
    Confirmed,
    ConfirmedFrame,
    RetrainError,
    SampleLabels,
    confirmed_frames,
)
from rdx_fast.retraining.hold_out import FOR_LIMITS, HOLD_OUT, is_for_limits, is_held_out
from rdx_fast.retraining.limit_images import limit_images, told_of_calibration
from rdx_fast.retraining.measuring import sample_of
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
    return confirmed_frames(station.records.path, station.records.pictures, 1, "part")


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
    assert "2 labelled parts whose stored frame is gone, the oldest of 2026-01-01" in second


def test_what_cannot_be_used(station: StationFile) -> None:
    """Other results than verdicts, damaged frames, frames that a check refuses."""
    for number in range(1, 8):
        record(station, number, FRAME, result={1: "ERROR", 2: "LATE"}.get(number, "NG"))
        label(station, number, "good")
    damaged = station.records.pictures / "2026-01-01" / f"{3:010d}_frame.png"
    damaged.write_bytes(damaged.read_bytes()[:40])
    record(station, 8, np.zeros((4, 8, 3), np.uint8))
    label(station, 8, "bad")

    def check(frame: NDArray[np.uint8]) -> None:
        if len(frame) != 8:
            raise ValueError("has another size")

    found = confirmed(station).checked(check)
    assert [frame.inspection_id for frame in found.frames] == [4, 5, 6, 7]
    assert list(found.unusable) == [1, 2, 3, 8]
    (told,) = found.told()
    for said in ("4 labelled parts that cannot", "1: its result is ERROR", "8: has another size"):
        assert said in told


def test_parts_of_another_product(station: StationFile) -> None:
    for number in range(1, 5):
        record(station, number, FRAME, bundle="lids" if number % 2 else "part")
        label(station, number, "good")
    found = confirmed(station)
    assert [frame.inspection_id for frame in found.frames] == [2, 4]
    assert found.of_others == (1, 3)
    assert "another bundle under the id of this job, lids" in found.told()[0]


def test_parts_that_are_inspected_again(station: StationFile) -> None:
    """A part's pictures are all held out, or none of them; parts without an id are others."""
    day = 86400
    facts = [  # inspection, part, seconds
        *((1, 9, 0), (7, 9, 60), (8, 5, 60), (9, 0, 60), (10, 0, 70)),
        *((13, 9, day), (14, 9, day + 1), (15, 5, 3 * day)),
    ]
    for number, part, seconds in facts:
        time = (datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)).isoformat()
        record(station, number, FRAME, part_id=part, triggered_at=time)
        label(station, number, "good")
    first = {frame.inspection_id: frame.first for frame in confirmed(station).frames}
    assert first == {1: 1, 7: 1, 8: 8, 9: 9, 10: 10, 13: 1, 14: 14, 15: 15}
    held_out = {f.inspection_id for f in confirmed(station).frames if f.held_out}
    assert held_out == set()  # 7 and 13 alone would be


@pytest.mark.parametrize(
    ("ok_labelled", "rejected_labelled", "disputed", "complete"),
    [
        (40, 10, (), True),
        (38, 10, (), True),
        (37, 10, (), False),
        (40, 9, (), False),
        (40, 9, (7,), True),
        (40, 8, (7,), False),
        (40, 8, (7, 8), False),
        (4, 10, (), False),
    ],
)
def test_sample_that_is_partly_labelled(
    ok_labelled: int, rejected_labelled: int, disputed: tuple[int, ...], complete: bool
) -> None:
    """Rejects alone, or most of all parts, do not stand for the sample."""
    sample = SampleLabels(40, ok_labelled, 10, rejected_labelled, disputed)
    assert sample.complete == complete
    wish = Wish(0.05, weaker=True)
    line = tuple(
        ConfirmedFrame(number, Path(__file__), False, True, number)
        for number in range(1, 1000)
        if is_held_out(number)
    )
    found = limit_images([Path("a.png")], of(line, sample), (), wish, 1)
    assert (len(found.line), len(found.folder)) == ((line_parts(line), 0) if complete else (0, 1))
    said = f"{ok_labelled} of 40 parts with the result OK and {rejected_labelled} of 10 with REVIEW"
    assert any(said in note for note in found.notes) != complete


def test_parts_that_bundles_are_compared_by() -> None:
    """Of the sample, what no bundle knows: chosen by chance alone, so good ones of one half."""
    frames = tuple(
        ConfirmedFrame(n, Path("a.png"), bad=n % 5 == 0, sampled=n % 2 == 1, first=n)
        for n in range(1, 200)
    )
    known = {13, 15, 29}
    found = sample_of(of(frames, SampleLabels()), known)
    held_out = {n for n in range(1, 200, 2) if is_held_out(n) and not is_for_limits(n)}
    good = {n for n in held_out if n % 5} - known
    assert {13, 29} < held_out
    assert found == good | ({*range(5, 200, 10)} - known)
    assert sample_of(of(frames, SampleLabels(ok=10, ok_labelled=1)), known) == set()


def of(frames: tuple[ConfirmedFrame, ...], sample: SampleLabels) -> Confirmed:
    return Confirmed(frames, (), (), "", (), (), {}, {}, sample)


def line_parts(frames: tuple[ConfirmedFrame, ...]) -> int:
    return sum(is_for_limits(frame.first) for frame in frames)


def test_labels_of_the_sample_are_counted(station: StationFile) -> None:
    """Up to the newest label of the job, of parts that can be labelled."""
    for number in range(1, 9):
        facts: dict[str, object] = {"result": "OK" if number % 2 else "REVIEW"}
        if number == 8:  # came after the newest label
            facts["triggered_at"] = "2999-01-01T00:00:00+00:00"
        record(station, number, FRAME if number != 3 else None, sampled=int(number != 7), **facts)
    label(station, 1, "good")
    label(station, 2, "bad")
    label(station, 4, "good")
    label(station, 4, "bad", "otto")
    found = confirmed(station).sample
    assert found == SampleLabels(2, 1, rejected=3, rejected_labelled=1, disputed=(4,))


def test_disputed_parts_of_the_sample(station: StationFile) -> None:
    """One among few rejected parts may lack; of two, it is said what can be done."""
    for number in range(1, 51):
        record(station, number, FRAME, sampled=1, result="OK" if number <= 40 else "NG")
        label(station, number, "good")
    folder, wish = [Path("a.png")], Wish(0.05, weaker=True)
    label(station, 45, "bad", "otto")
    found = confirmed(station)
    assert found.sample.complete
    assert found.sample.told().endswith("; 1 is disputed: settle it (inspection 45)")
    assert limit_images(folder, found, (), wish, 1).line
    label(station, 46, "bad", "otto")
    record(station, 51, FRAME, sampled=1, triggered_at="2026-01-01T00:00:51+00:00")
    (said,) = limit_images(folder, confirmed(station), (), wish, 1).notes
    assert said.endswith(
        "too little of the random sample is labelled to stand for all: 40 of 40 parts with the "
        "result OK and 8 of 11 with REVIEW or NG have labels that agree; 1 without labels: label "
        "all; 2 are disputed: settle them (inspections 45, 46)"
    )


def test_limits_come_from_the_line_alone_if_it_suffices() -> None:
    """Scores of the calibration folder may be lower than the line's."""
    numbers = [number for number in range(1, 400) if is_held_out(number) and is_for_limits(number)]
    frames = tuple(ConfirmedFrame(n, Path(__file__), False, True, n) for n in numbers)
    folder = [Path(f"{i}.png") for i in range(60)]
    wish, sample = Wish(0.05, weaker=True), SampleLabels()
    enough = limit_images(folder, of(frames[:19], sample), (), wish, 1)
    assert (len(enough.line), enough.folder, enough.notes) == (19, [], [])
    pooled = limit_images(folder, of(frames[:18], sample), (), wish, 1)
    assert (len(pooled.line), len(pooled.folder)) == (18, 60)
    assert "60 images of the calibration folder and 18 parts of the line" in pooled.notes[0]
    assert "as soon as there are 19 parts" in pooled.notes[0]
    seen = limit_images(folder, of(frames[:19], sample), numbers[:1], wish, 1)
    assert len(seen.line) == 18
    two = limit_images(folder, of(frames[:19], sample), (), wish, 2)
    assert len(two.folder) == 60
    with pytest.raises(CalibrationError, match="18 good images cannot promise"):
        limit_images([], of(frames[:18], sample), (), Wish(0.05), 1)


def test_hold_out_is_kept_apart(station: StationFile) -> None:
    held_out = [number for number in range(1, 4001) if is_held_out(number)]
    assert len(held_out) == pytest.approx(4000 * HOLD_OUT, rel=0.1)
    assert held_out[:6] == [7, 13, 23, 28, 29, 34]  # never another choice: frames were trained on
    for number in range(1, 31):
        record(station, number, FRAME, sampled=number % 2)
        label(station, number, "bad" if number == 7 else "good")
    found = confirmed(station)
    trained = {frame.inspection_id for frame in found.to_train_on}
    calibrated = {frame.inspection_id for frame in found.frames if frame.for_limits}
    assert trained == {*range(1, 31)} - {*held_out}
    for_limits = [number for number in held_out if is_for_limits(number)]
    assert len(for_limits) == pytest.approx(len(held_out) * FOR_LIMITS, rel=0.1)
    assert for_limits[:6] == [7, 23, 28, 34, 36, 39]
    assert calibrated == {number for number in for_limits if number <= 30 and number % 2} - {7}


def test_what_is_told_of_a_calibration() -> None:
    limits = {"fp32": (conformal(0.05, 9),), "int8": (conformal(0.05, 19),)}
    weaker, named = told_of_calibration(limits, [Path("line/7.png")], Wish(0.05, weaker=True))
    assert weaker == (
        "fp32: the limits promise at most 10.000% false rejects instead of 5.000%, since they come "
        "from 9 images: 19 are needed"
    )
    assert named.endswith("whether these parts are good: line/7.png")


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
