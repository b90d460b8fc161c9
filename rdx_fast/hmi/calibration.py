"""Calibration of a candidate in a process of its own, which yields to all others."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from rdx_fast.bundle.bundle import open_bundle
from rdx_fast.errors import CalibrationError, RdxError
from rdx_fast.limits.promise import Wish
from rdx_fast.recalibrate import calibrate_bundle

_THREADS = 1  # the others are the station's


@dataclass(frozen=True, slots=True)
class Calibration:
    """What is calibrated, see ``calibrate_bundle``.

    Attributes:
        bundle: folder of the candidate, which is changed
        good: images of good parts that were not trained on
        wish: what the limits are for
        user: named in the history
        backend: what executes the bundle
        precision: the only executed precision to calibrate; None for all
        public_key: file of a key that must have signed the bundle; None for any bundle
        sign_key: file of the private key that signs it; None leaves it unsigned
    """

    bundle: Path
    good: tuple[Path, ...]
    wish: Wish
    user: str
    backend: str = "auto"
    precision: str | None = None
    public_key: Path | None = None
    sign_key: Path | None = None


def calibrate_apart(wanted: Calibration, on_progress: Callable[[float], None]) -> None:
    """Calibrate in a process of the lowest priority, and wait for its end.

    Args:
        wanted: what is calibrated
        on_progress: called with the share that is done, 0 to 1

    Raises:
        CalibrationError: it failed; the message says why
    """
    start = multiprocessing.get_context("spawn")  # threads run here, which a fork would not copy
    answers, sender = start.Pipe(duplex=False)
    process = start.Process(target=_calibrate, args=(wanted, sender), daemon=True)
    process.start()
    sender.close()
    error: str | None = "the process that calibrates ended: the system may lack memory"
    try:
        while isinstance(answer := answers.recv(), float):
            on_progress(answer)
        error = answer
    except EOFError:
        pass
    finally:
        answers.close()
        process.join()
    if error is not None:
        raise CalibrationError(error)


def _calibrate(wanted: Calibration, answers: Connection) -> None:
    """Sends shares that are done, and at last None or the error in words."""
    if hasattr(os, "nice"):
        os.nice(19)
    try:
        calibrate_bundle(
            open_bundle(wanted.bundle, wanted.public_key),
            wanted.good,
            wanted.wish,
            user=wanted.user,
            backend=wanted.backend,
            sign_key=wanted.sign_key,
            precision=wanted.precision,
            threads=_THREADS,
            on_image=lambda done, of: answers.send(done / of),
        )
    except (RdxError, ValueError, OSError) as error:
        answers.send(str(error))
    else:
        answers.send(None)
