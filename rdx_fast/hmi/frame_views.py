"""How the frames of jobs are to be shown: what of them was inspected, and from black to white."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import NamedTuple

from rdx_fast.bundle.manifest import Manifest
from rdx_fast.bundle.manifest_file import parse_manifest
from rdx_fast.bundle.signature import MANIFEST
from rdx_fast.bundle.versions import versions_folder
from rdx_fast.errors import BundleError
from rdx_fast.kernels.resize_normalize import Crop, Levels
from rdx_fast.recipe.recipe import FrameSpec
from rdx_fast.station.config import StationFile

_REMEMBERED = 256  # bundles that a station had


class FrameView(NamedTuple):
    """How a frame is shown.

    Attributes:
        crop: top, left, height and width in frame pixels of what the anomaly map shows; None for
            all
        levels: grey levels of black and white of frames of 10, 12 or 16 bits; None for 8 bits, or
            where they are not known
    """

    crop: Crop | None = None
    levels: Levels | None = None


class FrameViews:
    """Of a station's jobs. Safe to call from several threads.

    Args:
        file: the station's configuration
    """

    def __init__(self, file: StationFile) -> None:
        self._station, self._bundles = file.station, file.bundles
        self._found: dict[tuple[int, str], FrameSpec] = {}
        # Likewise of bundles that are there no more, and which folders they were looked for in.
        self._missed: dict[tuple[int, str], tuple[tuple[int, ...], FrameSpec]] = {}

    def of(self, job: int, bundle_sha256: str | None) -> FrameView:
        """How a job's frames are shown.

        Args:
            job: id of the job; one that is not configured has the station's settings
            bundle_sha256: of the manifest of the bundle that scored the frame. It is looked for
                beside the job's bundle too; without one, the job's bundle of now counts
        """
        own, stated = self._station.jobs.get(job), self._frame(job, bundle_sha256 or "")
        crop = (own and own.crop) or stated.crop or self._station.crop
        levels = (own and own.levels) or stated.levels or self._station.levels
        return FrameView(crop, levels)

    def _frame(self, job: int, sha256: str) -> FrameSpec:
        if (job, sha256) in self._found:
            return self._found[job, sha256]
        stamp = self._stamp(job)
        missed = self._missed.get((job, sha256))
        if missed is not None and missed[0] == stamp:
            return missed[1]
        frame, is_it = self._read(job, sha256)
        for remembered in (self._found, self._missed):
            if len(remembered) >= _REMEMBERED:
                remembered.clear()
        if is_it:
            self._found[job, sha256] = frame
        else:
            self._missed[job, sha256] = stamp, frame
        return frame

    def _stamp(self, job: int) -> tuple[int, ...]:
        """Changes with the job's bundle and with its folder of versions."""
        if job not in self._bundles:
            return ()
        bundle = self._bundles[job]
        stamp = []
        for path in (bundle / MANIFEST, versions_folder(bundle)):
            try:
                found = path.stat()
                stamp += [found.st_ino, found.st_mtime_ns]
            except OSError:
                stamp += [0, 0]
        return tuple(stamp)

    def _read(self, job: int, sha256: str) -> tuple[FrameSpec, bool]:
        """Of the bundle with this manifest, else of the job's; and whether it is this one."""
        first: FrameSpec | None = None
        for manifest in self._manifests(job):
            if hashlib.sha256(manifest.to_json().encode()).hexdigest() == sha256:
                return manifest.recipe.frame, True
            first = first or manifest.recipe.frame
        return first or FrameSpec(), False

    def _manifests(self, job: int) -> Iterator[Manifest]:
        """Of the job's bundle, then of its other versions; without those that cannot be read."""
        if job not in self._bundles:
            return
        bundle = self._bundles[job]
        for folder in (bundle, *sorted(versions_folder(bundle).glob("*"))):
            try:
                text = (folder / MANIFEST).read_text(encoding="utf-8")
                yield parse_manifest(text, str(folder))
            except (OSError, UnicodeDecodeError, BundleError):
                continue
