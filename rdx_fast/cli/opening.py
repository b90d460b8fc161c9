"""How commands open a Detector."""

from __future__ import annotations

from pathlib import Path

from rdx_fast.bundle import open_bundle
from rdx_fast.cli.progress import show_plan
from rdx_fast.detector import Detector
from rdx_fast.engines import open_engine


def open_detector(
    bundle: Path, backend: str, threads: int | None, precision: str | None
) -> Detector:
    """A Detector; if a plan has to be built first, that shows."""
    with show_plan() as on_progress:
        engine = open_engine(
            open_bundle(bundle), backend, threads, on_progress=on_progress, precision=precision
        )
    return Detector(engine)
