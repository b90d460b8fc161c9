"""Calibration at the line: limits of a bundle from images, under its recipe and without torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rdx_fast.bundle.bundle import Bundle
from rdx_fast.bundle.revision import check_revisable, revise_bundle
from rdx_fast.detector import Detector
from rdx_fast.engines import Engine, Progress, open_engine, runnable
from rdx_fast.errors import CalibrationError
from rdx_fast.images import read_image
from rdx_fast.limits.calibration import manual_threshold
from rdx_fast.limits.limits import Limits
from rdx_fast.limits.promise import (
    Floats,
    Wish,
    check_promise,
    limits_from_scores,
    suspicious_scores,
)
from rdx_fast.recipe.frame_check import FrameStatistics

OnImage = Callable[[int, int], None]


class Calibrated(NamedTuple):
    """What a calibration found.

    Attributes:
        bundle: as it is since
        limits: by execution
        suspicious: good images whose scores do not fit the others', the highest first: look whether
            they are good
        unchanged: the other executions, with limits as before
    """

    bundle: Bundle
    limits: dict[str, tuple[Limits, ...]]
    suspicious: list[Path]
    unchanged: list[str]


def calibrate_bundle(
    bundle: Bundle,
    good: Sequence[Path],
    wish: Wish,
    defective: Sequence[Path] = (),
    *,
    user: str,
    backend: str = "auto",
    sign_key: Path | None = None,
    precision: str | None = None,
    threads: int | None = None,
    dark_field: bool = False,
    on_progress: Progress = lambda *_: None,
    on_image: OnImage = lambda *_: None,
) -> Calibrated:
    """Calibrate the limits of a bundle under its recipe, and enter them in its history.

    Every execution that runs here by one backend is calibrated, or the one that is asked for. What
    another backend runs, on another machine or a GPU, is calibrated there, or by its name.

    Args:
        bundle: as it is on disk
        good: images of good parts that were not trained on
        wish: what the limits are for
        defective: images of defective parts, for the methods that take them; else they are counted
        user: named in the history
        backend: what executes the bundle, see ``open_engine``
        sign_key: file of the private key that signs the bundle, see ``revise_bundle``
        precision: the only executed precision to calibrate; None for all
        threads: CPU threads, None for all
        dark_field: see ``FrameStatistics.of_files``
        on_progress: called while a TensorRT plan is built, see ``open_engine``
        on_image: called with images done and images in all

    Raises:
        CalibrationError: there are too few images for what is wanted, or a good image shows nothing
        BundleError: the bundle cannot be changed, see ``check_revisable``
        EngineError: no network of the bundle runs here, or it fails
        ImageError: an image cannot be read
        ValueError: a frame does not fit the recipe
    """
    check_revisable(bundle, sign_key)  # now, and not after all images are scored
    manifest, recipe = bundle.manifest, bundle.manifest.recipe
    if not good:
        raise CalibrationError("no good images were given: limits need good images")
    if wish.method != "conformal" and not defective:
        raise CalibrationError(f"the method {wish.method} needs defective images: give some")
    check_promise(len(good), wish, len(recipe.inspected))
    backend, executed = runnable(bundle, backend, precision, threads)
    frames = FrameStatistics.of_files(good, recipe.frame.crop, recipe.frame.levels, dark_field)
    paths = [*good, *defective]
    limits: dict[str, tuple[Limits, ...]] = {}
    scores: dict[str, Floats] = {}
    suspicious: dict[Path, float] = {}
    for number, name in enumerate(executed):
        engine = open_engine(bundle, backend, threads, on_progress=on_progress, precision=name)

        def on_scored(done: int, before: int = number * len(paths)) -> None:
            on_image(before + done, len(executed) * len(paths))

        found = _scores(engine, paths, on_scored)
        of_good, of_defective = found[: len(good)], found[len(good) :]
        label = engine.execution.label
        limits[label] = limits_from_scores(recipe.inspected, of_good, of_defective, wish)
        scores[label] = np.sort(of_good, axis=0)
        suspicious |= {good[i]: factor for i, factor in suspicious_scores(of_good).items()}
    revised = revise_bundle(
        bundle,
        "calibrate",
        user,
        executions=tuple(
            replace(e, limits=limits[e.label], inspected_sha256=recipe.inspected_sha256())
            if e.label in limits
            else e
            for e in manifest.executions
        ),
        calibration={**bundle.calibration(), **scores},
        frames=dict.fromkeys(limits, frames),
        sign_key=sign_key,
    )
    unchanged = [e.label for e in manifest.executions if e.label not in limits]
    named = sorted(suspicious, key=lambda path: -suspicious[path])
    return Calibrated(revised, limits, named, unchanged)


def _scores(engine: Engine, paths: Sequence[Path], on_scored: Callable[[int], None]) -> Floats:
    """Scores of images, ``[n, R]`` of R regions; the engine is closed."""
    regions = engine.manifest.recipe.inspected
    found = np.empty((len(paths), len(regions)), np.float32)
    # Frames are not compared with those of the last calibration, whose lamp may be another.
    limits = no_limits(regions)
    with closing(engine), Detector(engine, limits=limits, check_frames=False) as detector:
        for i, path in enumerate(paths):
            found[i] = detector.score(read_image(path), maps=False).region_scores[0]
            on_scored(i + 1)
    return found


def no_limits(regions: Sequence[str]) -> tuple[Limits, ...]:
    """Limits that no score reaches, for scores alone."""
    never = manual_threshold(float(np.finfo(np.float32).max), "scores alone are wanted")
    return tuple(Limits.single(never, region) for region in regions)
