"""From labels and stored frames to a candidate of a job's bundle that says how it compares."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from rdx_fast.bundle.bundle import Bundle, open_bundle
from rdx_fast.bundle.history import system_user
from rdx_fast.bundle.revision import revise_bundle
from rdx_fast.bundle.signature import SigningKey
from rdx_fast.bundle.versions import (
    COMPARISON,
    Version,
    list_versions,
    manifest_sha256,
    new_candidate,
)
from rdx_fast.datasets import find_dataset
from rdx_fast.detector import Detector
from rdx_fast.errors import BundleError
from rdx_fast.images import list_images
from rdx_fast.limits.promise import Wish
from rdx_fast.preprocess import FrameOptions
from rdx_fast.recalibrate import calibrate_bundle
from rdx_fast.recipe.frame_check import FrameStatistics
from rdx_fast.retraining.comparing import LabelledParts, compare_on_parts, compare_on_set
from rdx_fast.retraining.comparison import FORMAT, Compared, Comparison
from rdx_fast.retraining.confirmed import Confirmed, RetrainError, confirmed_frames
from rdx_fast.retraining.export_like import export_like
from rdx_fast.retraining.origin import origin_of
from rdx_fast.retraining.promises import wish_of
from rdx_fast.retraining.training import (
    further_recipe,
    original_images,
    repeats_of_confirmed,
    train_further,
)
from rdx_fast.station.config import StationFile
from rdx_fast.station.records.changes import ChangeLog
from rdx_fast.station.settings import JobSettings
from rdx_fast.training.checkpoint import Checkpoint
from rdx_fast.training.trainer import Progress

_SAME_FORMATS = {None, "rgb", "mono"}  # None is one of the others


@dataclass(frozen=True, slots=True)
class Watch:
    """What is called while a candidate is made.

    Attributes:
        stage: with the name of each stage that begins, and with what is to be known
        step: after each step of the training
        images: with what is done with images, images done and in all
        plan: while a TensorRT plan is built, see ``open_engine``
    """

    stage: Callable[[str], None] = lambda stage: None
    step: Callable[[Progress], None] = lambda progress: None
    images: Callable[[str, int, int], None] = lambda what, done, total: None
    plan: Callable[[str, int, int], None] = lambda *_: None


def retrain(
    station: StationFile,
    job: int,
    *,
    iterations: int | None = None,
    learning_rate: float | None = None,
    max_minutes: float | None = None,
    device: str = "auto",
    wish: Wish | None = None,
    dark_field: bool = False,
    user: str | None = None,
    sign_key: Path | None = None,
    watch: Watch = Watch(),
) -> tuple[Version, Comparison]:
    """Make a candidate of a job's bundle: its network trained further with confirmed good parts.

    The candidate inspects what the released bundle inspects, and its limits promise the same. It is
    not released: see ``versions.release``.

    Args:
        station: the station's configuration, with the table ``[retrain.JOB]``
        job: id of the job
        iterations: batches to train; None for ``training.ITERATIONS``
        learning_rate: of student and bottleneck; None for that of ``training.further_recipe``
        max_minutes: end the training after this time; None for no limit
        device: "cpu", "cuda", "cuda:N", or "auto" for CUDA if there is a GPU
        wish: what the limits are for; None for what the released ones are for, see ``wish_of``
        dark_field: see ``FrameStatistics.of_files``
        user: named in the history; None for the system's name of the user
        sign_key: file of the private key that signs the candidate; None leaves it unsigned
        watch: what is called meanwhile

    Raises:
        RetrainError: the job has no table ``[retrain.JOB]``, there are no confirmed good parts to
            train on, the frames of the line are not shown as the images of the run, or the limits'
            purpose is not clear
        CheckpointError: the run is not the one that the bundle was exported from
        RecordError: the records cannot be read or written
        BundleError: the bundle is damaged, or no candidate can be made of it
        DatasetError: images cannot be used
        TrainingError: see ``train``
        ExportError: see ``export_bundle``
        CalibrationError: there are too few images for the limits
    """
    user = user or system_user()
    path = station.bundles.get(job)
    config = station.retrain.get(str(job))
    if path is None or config is None:
        raise RetrainError(
            f"job {job} has no table [retrain.{job}] in the station's configuration: add one, with "
            f"run, good, calibration and frozen"
        )
    # What may be refused is, before minutes or hours of training.
    released = open_bundle(path, station.public_key)
    if sign_key is not None:
        SigningKey.read(sign_key)
    start, notes = origin_of(released, config.run)
    options = _frame_options(station, job, released, start)
    if wish is None:
        wish_of(released)
    confirmed = confirmed_frames(station.records.path, station.records.pictures, job)
    notes += confirmed.told()
    if not confirmed.to_train_on:
        raise RetrainError(
            f"job {job} has no confirmed good parts to train on ({len(confirmed.frames)} labelled "
            f"parts can be used): label parts first"
        )
    good = list_images(config.calibration) + [frame.path for frame in confirmed.to_calibrate_on]
    FrameStatistics.of_files(good, options.crop, options.levels, dark_field)
    originals = original_images(config, start)
    added = [frame.path for frame in confirmed.to_train_on]
    repeats = repeats_of_confirmed(len(originals), len(added))
    watch.stage(
        f"training further on {len(originals)} images and {len(added)} confirmed good parts, each "
        f"of these shown {repeats} times as often"
    )
    checkpoint = train_further(
        start,
        further_recipe(start, iterations, learning_rate),
        originals + added * repeats,
        config,
        device=device,
        max_minutes=max_minutes,
        on_stage=watch.stage,
        on_step=watch.step,
    )
    # Its limits may have been changed meanwhile.
    released, old_sha256 = open_bundle(path, station.public_key), manifest_sha256(path)
    if wish is None:
        wish, said = wish_of(released)
        notes += said
    with new_candidate(path) as folder:
        candidate = export_like(
            released,
            checkpoint,
            good,
            folder,
            wish,
            user,
            sign_key,
            dark_field,
            lambda stage: watch.stage(f"export: {stage}"),
        )
        watch.stage("calibrating")
        calibrated = calibrate_bundle(
            candidate,
            good,
            wish,
            user=user,
            backend=station.backend,
            threads=station.threads,
            sign_key=sign_key,
            dark_field=dark_field,
            on_progress=watch.plan,
            on_image=lambda done, total: watch.images("calibrating", done, total),
        )
        if calibrated.unchanged:
            notes.append(
                f"not calibrated, since they run elsewhere (rdx-fast calibrate on that machine): "
                f"{', '.join(calibrated.unchanged)}"
            )
        if station.public_key is not None and sign_key is None:
            notes.append("not signed, and the station opens signed bundles only (rdx-fast sign)")
        watch.stage("comparing with the released bundle")
        measured = _measured(
            station, released, calibrated.bundle, confirmed, options, config.frozen, watch
        )
        comparison = Comparison(
            format=FORMAT,
            time=datetime.now(UTC).isoformat(timespec="seconds"),
            old_sha256=old_sha256,
            old_network=released.manifest.training.get("network_sha256"),
            new_network=checkpoint.network_sha256(),
            old_executed=measured.executed[0],
            new_executed=measured.executed[1],
            steps=checkpoint.step,
            images=len(originals) + len(added),
            trained_on=tuple(frame.inspection_id for frame in confirmed.to_train_on),
            calibrated_on=tuple(frame.inspection_id for frame in confirmed.to_calibrate_on),
            disputed=confirmed.disputed,
            missing=confirmed.missing,
            frozen=measured.frozen,
            labelled=measured.parts.labelled,
            unseen=measured.parts.unseen,
            again_rejected=measured.parts.again_rejected,
            escaped=measured.parts.escaped,
            notes=tuple(notes),
        )
        content = json.dumps(comparison.to_dict(), indent=2).encode()
        revise_bundle(
            calibrated.bundle, "compare", user, files={COMPARISON: content}, sign_key=sign_key
        )
        sha256 = manifest_sha256(folder)
    made = next(version for version in list_versions(path) if version.sha256 == sha256)
    ChangeLog(station.records.path).enter(
        "candidate", user, {}, {"job": job, "bundle": made.name, "sha256": sha256}
    )
    return made, comparison


def _frame_options(
    station: StationFile, job: int, released: Bundle, start: Checkpoint
) -> FrameOptions:
    """How the job's frames are read. Raises ``RetrainError`` if the run's images are not shown so:
    the network would be trained on parts of another size or place."""
    stated = released.manifest.recipe
    applied = station.station.settings(
        job,
        JobSettings(
            crop=stated.frame.crop,
            pixel_format=stated.frame.pixel_format,
            levels=stated.frame.levels,
        ),
    )
    of_line = FrameOptions(applied.pixel_format, applied.crop, applied.levels, stated.tiles)
    of_run = start.recipe.frame_options
    formats = {of_line.pixel_format, of_run.pixel_format}
    same_format = len(formats) == 1 or formats <= _SAME_FORMATS
    if not same_format or of_line._replace(pixel_format=None) != of_run._replace(pixel_format=None):
        raise RetrainError(
            f"the frames of job {job} are read with {_told(of_line)}, the images of the run with "
            f"{_told(of_run)}: train a run on frames of the line, export it and release that "
            f"bundle first"
        )
    return of_line


def _told(options: FrameOptions) -> str:
    given = {name: value for name, value in options._asdict().items() if value is not None}
    return ", ".join(f"{name} {value}" for name, value in given.items()) or "no options"


class _Measured(NamedTuple):
    """Both bundles on both sets, and the precisions in which they were executed, the old first."""

    frozen: Compared
    parts: LabelledParts
    executed: tuple[str, str]


def _measured(
    station: StationFile,
    released: Bundle,
    candidate: Bundle,
    confirmed: Confirmed,
    options: FrameOptions,
    frozen: Path,
    watch: Watch,
) -> _Measured:
    trained_on = {frame.inspection_id for frame in confirmed.to_train_on}
    seen = trained_on.union(_trained_on_before(released))
    unseen = {frame.inspection_id for frame in confirmed.frames} - seen

    def opened(bundle: Bundle) -> Detector:
        return Detector(
            bundle.path,
            station.backend,
            station.threads,
            precision=station.precision,
            on_progress=watch.plan,
            check_frames=False,
        )

    with opened(released) as old, opened(candidate) as new:
        if old.manifest != released.manifest:
            raise BundleError(
                f"{released.path} was changed while a candidate was made of it: start again"
            )
        given = FrameOptions.of_recipe(new.recipe, *options[:3])
        return _Measured(
            compare_on_set(
                old,
                new,
                find_dataset(frozen).test(),
                given,
                lambda done, total: watch.images("frozen set", done, total),
            ),
            compare_on_parts(
                old,
                new,
                confirmed.frames,
                trained_on,
                unseen,
                given,
                lambda done, total: watch.images("labelled parts", done, total),
            ),
            (old.engine.execution.executed, new.engine.execution.executed),
        )


def _trained_on_before(released: Bundle) -> list[int]:
    """Inspections that the released network was trained on, if it is of a retraining."""
    if COMPARISON not in released.manifest.files:
        return []
    return list(json.loads((released.path / COMPARISON).read_text()).get("trained_on", ()))
