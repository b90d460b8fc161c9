"""Jobs: the bundles that the PLC may choose among, opened ahead of need."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from rdx_fast.bundle import MANIFEST
from rdx_fast.detector import Detector
from rdx_fast.errors import RdxError

log = logging.getLogger(__name__)
Stamp = tuple[int, int, int]
OpenDetector = Callable[[Path], Detector]


class JobError(RdxError):
    """A job's bundle is missing or broken."""


@dataclass(frozen=True, slots=True)
class Job:
    """A detector ready to score. ``bundle_sha256``: of ``manifest.json``, which in turn holds the
    checksums of the bundle's files."""

    id: int
    detector: Detector
    name: str
    bundle_sha256: str

    @classmethod
    def of(cls, job: int, detector: Detector) -> Job:
        digest = hashlib.sha256(detector.manifest.to_json().encode()).hexdigest()
        return cls(job, detector, detector.manifest.name, digest)


class JobSource(Protocol):
    """What the station asks for detectors; by one thread at a time."""

    ids: frozenset[int]

    def open_all(self) -> None:
        """Open every job. Raises ``JobError`` for the first that is missing or broken."""

    def select(self, job: int) -> Job:
        """The job, opened if it is not, or is another one by now on disk.

        Raises ``JobError``; what was open before stays so.
        """

    def reopen(self, job: int) -> Job:
        """A new detector in place of one that hangs, which is left to itself."""

    def close(self) -> None:
        """Close every detector that was opened here."""


class Jobs:
    """Every job's detector, held open. ``bundles``: job id to bundle; ``open_detector``: opens one
    with the options that the configuration has. A bundle replaced on disk is opened anew when its
    job is next selected."""

    def __init__(self, bundles: Mapping[int, Path], open_detector: OpenDetector = Detector) -> None:
        if not bundles:
            raise ValueError("no job is given: wanted at least one bundle")
        if bad := [i for i in bundles if not 1 <= i <= 0xFFFF]:
            raise ValueError(f"job ids are {bad}: wanted 1 to 65535")
        self.ids = frozenset(bundles)
        self._bundles = dict(bundles)
        self._open_detector = open_detector
        self._opened: dict[int, tuple[Stamp, Job]] = {}

    def open_all(self) -> None:
        for job in sorted(self.ids):
            self.select(job)

    def select(self, job: int) -> Job:
        path = self._bundles[job]
        stamp = _stamp(path)
        held = self._opened.get(job)
        if held is not None and held[0] == stamp:
            return held[1]
        opened = self._open(job, path)
        self._opened[job] = stamp, opened
        if held is not None:
            held[1].detector.close()
        return opened

    def reopen(self, job: int) -> Job:
        self._opened.pop(job, None)
        return self.select(job)

    def _open(self, job: int, path: Path) -> Job:
        try:
            detector = self._open_detector(path)
        except (RdxError, ValueError, OSError) as error:
            raise JobError(f"job {job}: {error}") from error
        try:
            detector.warmup()
        except RdxError as error:
            detector.close()
            raise JobError(f"job {job}: {error}") from error
        log.info("job opened", extra={"job": job, "engine": detector.description})
        return Job.of(job, detector)

    def close(self) -> None:
        for _, job in self._opened.values():
            job.detector.close()
        self._opened.clear()


class OneDetector:
    """The same for a detector that its owner opened: job 1, and no bundle to look for."""

    ids = frozenset({1})

    def __init__(self, detector: Detector) -> None:
        self._job = Job.of(1, detector)

    def open_all(self) -> None:
        self._job.detector.warmup()

    def select(self, job: int) -> Job:
        assert job in self.ids
        return self._job

    def reopen(self, job: int) -> Job:
        return self.select(job)  # safe to call from several threads, and all that there is

    def close(self) -> None:
        pass


def _stamp(path: Path) -> Stamp:
    """Changes with the manifest, which is written last: a bundle is as old as it."""
    try:
        found = (path / MANIFEST).stat()
    except OSError as error:
        raise JobError(f"{path}: no such bundle, or it cannot be read: {error}") from error
    return found.st_ino, found.st_mtime_ns, found.st_size
