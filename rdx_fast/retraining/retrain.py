"""From labels and stored frames to a candidate of a job's bundle that says how it compares."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

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
from rdx_fast.errors import BundleError
from rdx_fast.limits.promise import Wish
from rdx_fast.preprocess import FrameOptions
from rdx_fast.recalibrate import calibrate_bundle
from rdx_fast.recipe.frame_check import FrameStatistics
from rdx_fast.retraining.comparison import FORMAT, Comparison
from rdx_fast.retraining.confirmed import RetrainError
from rdx_fast.retraining.export_like import export_like
from rdx_fast.retraining.limit_images import LimitImages, limit_images, told_of_calibration
from rdx_fast.retraining.line_frames import frame_options
from rdx_fast.retraining.material import gather
from rdx_fast.retraining.measuring import measure, sample_of
from rdx_fast.retraining.origin import origin_of
from rdx_fast.retraining.own_frames import own_frames
from rdx_fast.retraining.promises import wish_of
from rdx_fast.retraining.training import (
    further_recipe,
    repeats_of_confirmed,
    train_further,
)
from rdx_fast.retraining.watch import QUIET, Watch
from rdx_fast.station.config import StationFile
from rdx_fast.station.records.changes import ChangeLog
from rdx_fast.station.records.store import RecordError
from rdx_fast.training.checkpoint import Checkpoint


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
    watch: Watch = QUIET,
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
        RecordError: the records cannot be read
        BundleError: the bundle is damaged, no candidate can be made of it, or another one was
            released meanwhile
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
    options = frame_options(station, job, released, start)
    with own_frames(config.run) as frames:
        material = gather(station, job, config, released, start, options, frames, watch.stage)
        confirmed, notes = material.confirmed, [*notes, *material.notes]
        added = confirmed.to_train_on
        trained_on = {*material.trained_before, *(frame.inspection_id for frame in added)}

        def chosen(wanted: Wish) -> LimitImages:
            regions = len(released.manifest.recipe.inspected)
            return limit_images(material.calibration, confirmed, trained_on, wanted, regions)

        good = chosen(wish or wish_of(released)[0]).paths
        FrameStatistics.of_files(good, options.crop, options.levels, dark_field)
        repeats = repeats_of_confirmed(len(material.originals), len(added))
        watch.stage(
            f"training further on {len(material.originals)} images and {len(added)} confirmed good "
            f"parts, each of these shown {repeats} times as often"
        )
        checkpoint = train_further(
            start,
            further_recipe(start, iterations, learning_rate),
            [*material.originals, *[frame.path for frame in added] * repeats],
            trained_on,
            config,
            device=device,
            max_minutes=max_minutes,
            on_stage=watch.stage,
            on_step=watch.step,
        )
        # Its limits may have been changed meanwhile.
        released, old_sha256 = open_bundle(path, station.public_key), manifest_sha256(path)
        _check_still_released(released, start, options, station, job)
        if wish is None:
            wish, said = wish_of(released)
            notes += said
        limits_from = chosen(wish)
        good, notes = limits_from.paths, [*notes, *limits_from.notes]
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
            notes += told_of_calibration(calibrated.limits, calibrated.suspicious, wish)
            if calibrated.unchanged:
                notes.append(
                    f"not calibrated, since they run elsewhere (rdx-fast calibrate on that "
                    f"machine): {', '.join(calibrated.unchanged)}"
                )
            if station.public_key is not None and sign_key is None:
                notes.append(
                    "not signed, and the station opens signed bundles only (rdx-fast sign)"
                )
            watch.stage("comparing with the released bundle")
            known = trained_on | material.calibrated_before
            known |= {frame.inspection_id for frame in limits_from.line}
            measured = measure(
                station,
                released,
                calibrated.bundle,
                confirmed,
                trained_on,
                sample_of(confirmed, known),
                options,
                config.frozen,
                watch,
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
                images=len(material.originals) + len(added),
                trained_on=tuple(frame.inspection_id for frame in added),
                trained_before=tuple(sorted(material.trained_before)),
                calibration_images=len(limits_from.folder),
                calibrated_on=tuple(frame.inspection_id for frame in limits_from.line),
                disputed=confirmed.disputed,
                missing=confirmed.missing,
                of_others=confirmed.of_others,
                unusable=tuple(confirmed.unusable),
                frozen=measured.frozen,
                sample=measured.parts.sample,
                labelled=measured.parts.labelled,
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
    return made, _entered(made, comparison, station, job, user)


def _entered(
    made: Version, comparison: Comparison, station: StationFile, job: int, user: str
) -> Comparison:
    """Enter the candidate in the log of changes. It is there whether that succeeds or not, and the
    comparison that is returned says so."""
    facts = {"job": job, "bundle": made.name, "sha256": made.sha256}
    try:
        ChangeLog(station.records.path).enter("candidate", user, {}, facts)
    except RecordError as error:
        said = f"the candidate is not in the log of changes: {error}"
        return replace(comparison, notes=(*comparison.notes, said))
    return comparison


def _check_still_released(
    released: Bundle, start: Checkpoint, options: FrameOptions, station: StationFile, job: int
) -> None:
    """Raises ``BundleError`` if the released bundle is another one than training began with."""
    network = released.manifest.training.get("network_sha256")
    same = network in (None, start.network_sha256())
    if not same or frame_options(station, job, released, start) != options:
        raise BundleError(
            f"{released.path}: another bundle was released while its network was trained further: "
            f"start again"
        )
