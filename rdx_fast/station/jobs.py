"""Jobs: the bundles that the PLC can select, opened in advance."""

from __future__ import annotations

import hashlib
import logging
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from rdx_fast.bundle.signature import MANIFEST
from rdx_fast.bundle.versions import manifest_sha256
from rdx_fast.detector import Detector
from rdx_fast.errors import RdxError
from rdx_fast.station.handshake.codes import ErrorCode
from rdx_fast.station.settings import JobSettings

log = logging.getLogger(__name__)
Stamp = tuple[int, int, int]
_TRIES = 3  # to open a bundle that is replaced meanwhile
_CLOSE_S = 5.0  # longest wait for a bundle that is being opened
OpenDetector = Callable[[Path], Detector]


class JobError(RdxError):
    """A job cannot be inspected with: its bundle is missing or broken, or the camera does not fit.

    Args:
        message: what is wrong
        code: error code of its parts

    Attributes:
        code: error code of its parts
    """

    def __init__(self, message: str, code: ErrorCode = ErrorCode.JOB_BROKEN) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Job:
    """A job with its opened detector.

    Attributes:
        id: id of the job, 1 to 65535
        detector: the opened detector
        name: name of the bundle, from its manifest
        bundle_sha256: SHA-256 of ``manifest.json``, which in turn holds the checksums of the
            bundle's files
        settings: what the bundle states of frames, deadline and camera
    """

    id: int
    detector: Detector
    name: str
    bundle_sha256: str
    settings: JobSettings = field(default_factory=JobSettings)

    @classmethod
    def of(cls, job: int, detector: Detector) -> Job:
        """Make a job of a detector.

        Args:
            job: id of the job
            detector: the opened detector
        """
        digest = hashlib.sha256(detector.manifest.to_json().encode()).hexdigest()
        recipe = detector.manifest.recipe
        settings = JobSettings(
            crop=recipe.frame.crop,
            pixel_format=recipe.frame.pixel_format,
            levels=recipe.frame.levels,
            frame_size=recipe.frame.size,
            deadline_ms=recipe.deadline_ms,
            camera=dict(recipe.camera),
        )
        return cls(job, detector, detector.manifest.name, digest, settings)


class JobSource(Protocol):
    """Where the station gets detectors. Called from one thread at a time.

    Attributes:
        ids: ids of all jobs
    """

    ids: frozenset[int]

    @property
    def opened(self) -> dict[int, Job]:
        """The jobs that are open, by id. Any thread may read it."""

    def open_all(self) -> None:
        """Open every job.

        Raises:
            JobError: the first bundle that is missing or broken
        """

    def select(self, job: int, wait: bool = True) -> Job:
        """Return a job; open it if it is not open or if its bundle was replaced on disk.

        Args:
            job: id of the job, one of ``ids``
            wait: whether to wait until a replaced bundle is open; False to go on with the one
                that is open until ``prepare`` has opened the other

        Returns:
            The job with its detector.

        Raises:
            JobError: the bundle is missing or broken; a detector that was open stays open
        """

    @property
    def due(self) -> set[int]:
        """Jobs that ``select`` did not wait for and that are prepared now: select them again. Any
        thread may read it."""

    def prepare(self, again: bool = False) -> dict[int, JobError]:
        """Open what was replaced on disk, so that ``select`` need not. Any thread may call it.

        Args:
            again: whether to try again what could not be opened before; False to do so only once
                the bundle is replaced or its job is selected

        Returns:
            By job, why its replaced bundle cannot be opened.
        """

    def reopen(self, job: int) -> Job:
        """Open a new detector for a job whose detector hangs. The hanging one is not closed.

        Args:
            job: id of the job, one of ``ids``

        Returns:
            The job with its new detector.

        Raises:
            JobError: the bundle is missing or broken
        """

    def close(self) -> None:
        """Close every detector that this source opened."""


class Jobs:
    """Keeps the detectors of all jobs open.

    A bundle that is replaced on disk is used when its job is selected next. ``prepare`` opens it
    before that, so that no part waits for it. If a selection comes first and shall not wait, the
    bundle that is open goes on, and the job is ``due`` as soon as the other one is open.

    Args:
        bundles: job id, 1 to 65535, to path of the bundle
        open_detector: opens a bundle with the configured options
        on_opened: called with each job that was opened, before it is used for the first time; what
            it raises as an ``RdxError`` is a ``JobError``

    Raises:
        ValueError: there is no job, or an id is out of range
    """

    def __init__(
        self,
        bundles: Mapping[int, Path],
        open_detector: OpenDetector = Detector,
        on_opened: Callable[[Job], None] = lambda job: None,
    ) -> None:
        if not bundles:
            raise ValueError("no jobs given: wanted at least one bundle")
        if bad := [i for i in bundles if not 1 <= i <= 0xFFFF]:
            raise ValueError(f"job ids are {bad}: wanted 1 to 65535")
        self.ids = frozenset(bundles)
        self._bundles = dict(bundles)
        self._open_detector, self._on_opened = open_detector, on_opened
        self._opened: dict[int, tuple[Stamp, Job]] = {}
        self._prepared: dict[int, tuple[Stamp, Job | JobError]] = {}
        self._asked: dict[int, Stamp] = {}  # what a selection did not get
        # Of each job: held while its bundle is opened or taken.
        self._locks = {job: threading.Lock() for job in bundles}
        self._closed = False

    @property
    def opened(self) -> dict[int, Job]:
        """The jobs that are open, by id."""
        return {job: held for job, (_, held) in self._opened.copy().items()}

    def open_all(self) -> None:
        """Open every job: see ``JobSource.open_all``."""
        for job in sorted(self.ids):
            self.select(job)

    def select(self, job: int, wait: bool = True) -> Job:
        """Return a job, (re)opened where needed: see ``JobSource.select``."""
        stamp = _stamp(self._bundles[job])
        held = self._opened.get(job)
        if held is not None and held[0] == stamp:
            return held[1]
        if held is not None and not wait:
            return self._take_prepared(job, stamp) or held[1]
        with self._locks[job]:  # waits for the one that is being prepared
            return self._take(job, stamp, self._prepared.pop(job, None))

    @property
    def due(self) -> set[int]:
        """Jobs to select again: see ``JobSource.due``."""
        asked = self._asked.copy()
        return {job for job in asked if isinstance(self._prepared_as(job, asked[job]), Job)}

    def prepare(self, again: bool = False) -> dict[int, JobError]:
        """Open what was replaced on disk: see ``JobSource.prepare``."""
        failed = {}
        for job in list(self._opened):
            with self._locks[job]:
                self._prepare(job, again)
                prepared = self._prepared.get(job)
                if prepared is not None and isinstance(prepared[1], JobError):
                    failed[job] = prepared[1]
        return failed

    def reopen(self, job: int) -> Job:
        """Open a new detector for a job: see ``JobSource.reopen``."""
        # Without the lock: what is being prepared may hang as the detector does.
        self._opened.pop(job, None)
        return self._take(job, _stamp(self._bundles[job]), None)

    def _prepare(self, job: int, again: bool) -> None:
        try:
            stamp = _stamp(self._bundles[job])
        except JobError:
            return  # is told when the job is selected
        held, prepared = self._opened.get(job), self._prepared.get(job)
        wanted = held is not None and held[0] != stamp and not self._closed
        if wanted and prepared is not None and prepared[0] == stamp:
            if isinstance(prepared[1], Job) or not (again or self._asked.get(job) == stamp):
                return
        else:
            _close(self._prepared.pop(job, None))
        if not wanted:
            self._asked.pop(job, None)
            return
        try:
            self._prepared[job] = self._open(job)
        except JobError as error:
            log.error("job cannot change over", extra={"job": job, "detail": str(error)})
            self._prepared[job] = stamp, error
            self._asked.pop(job, None)  # is not tried again before it is asked for again

    def _prepared_as(self, job: int, stamp: Stamp) -> Job | JobError | None:
        prepared = self._prepared.get(job)
        return prepared[1] if prepared is not None and prepared[0] == stamp else None

    def _take_prepared(self, job: int, stamp: Stamp) -> Job | None:
        """As ``_take``, but open nothing: None if nothing is prepared yet."""
        if self._locks[job].acquire(blocking=False):  # else it is being prepared
            try:
                if isinstance(self._prepared_as(job, stamp), Job):
                    return self._take(job, stamp, self._prepared.pop(job))
            finally:
                self._locks[job].release()
        self._asked[job] = stamp
        if isinstance(error := self._prepared_as(job, stamp), JobError):
            raise JobError(str(error)) from error
        return None

    def _take(self, job: int, stamp: Stamp, prepared: tuple[Stamp, Job | JobError] | None) -> Job:
        """Make the bundle on disk the job's, by what was prepared if it is of that."""
        if prepared is not None and prepared[0] == stamp and isinstance(prepared[1], Job):
            opened = prepared[1]
        else:
            _close(prepared)
            stamp, opened = self._open(job)
        try:
            self._on_opened(opened)
        except (RdxError, ValueError, OSError) as error:
            opened.detector.close()
            raise JobError(f"job {job}: {error}") from error
        held = self._opened.get(job)
        self._opened[job] = stamp, opened
        self._asked.pop(job, None)
        _close(held)
        return opened

    def _open(self, job: int) -> tuple[Stamp, Job]:
        """Open the bundle on disk; anew if it is another one by then."""
        path = self._bundles[job]
        for _ in range(_TRIES):
            stamp = _stamp(path)
            opened = self._open_once(job)
            with suppress(RdxError):
                # A version that was released and taken back meanwhile left the stamp as it was.
                if (_stamp(path), manifest_sha256(path)) == (stamp, opened.bundle_sha256):
                    return stamp, opened
            opened.detector.close()
        raise JobError(f"job {job}: {path} was replaced each time while it was opened: try again")

    def _open_once(self, job: int) -> Job:
        try:
            detector = self._open_detector(self._bundles[job])
        except (RdxError, ValueError, OSError) as error:
            raise JobError(f"job {job}: {error}") from error
        try:
            detector.warmup()
            opened = Job.of(job, detector)
        except (RdxError, ValueError, OSError) as error:
            detector.close()
            raise JobError(f"job {job}: {error}") from error
        log.info("job opened", extra={"job": job, "engine": detector.description})
        return opened

    def close(self) -> None:
        """Close every open detector."""
        self._closed = True
        for job, lock in self._locks.items():
            waited = lock.acquire(timeout=_CLOSE_S)  # what is being opened may hang
            _close(self._opened.pop(job, None))
            _close(self._prepared.pop(job, None))
            if waited:
                lock.release()


def _close(opened: tuple[Stamp, Job | JobError] | None) -> None:
    if opened is not None and isinstance(opened[1], Job):
        opened[1].detector.close()


class OneDetector:
    """A ``JobSource`` with one job, number 1, for a detector that the caller opened and closes.

    Args:
        detector: the opened detector
    """

    ids = frozenset({1})

    def __init__(self, detector: Detector) -> None:
        self._job = Job.of(1, detector)

    @property
    def opened(self) -> dict[int, Job]:
        """The only job."""
        return {1: self._job}

    def open_all(self) -> None:
        """Warm up the detector. Raises ``JobError`` if it fails."""
        try:
            self._job.detector.warmup()
        except RdxError as error:
            raise JobError(f"job {self._job.id}: {error}") from error

    def select(self, job: int, wait: bool = True) -> Job:
        """Return the only job."""
        assert job in self.ids
        return self._job

    @property
    def due(self) -> set[int]:
        """None: nothing is replaced."""
        return set()

    def prepare(self, again: bool = False) -> dict[int, JobError]:
        """Nothing to prepare: the caller opened the detector."""
        return {}

    def reopen(self, job: int) -> Job:
        """Return the only job with the same detector."""
        return self.select(job)  # a Detector is thread-safe, and there is no other one

    def close(self) -> None:
        """Nothing to close: the caller closes the detector."""


def _stamp(path: Path) -> Stamp:
    """Identifies the version of a bundle by its manifest, which is the file written last."""
    try:
        found = (path / MANIFEST).stat()
    except OSError as error:
        raise JobError(f"{path}: no such bundle, or it is not readable: {error}") from error
    return found.st_ino, found.st_mtime_ns, found.st_size
