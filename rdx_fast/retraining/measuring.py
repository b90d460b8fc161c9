"""Scores a candidate and the released bundle on all that they are compared by."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

from rdx_fast.bundle.bundle import Bundle
from rdx_fast.datasets import find_dataset
from rdx_fast.detector import Detector
from rdx_fast.errors import BundleError
from rdx_fast.preprocess import FrameOptions
from rdx_fast.retraining.comparing import LabelledParts, compare_on_parts, compare_on_set
from rdx_fast.retraining.comparison import Compared
from rdx_fast.retraining.confirmed import Confirmed
from rdx_fast.retraining.hold_out import is_for_limits
from rdx_fast.retraining.watch import Watch
from rdx_fast.station.config import StationFile


def sample_of(confirmed: Confirmed, known: Collection[int]) -> set[int]:
    """Inspections by which bundles are compared: labelled parts of the random sample that neither
    network was trained on and neither bundle's limits come from.

    Good ones only of what is held out for this, whatever else is not known: so the good parts are
    drawn by chance alone. There are none unless the sample is labelled: people label first what the
    released bundle rejected.
    """
    if not confirmed.sample.complete:
        return set()
    return {
        frame.inspection_id
        for frame in confirmed.frames
        if frame.sampled
        and frame.inspection_id not in known
        and (frame.bad or (frame.held_out and not is_for_limits(frame.first)))
    }


class Measured(NamedTuple):
    """Both bundles on both sets, and the precisions in which they were executed, the old first."""

    frozen: Compared
    parts: LabelledParts
    executed: tuple[str, str]


def measure(
    station: StationFile,
    released: Bundle,
    candidate: Bundle,
    confirmed: Confirmed,
    trained_on: Collection[int],
    sample: Collection[int],
    options: FrameOptions,
    frozen: Path,
    watch: Watch,
) -> Measured:
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
        return Measured(
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
                sample,
                given,
                lambda done, total: watch.images("labelled parts", done, total),
            ),
            (old.engine.execution.executed, new.engine.execution.executed),
        )
