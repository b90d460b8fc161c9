"""The weekly loop from labels to a candidate, and the weeks after."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rdx_fast.bundle.bundle import Bundle, open_bundle
from rdx_fast.bundle.bundle_history import verify_bundle
from rdx_fast.bundle.changes import override_limits, replace_recipe
from rdx_fast.bundle.signature import sign_bundle
from rdx_fast.bundle.versions import list_versions, manifest_sha256, release
from rdx_fast.errors import BundleError, CalibrationError, CheckpointError
from rdx_fast.export import export_bundle
from rdx_fast.images import list_images
from rdx_fast.limits.limits import rates_of_parts
from rdx_fast.limits.promise import Wish
from rdx_fast.recalibrate import calibrate_bundle
from rdx_fast.recipe.recipe import FrameSpec, InspectionRecipe, RegionSpec
from rdx_fast.retraining.comparison import Comparison
from rdx_fast.retraining.confirmed import RetrainError
from rdx_fast.retraining.hold_out import is_for_limits, is_held_out
from rdx_fast.retraining.origin import RETRAINED
from rdx_fast.retraining.retrain import retrain
from rdx_fast.retraining.training import (
    RATE_SHARE,
    further_recipe,
    repeats_of_confirmed,
    train_further,
)
from rdx_fast.retraining.watch import Watch
from rdx_fast.station.config import StationFile, read_station
from rdx_fast.station.records.changes import ChangeLog, read_changes
from rdx_fast.station.records.store import RecordError
from rdx_fast.training.checkpoint import FILE, Checkpoint, load_checkpoint, save_checkpoint
from support.commands import run as command
from support.labelled_line import a_week, label, record, write_station
from support.signing import keys


@pytest.fixture
def station(parts: Path, checkpoint: Checkpoint, bundle: Bundle, tmp_path: Path) -> StationFile:
    save_checkpoint(checkpoint, tmp_path / "run")
    return write_station(tmp_path / "station", parts, tmp_path / "run", bundle.path)


def short(station: StationFile, **options: object) -> Comparison:
    """A candidate that has hardly learned, which says what it is."""
    return retrain(station, 1, iterations=2, device="cpu", **options)[1]  # type: ignore[arg-type]


@pytest.mark.slow
def test_two_weeks(station: StationFile, checkpoint: Checkpoint) -> None:
    """Dusty parts are rejected less after each week, and what is held out is never trained on."""
    path = station.bundles[1]
    first = manifest_sha256(path)
    a_week(station, 1, 24, 6, seed=1)
    version, found = retrain(station, 1, iterations=150, user="anna", device="cpu")
    assert (version.state, version.action, version.user) == ("candidate", "compare", "anna")
    assert version.comparison == json.loads(json.dumps(found.to_dict()))
    assert manifest_sha256(path) == first == found.old_sha256
    (entry,) = (change for change in read_changes(station.records.path) if change.action != "label")
    assert (entry.action, entry.after["sha256"]) == ("candidate", version.sha256)
    assert found.old_network == checkpoint.network_sha256() != found.new_network
    assert found.trained_on == tuple(i for i in range(1, 25) if not is_held_out(i))
    held_out = [i for i in range(1, 25, 2) if is_held_out(i)]
    assert found.calibrated_on == tuple(i for i in held_out if is_for_limits(i))
    assert (found.calibration_images, found.trained_before) == (20, ())
    assert (found.steps, found.images) == (150, 24 + len(found.trained_on))
    assert found.labelled is not None
    assert found.sample is not None
    assert (found.labelled.good, found.labelled.bad) == (24, 6)
    # Of the sample, what neither was trained on nor is for the limits; no bad part is of it.
    assert (found.sample.good, found.sample.bad) == (len(held_out) - len(found.calibrated_on), 0)
    assert (found.frozen.good, found.frozen.bad) == (8, 8)
    actions = [change.action for change in verify_bundle(open_bundle(version.path))]
    assert actions == ["export", "replace", "calibrate", "compare"]

    release(path, version.sha256)
    a_week(station, 31, 24, 6, seed=2)
    second, later = retrain(station, 1, iterations=150, user="anna", device="cpu")
    assert later.old_network == found.new_network  # the candidate's own checkpoint was found
    assert {*found.trained_on} < {*later.trained_on}
    assert not any(map(is_held_out, later.trained_on))
    assert later.trained_before == found.trained_on
    assert later.labelled is not None
    assert found.labelled.old.false_rejects == found.labelled.good
    for week in (found.labelled, later.labelled):
        assert week.new.false_rejects < week.old.false_rejects
        assert week.new.escapes == 0
    assert len(later.again_rejected) == later.labelled.new.false_rejects
    release(path, second.sha256)
    assert [v.state for v in list_versions(path)] == ["released", "previous", "previous"]
    with pytest.raises(CheckpointError, match=r"are not what .* was exported from"):
        retrain(with_run(station, checkpoint), 1)


def with_run(station: StationFile, checkpoint: Checkpoint) -> StationFile:
    """The station with another run, which is not that of the job's bundle."""
    run = station.retrain["1"].run.with_name("another")
    save_checkpoint(checkpoint, run)
    return replace(station, retrain={"1": replace(station.retrain["1"], run=run)})


@pytest.mark.slow
def test_what_networks_were_trained_on_is_not_forgotten(station: StationFile, parts: Path) -> None:
    """The checkpoint knows it, also where its bundle was exported by hand."""
    path, run = station.bundles[1], station.retrain["1"].run
    a_week(station, 1, 12, 2, seed=1)
    first = short(station)
    (folder,) = (run / RETRAINED).iterdir()
    made = load_checkpoint(folder)
    assert made.inspections == list(first.trained_on)
    good = list_images(parts / "calibration")
    export_bundle(made, good, path, overwrite=True, precision="fp32", name="part")
    wrong = first.trained_on[0]
    label(station, wrong, "bad")  # it is of the sample: the only part that would be compared by
    a_week(station, 30, 4, 0, seed=2)
    second = short(station)
    assert second.trained_before == first.trained_on
    assert wrong not in second.trained_on
    assert any("was trained on 1 parts that are not labelled good" in n for n in second.notes)
    assert wrong % 2 == 1
    assert second.sample is None
    for part in (*second.again_rejected, *second.escaped):
        known = part.inspection_id in {*first.trained_on, *second.trained_on}
        assert part.trained_on == known
    candidate = next(v for v in list_versions(path) if v.comparison is not None)

    def released_meanwhile(stage: str) -> None:
        if stage == "training":
            release(path, candidate.sha256)

    with pytest.raises(BundleError, match="another bundle was released while"):
        short(station, learning_rate=0.001, watch=Watch(stage=released_meanwhile))


@pytest.mark.slow
def test_recipe_promise_and_signature_are_carried_over(
    station: StationFile, parts: Path, tmp_path: Path
) -> None:
    private, public = keys(tmp_path, "quality")
    path = station.bundles[1]
    mask = np.zeros((80, 112), np.uint8)
    mask[:20, :30] = 255
    regions = (
        RegionSpec("disc", polygon=((20, 5), (100, 5), (100, 75), (20, 75))),
        RegionSpec("lamp", "ignore", mask="lamp.png"),
    )
    recipe = InspectionRecipe(
        FrameSpec(80, 112, "rgb"), regions, deadline_ms=70.0, camera={"gain": 2.0}
    )
    bundle = replace_recipe(open_bundle(path), recipe, {"lamp.png": mask}, "otto")
    good = list_images(parts / "calibration")
    bundle = calibrate_bundle(bundle, good, Wish(0.05, 0.2), user="otto").bundle
    sign_bundle(path, private)
    bundle = override_limits(
        bundle, "new lamp", ok_below=0.1, ng_above=0.2, user="otto", sign_key=private
    )
    (path / "kernels").mkdir()
    (path / "kernels" / "kernels.json").write_text("{}")
    a_week(station, 1, 8, 2, seed=1)
    signed = replace(station, public_key=public)
    found = short(signed, sign_key=private, user="anna")
    version = list_versions(path)[1]
    candidate = open_bundle(version.path, public)
    assert candidate.manifest.recipe == bundle.manifest.recipe
    assert candidate.manifest.name == bundle.manifest.name
    (execution,) = candidate.manifest.executions
    assert rates_of_parts([of.ng_above for of in execution.limits]).false_reject_rate == 0.05
    assert rates_of_parts([of.ok_below for of in execution.limits]).false_reject_rate == 0.2
    assert "limits set by hand (new lamp) are not carried over" in found.notes[0]
    assert (candidate.path / "kernels" / "kernels.json").is_file()
    assert release(path, version.sha256, public).user == "anna"
    unsigned = short(signed, wish=Wish(0.05))
    assert any("not signed, and the station opens signed bundles only" in n for n in unsigned.notes)


@pytest.mark.slow
def test_interrupted(station: StationFile) -> None:
    """The training goes on; with other images it begins again."""
    a_week(station, 1, 12, 2, seed=1)

    class Interrupted(Exception):
        pass

    def interrupt(step: object) -> None:
        if step.step == 33:  # type: ignore[attr-defined]
            raise Interrupted

    def made(watch: Watch) -> Comparison:
        return retrain(station, 1, iterations=40, device="cpu", watch=watch)[1]

    with pytest.raises(Interrupted):
        made(Watch(step=interrupt))
    assert len(list_versions(station.bundles[1])) == 1
    steps: list[int] = []
    told: list[str] = []
    watch = Watch(told.append, lambda step: steps.append(step.step))
    made(watch)
    assert (steps[0], steps[-1]) == (31, 40)  # a checkpoint is written every five epochs
    assert not any("given up" in line for line in told)
    with pytest.raises(Interrupted):
        made(Watch(step=interrupt))
    a_week(station, 20, 6, 0, seed=2)
    found = made(watch)
    assert any("an interrupted retraining is given up" in line for line in told)
    assert len(list((station.retrain["1"].run / RETRAINED).iterdir())) == 2
    assert found.images == 24 + len(found.trained_on)


@pytest.mark.slow
def test_the_picture_store_deletes_frames_meanwhile(station: StationFile) -> None:
    """A full one does all the time. What is known when the retraining begins is used to its end."""
    a_week(station, 1, 24, 2, seed=1)
    config = station.retrain["1"]

    def stage(said: str) -> None:
        if said.startswith("training further"):
            shutil.rmtree(station.records.pictures)

    found = short(station, watch=Watch(stage))
    assert found.trained_on == tuple(i for i in range(1, 25) if not is_held_out(i))
    assert found.calibrated_on
    assert found.labelled is not None
    assert (found.labelled.good, found.labelled.bad, found.missing) == (24, 2, ())
    assert [folder.name for folder in (config.run / RETRAINED).glob(".*")] == []


@pytest.mark.slow
def test_records_that_cannot_be_written(
    station: StationFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The candidate is there, and says how it compares."""
    a_week(station, 1, 8, 2, seed=1)

    def enter(*_: object) -> None:
        raise RecordError("the disk is full")

    monkeypatch.setattr(ChangeLog, "enter", enter)
    found = short(station)
    assert found.notes[-1] == "the candidate is not in the log of changes: the disk is full"
    candidate = list_versions(station.bundles[1])[1]
    assert candidate.comparison is not None
    assert candidate.comparison["new_network"] == found.new_network


@pytest.mark.slow
def test_command(station: StationFile, tmp_path: Path) -> None:
    a_week(station, 1, 8, 2, seed=1)
    label(station, 2, "bad", "otto")
    toml = tmp_path / "station" / "station.toml"
    done = command("retrain", 1, "--station", toml, "--iterations", 2, "--device", "cpu")
    assert "frozen set" in done.stdout
    assert "labelled, 6 trained on" in done.stdout
    assert "not used: 1 labelled parts whose labels contradict each other" in done.stderr
    sha256 = list_versions(station.bundles[1])[1].sha256
    assert f"rdx-fast release {station.bundles[1]} {sha256[:12]}" in done.stderr
    command("release", station.bundles[1], sha256[:12], "--station", toml)
    assert manifest_sha256(station.bundles[1]) == sha256
    assert [c.action for c in read_changes(station.records.path)[-2:]] == ["candidate", "release"]
    no_table = command("retrain", 2, "--station", toml, code=2)
    assert "job 2 has no table [retrain.2]" in no_table.stderr


def test_what_cannot_be_trained_with(station: StationFile, tmp_path: Path) -> None:
    """It is said before anything is trained."""
    record(station, 1, None)
    with pytest.raises(RetrainError, match="has no confirmed good parts to train on"):
        retrain(station, 1)
    a_week(station, 2, 4, 1, seed=1)
    config = station.retrain["1"]
    for never in (config.calibration, config.frozen / "test" / "good"):
        shared = replace(config, good=never)
        with pytest.raises(RetrainError, match="and the images that the run was trained on share"):
            retrain(replace(station, retrain={"1": shared}), 1)
    with pytest.raises(BundleError, match="the private key cannot be read"):
        retrain(station, 1, sign_key=tmp_path / "none.pem")
    with pytest.raises(CalibrationError, match="20 good images cannot promise"):
        retrain(station, 1, wish=Wish(0.001))
    with pytest.raises(CalibrationError, match="good images show nothing"):
        retrain(replace(station, retrain={"1": replace(config, calibration=dark(tmp_path))}), 1)
    toml = tmp_path / "station" / "station.toml"
    toml.write_text(toml.read_text().replace("[camera]", '[camera]\npixel_format = "bgr"'))
    with pytest.raises(RetrainError, match="are read with pixel_format bgr, the images of the run"):
        retrain(read_station(toml), 1)


def dark(folder: Path) -> Path:
    """A folder with an image that shows nothing."""
    (folder / "dark").mkdir()
    Image.fromarray(np.zeros((80, 112, 3), np.uint8)).save(folder / "dark" / "0.png")
    return folder / "dark"


def test_an_unfinished_run_that_cannot_be_read_is_kept(
    station: StationFile, checkpoint: Checkpoint
) -> None:
    """It is deleted for other images or another recipe only."""
    config = station.retrain["1"]
    file = config.run / RETRAINED / "unfinished" / FILE
    file.parent.mkdir(parents=True)
    file.write_bytes(b"damaged")
    images = list_images(config.good)
    with pytest.raises(CheckpointError, match="is damaged"):
        train_further(checkpoint, further_recipe(checkpoint), images, [], config, device="cpu")
    assert file.read_bytes() == b"damaged"


def test_recipe_to_train_further(checkpoint: Checkpoint) -> None:
    recipe = further_recipe(checkpoint, 50)
    assert recipe.learning_rate == pytest.approx(RATE_SHARE * checkpoint.recipe.learning_rate)
    assert (recipe.epochs, recipe.iterations, recipe.holdout) == (None, 50, 0.0)
    # After a retraining the same again, and as it is asked for.
    again = further_recipe(replace(checkpoint, recipe=recipe, started_from="a"))
    assert again.learning_rate == recipe.learning_rate
    asked = further_recipe(checkpoint, learning_rate=checkpoint.recipe.learning_rate / 2)
    assert asked.learning_rate == checkpoint.recipe.learning_rate / 2
    assert asked.teacher_learning_rate == checkpoint.recipe.teacher_learning_rate / 2


@pytest.mark.parametrize(
    ("originals", "confirmed", "wanted"), [(200, 1, 4), (200, 40, 3), (200, 100, 1), (10, 100, 1)]
)
def test_confirmed_parts_are_shown_more_often(originals: int, confirmed: int, wanted: int) -> None:
    assert repeats_of_confirmed(originals, confirmed) == wanted
    assert confirmed * (wanted - 1) <= originals / 2  # they do not outnumber the others
