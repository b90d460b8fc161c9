"""The station: combines handshake, camera, detector and records, and runs their threads."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rdx_fast.detector import Detector
from rdx_fast.errors import RdxError
from rdx_fast.station.cameras.source import FrameSource
from rdx_fast.station.config import StationConfig
from rdx_fast.station.drift import DriftWatch
from rdx_fast.station.handshake.handshake import Handshake
from rdx_fast.station.handshake.inspection import Inspection
from rdx_fast.station.handshake.signals import (
    Command,
    Controls,
    GiveUp,
    Inspect,
    Publish,
    SelectJob,
    Status,
    Taken,
    WriteRecord,
)
from rdx_fast.station.inspector import Capture, Inspector
from rdx_fast.station.jobs import Job, JobError, JobSource, OneDetector
from rdx_fast.station.records.recorder import Recorder
from rdx_fast.station.records.store import InspectionRecord
from rdx_fast.station.settings import JobSettings
from rdx_fast.station.worker import Worker

log = logging.getLogger(__name__)

OnStatus = Callable[[Status], None]
OnResult = Callable[[InspectionRecord], None]


class StationError(RdxError):
    """The station cannot do what was asked in its present state."""


class Station:
    """Inspects a part at each trigger and answers with a result.

    A context manager: online inside the ``with``. Every method may be called from any thread.

    A PLC server (Modbus, OPC UA) calls ``write`` with the controls that the PLC wrote and lets it
    read ``status``. A caller without a bit handshake uses ``inspect``, or ``trigger`` and
    ``acknowledge``.

    Args:
        detector: an opened ``Detector``, which becomes job 1 and is not closed by the station, or
            ``Jobs``, which the station closes
        source: the camera; the caller closes it
        config: handshake, frames, records and drift; None for the defaults
        first_job: id of the job that is active at the start; None for the lowest id
        on_status: as for ``listen``
        on_result: as for ``listen``
        prepare_bundles: whether a bundle that is replaced on disk is opened at once, in a thread of
            its own, so that no part waits for it when its job is selected next. Until then both
            take memory. If the job is selected before the bundle is open, the station goes on with
            the one before, and changes over as soon as it is
        wall_clock: returns seconds since 1970; used for the records only, all other times are of a
            monotonic clock

    Attributes:
        config: as given
        drift: watches the parts for drift; None where the configuration has it off
        latest: the inspection that was shown last, with its capture; None before the first

    Raises:
        ConfigError: the settings of jobs do not fit the camera or each other
        JobError: a bundle is missing or broken, or the camera does not fit a job
        RecordError: the records cannot be opened
    """

    def __init__(
        self,
        detector: Detector | JobSource,
        source: FrameSource,
        config: StationConfig | None = None,
        *,
        first_job: int | None = None,
        on_status: OnStatus | None = None,
        on_result: OnResult | None = None,
        prepare_bundles: bool = False,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self.config = config or StationConfig()
        records = self.config.records
        self._jobs: JobSource = (
            OneDetector(detector) if isinstance(detector, Detector) else detector
        )
        self._prepare = prepare_bundles
        self._bundles: Worker[None] | None = None
        self._first_job = first_job if first_job is not None else min(self._jobs.ids)
        with_pictures = records is not None and records.pictures_mb > 0
        self._inspector = Inspector(
            self._jobs, source, self.config, with_pictures, wait=not prepare_bundles
        )
        self._jobs.open_all()
        settings = self._inspector.start(self._first_job)
        self._recorder = Recorder(records, wall_clock, self._recorded, self._records_failing)
        self.drift: DriftWatch | None = None
        if self.config.drift is not None:
            self.drift = DriftWatch(self.config.drift, self._drifted, self._recorder.note)
        self.latest: tuple[Inspection, Capture] | None = None
        self._handshake = Handshake(
            self.config.handshake,
            self._jobs.ids,
            self._recorder.next_id,
            {job: s.deadline_ms for job, s in settings.items() if s.deadline_ms is not None},
        )
        self._on_status: list[OnStatus] = []
        self._on_result: list[OnResult] = []
        self.listen(on_status, on_result)
        # Guards the handshake.
        self._lock = threading.RLock()
        self._sooner = threading.Condition(self._lock)  # the timer must wake up earlier
        self._shown = threading.Condition(self._lock)  # a result is shown
        self._timer_until = 0.0
        self._running = False
        self._last_shown = 0
        self._drift_shown = False

    def listen(self, on_status: OnStatus | None = None, on_result: OnResult | None = None) -> None:
        """Add callbacks. Call this before the station is started.

        Args:
            on_status: called with each new status, in order, in the thread that caused it; must
                return at once and must not call the station
            on_result: called with each result when it is shown to the PLC, in a separate thread
        """
        if on_status is not None:
            self._on_status.append(on_status)
        if on_result is not None:
            self._on_result.append(on_result)

    # Calls of the PLC

    @property
    def status(self) -> Status:
        """The status that the PLC reads now."""
        return self._handshake.status

    @property
    def controls(self) -> Controls | None:
        """The controls that the PLC wrote last; None before the first."""
        return self._handshake.controls

    @property
    def opened_jobs(self) -> dict[int, Job]:
        """The jobs, by id, with the bundles that are open now."""
        return self._jobs.opened

    def write(self, controls: Controls) -> None:
        """Pass on the controls that the PLC has written.

        Args:
            controls: all control bits and values, as they are after the write

        Raises:
            StationError: the station is not running
        """
        with self._in_turn():
            self._do(self._handshake.write(controls, time.monotonic()))

    def trigger(self, part_id: int, deadline_ms: int = 0, job: int = 0) -> int:
        """Start the inspection of a part and return at once; ``status`` shows the result later.

        Args:
            part_id: the part's id, 0 to 65535, repeated in its result
            deadline_ms: time allowed from trigger to result in ms, 0 to 65535; 0 for the job's, or
                else the station's
            job: job to inspect with, 0 to 65535; 0 for the active one

        Returns:
            The inspection's id, which is also the key of its record.

        Raises:
            ValueError: an argument is out of range
            StationError: the station is not running, or the result queue is full until a result is
                acknowledged; the part then has no answer
        """
        for name, value in (("part_id", part_id), ("deadline_ms", deadline_ms), ("job", job)):
            if not 0 <= value <= 0xFFFF:
                raise ValueError(f"{name} is {value}, wanted 0 to 65535")
        with self._in_turn():
            inspection_id = self._handshake.next_id
            commands = self._handshake.trigger(part_id, deadline_ms, job, time.monotonic())
            self._do(commands)
        if any(isinstance(c, WriteRecord) and not c.shown for c in commands):
            raise StationError(
                f"part {part_id} has no answer: {self.config.handshake.queue} results wait to be "
                f"acknowledged: acknowledge one first"
            )
        return inspection_id

    def acknowledge(self) -> None:
        """Confirm that the shown result was read, so that the next one can be shown.

        Raises:
            StationError: the station is not running
        """
        with self._in_turn():
            self._do(self._handshake.acknowledge(time.monotonic()))

    def reset(self) -> None:
        """Clear the flags and the alarm, and load a failed job again.

        Raises:
            StationError: the station is not running
        """
        with self._in_turn():
            self._do(self._handshake.reset(time.monotonic()))

    def select_job(self, job: int) -> None:
        """Change the job, as the PLC does with its ``job`` register.

        Args:
            job: id of the job

        Raises:
            StationError: the station is not running
        """
        with self._in_turn():
            self._do(self._handshake.select_job(job, time.monotonic()))

    def change_over(self, job: int) -> None:
        """As ``select_job``, but bundles that were replaced on disk are opened before, in the
        calling thread, so that no part waits for them.

        Args:
            job: id of the job

        Raises:
            StationError: the station is not running, or the job's replaced bundle cannot be opened:
                the one that is open goes on
        """
        if (error := self._jobs.prepare(again=True).get(job)) is not None:
            raise StationError(f"the job stays as it is: {error}") from error
        self.select_job(job)

    def inspect(self, part_id: int, deadline_ms: int = 0, job: int = 0) -> InspectionRecord:
        """Trigger, wait for the result and acknowledge it.

        For callers that do not also use ``write`` or ``acknowledge``.

        Args:
            part_id: as for ``trigger``
            deadline_ms: as for ``trigger``
            job: as for ``trigger``

        Returns:
            The inspection's record. The part is good only if ``result == "OK"``.

        Raises:
            ValueError: as for ``trigger``
            StationError: as for ``trigger``, or no result was shown in time, which happens only
                if an earlier result of another caller was not acknowledged
        """
        with self._lock:
            longest_ms = self._handshake.allowed_ms(deadline_ms, job)
            longest_ms += self.config.handshake.record_ms
            inspection_id = self.trigger(part_id, deadline_ms, job)
            if not self._shown.wait_for(
                lambda: self._is_shown(inspection_id), 2 * longest_ms / 1000 + 1
            ):
                raise StationError(
                    f"part {part_id}: no result in time: acknowledge the earlier result first"
                )
            inspection = self.status.result
            assert inspection is not None
            record = self._recorder.record_of(inspection)
            self.acknowledge()
        return record

    @contextmanager
    def _in_turn(self) -> Iterator[None]:
        """Hold the lock; raise ``StationError`` if the station is not running."""
        with self._lock:
            if not self._running:
                raise StationError("the station is not running: call start() or use 'with'")
            yield

    def _is_shown(self, inspection_id: int) -> bool:
        status = self.status
        shown = status.result
        return status.valid and shown is not None and shown.inspection_id == inspection_id

    # Start and stop

    def start(self) -> None:
        """Start the threads and go online with the first job."""
        self._inspections = self._new_inspections()
        self._results = Worker[InspectionRecord]("results", self._tell)
        if self._prepare:
            self._bundles = Worker[None]("bundles", lambda _: None, idle=self._prepare_replaced)
        self._recorder.start()
        if self.drift is not None:
            self.drift.start()
        self._running = True
        with self._lock:
            self._do(self._handshake.go_online(self._first_job, time.monotonic()))
        self._timer = threading.Thread(target=self._tick, name="timer", daemon=True)
        self._timer.start()
        log.info("online", extra={"job": self._first_job})

    def stop(self) -> None:
        """Go offline, write the records and end the threads.

        An inspection in progress gets the result ERROR. Without effect if the station is stopped.
        """
        if not self._running:
            return
        with self._lock:
            self._do(self._handshake.go_offline(time.monotonic()))
            self._running = False
            self._sooner.notify_all()
        self._timer.join()
        self._inspections.stop()
        if self._bundles is not None:
            self._bundles.stop()
        if self.drift is not None:
            self.drift.stop()
        self._recorder.stop()
        self._results.stop()
        self._jobs.close()
        log.info("offline")

    def __enter__(self) -> Station:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    # Commands of the handshake

    def _do(self, commands: list[Command]) -> None:
        for command in commands:
            match command:
                case Publish(status):
                    self._show(status)
                case Inspect() | SelectJob():
                    self._inspections.put(command)
                case WriteRecord() | Taken():
                    self._recorder.put(command)
                case GiveUp(inspection_id):
                    log.error("inspection hangs", extra={"inspection_id": inspection_id})
                    self._inspector = self._inspector.successor()
                    self._inspections = self._new_inspections()
        if self._handshake.next_tick() < self._timer_until:
            self._sooner.notify()

    def _show(self, status: Status) -> None:
        for callback in self._on_status:
            try:
                callback(status)
            except Exception:
                log.exception("a callback for the status failed")
        shown = status.result
        if status.valid and shown is not None and shown.inspection_id != self._last_shown:
            self._last_shown = shown.inspection_id
            self._results.put(self._recorder.record_of(shown))
            self._shown.notify_all()
            capture = self._recorder.capture_of(shown.inspection_id)
            self.latest = shown, capture or Capture()
            if self.drift is not None and capture is not None:
                self.drift.put(shown, capture)
        if self.drift is not None and self._drift_shown and not status.drift:
            self.drift.acknowledge()
        self._drift_shown = status.drift

    def _tick(self) -> None:
        with self._lock:
            while self._running:
                now = time.monotonic()
                self._timer_until = self._handshake.next_tick()
                if self._timer_until > now:
                    self._sooner.wait(self._timer_until - now)
                self._timer_until = 0.0
                self._do(self._handshake.tick(time.monotonic()))

    # Inspections

    def _new_inspections(self) -> Worker[Inspect | SelectJob]:
        inspector = self._inspector

        def handle(command: Inspect | SelectJob) -> None:
            if inspector is not self._inspector:
                return  # it hung and was replaced by its successor
            if isinstance(command, SelectJob):
                self._select(inspector, command.job)
            else:
                outcome, capture = inspector.inspect(command.inspection)
                inspection_id = command.inspection.inspection_id
                with self._lock:
                    if inspector is self._inspector:
                        self._recorder.remember(inspection_id, capture)
                        now = time.monotonic()
                        self._do(self._handshake.finished(inspection_id, outcome, now))

        return Worker("inspections", handle)

    def _select(self, inspector: Inspector, job: int) -> None:
        found: JobSettings | JobError
        try:
            found = inspector.select(job)
        except JobError as error:
            log.error("job failed", extra={"job": job, "detail": str(error)})
            found = error
        else:
            log.info("job selected", extra={"job": job})
        with self._lock:
            if inspector is not self._inspector:
                return
            now = time.monotonic()
            if isinstance(found, JobError):
                self._do(self._handshake.job_failed(job, found.code, str(found), now))
            else:
                self._do(self._handshake.job_selected(job, now, found.deadline_ms))

    def _prepare_replaced(self) -> None:
        self._jobs.prepare()
        with self._lock:
            job = self._handshake.requested_job
            if job in self._jobs.due:  # any other job changes over when it is selected next
                self._do(self._handshake.select_job(job, time.monotonic()))

    def _recorded(self, inspection: Inspection, succeeded: bool) -> None:
        with self._lock:
            done = (inspection.inspection_id, inspection.revision, succeeded)
            self._do(self._handshake.recorded(*done, time.monotonic()))

    def _records_failing(self, failing: bool) -> None:
        with self._lock:
            self._do(self._handshake.records_failing(failing, time.monotonic()))

    def _drifted(self, cause: str) -> None:
        with self._lock:
            self._do(self._handshake.drifted(cause, time.monotonic()))

    def _tell(self, record: InspectionRecord) -> None:
        for callback in self._on_result:
            callback(record)
