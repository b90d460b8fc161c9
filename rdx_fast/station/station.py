"""The station: handshake, camera, detector and records put together, with threads around them."""

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
from rdx_fast.station.handshake.codes import ErrorCode
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
from rdx_fast.station.inspector import Inspector
from rdx_fast.station.jobs import JobError, JobSource, OneDetector
from rdx_fast.station.records.recorder import Recorder
from rdx_fast.station.records.store import InspectionRecord
from rdx_fast.station.worker import Worker

log = logging.getLogger(__name__)

OnStatus = Callable[[Status], None]
OnResult = Callable[[InspectionRecord], None]


class StationError(RdxError):
    """The station was asked for something that it cannot do now."""


class Station:
    """Answers triggers. A context manager; every method may be called by any thread.

    ``detector``: an opened ``Detector``, which stays the caller's and is job 1, or ``Jobs``.
    ``source``: the camera; the caller closes it. ``wall_clock``: seconds since 1970, for records
    alone; all else goes by a monotonic clock.

    Whoever speaks to the PLC calls ``write`` with what the PLC wrote and shows it ``status``; or,
    without a handshake of bits, calls ``inspect``, or ``trigger`` and ``acknowledge``.

    Raises ``JobError`` (a bundle is missing or broken), ``RecordError`` (the records cannot be
    opened), ``ValueError`` (the camera's frames are not of the size wanted).
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
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self.config = config or StationConfig()
        records = self.config.records
        self._jobs: JobSource = (
            OneDetector(detector) if isinstance(detector, Detector) else detector
        )
        self._first_job = first_job if first_job is not None else min(self._jobs.ids)
        with_pictures = records is not None and records.pictures_mb > 0
        self._inspector = Inspector(self._jobs, source, self.config, with_pictures)
        self._jobs.open_all()
        self._inspector.select(self._first_job)
        self._recorder = Recorder(records, wall_clock, self._recorded, self._records_failing)
        self._handshake = Handshake(self.config.handshake, self._jobs.ids, self._recorder.next_id)
        self._on_status: list[OnStatus] = []
        self._on_result: list[OnResult] = []
        self.listen(on_status, on_result)
        # Guards the handshake.
        self._lock = threading.RLock()
        self._sooner = threading.Condition(self._lock)  # the timer is wanted earlier
        self._shown = threading.Condition(self._lock)  # a result is
        self._timer_until = 0.0
        self._running = False
        self._last_shown = 0

    def listen(self, on_status: OnStatus | None = None, on_result: OnResult | None = None) -> None:
        """Add callbacks, before the start. ``on_status``: each new status, in order, by the thread
        that made it: must return at once and call nothing of the station. ``on_result``: each
        result as it is shown, by a thread of its own."""
        if on_status is not None:
            self._on_status.append(on_status)
        if on_result is not None:
            self._on_result.append(on_result)

    # What the PLC does

    @property
    def status(self) -> Status:
        """What the PLC is to read now."""
        return self._handshake.status

    def write(self, controls: Controls) -> None:
        """The PLC has written its controls."""
        with self._in_turn():
            self._do(self._handshake.write(controls, time.monotonic()))

    def trigger(self, part_id: int, deadline_ms: int = 0, job: int = 0) -> int:
        """Inspect a part; the result comes with ``status``. Returns the inspection's id.

        ``part_id``, ``deadline_ms`` (0: the configuration's), ``job`` (0: the one that is active):
        0 to 65535. Raises ``ValueError`` for others, ``StationError`` if there is no room for one
        more result until one is acknowledged; the part then has no answer."""
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
                f"acknowledged"
            )
        return inspection_id

    def acknowledge(self) -> None:
        """The result shown has been taken; the next one may be shown."""
        with self._in_turn():
            self._do(self._handshake.acknowledge(time.monotonic()))

    def reset(self) -> None:
        """Clear flags and alarm; a job that failed is tried again."""
        with self._in_turn():
            self._do(self._handshake.reset(time.monotonic()))

    def select_job(self, job: int) -> None:
        """Ask for another job, as the PLC does by its register."""
        with self._in_turn():
            self._do(self._handshake.select_job(job, time.monotonic()))

    def inspect(self, part_id: int, deadline_ms: int = 0, job: int = 0) -> InspectionRecord:
        """Trigger, wait for the result and acknowledge it. Only ``result == "OK"`` is a good part.

        For callers that do not also use ``write`` or ``acknowledge``. Raises as ``trigger`` does,
        and ``StationError`` if no result is shown in time, which only someone else's can cause."""
        times = self.config.handshake
        longest_s = (deadline_ms or times.deadline_ms) + times.record_ms
        with self._lock:
            inspection_id = self.trigger(part_id, deadline_ms, job)
            if not self._shown.wait_for(
                lambda: self._is_shown(inspection_id), 2 * longest_s / 1000 + 1
            ):
                raise StationError(
                    f"part {part_id}: no result: an earlier one waits to be acknowledged"
                )
            inspection = self.status.result
            assert inspection is not None
            record = self._recorder.record_of(inspection)
            self.acknowledge()
        return record

    @contextmanager
    def _in_turn(self) -> Iterator[None]:
        """One at a time, while the station runs."""
        with self._lock:
            if not self._running:
                raise StationError("the station is not running: call start, or use it in a with")
            yield

    def _is_shown(self, inspection_id: int) -> bool:
        status = self.status
        shown = status.result
        return status.valid and shown is not None and shown.inspection_id == inspection_id

    # Life

    def start(self) -> None:
        """Go online."""
        self._inspections = self._new_inspections()
        self._results = Worker[InspectionRecord]("results", self._tell)
        self._recorder.start()
        self._running = True
        with self._lock:
            self._do(self._handshake.go_online(self._first_job, time.monotonic()))
        self._timer = threading.Thread(target=self._tick, name="timer", daemon=True)
        self._timer.start()
        log.info("online", extra={"job": self._first_job})

    def stop(self) -> None:
        """Go offline: what is being inspected becomes an error, and the records are written."""
        if not self._running:
            return
        with self._lock:
            self._do(self._handshake.go_offline(time.monotonic()))
            self._running = False
            self._sooner.notify_all()
        self._timer.join()
        self._inspections.stop()
        self._recorder.stop()
        self._results.stop()
        self._jobs.close()
        log.info("offline")

    def __enter__(self) -> Station:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    # What the handshake wants done

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
                return  # it hung, and has a successor
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
        try:
            inspector.select(job)
        except JobError as error:
            log.error("job failed", extra={"job": job, "detail": str(error)})
            failure: str | None = str(error)
        else:
            log.info("job selected", extra={"job": job})
            failure = None
        with self._lock:
            if inspector is not self._inspector:
                return
            now = time.monotonic()
            if failure is None:
                self._do(self._handshake.job_selected(job, now))
            else:
                code = ErrorCode.JOB_BROKEN
                self._do(self._handshake.job_failed(job, code, failure, now))

    def _recorded(self, inspection: Inspection, succeeded: bool) -> None:
        with self._lock:
            done = (inspection.inspection_id, inspection.revision, succeeded)
            self._do(self._handshake.recorded(*done, time.monotonic()))

    def _records_failing(self, failing: bool) -> None:
        with self._lock:
            self._do(self._handshake.records_failing(failing, time.monotonic()))

    def _tell(self, record: InspectionRecord) -> None:
        for callback in self._on_result:
            callback(record)
