"""The station: handshake, camera, detector and records put together, with threads around them."""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from rdx_fast.detector import Detector
from rdx_fast.errors import RdxError
from rdx_fast.line.cameras import FrameSource
from rdx_fast.line.config import StationConfig
from rdx_fast.line.handshake import (
    Command,
    Controls,
    ErrorCode,
    GiveUp,
    Handshake,
    Inspect,
    Publish,
    Record,
    ResultCode,
    SelectJob,
    Status,
    Taken,
    Verdict,
)
from rdx_fast.line.inspector import Facts, Inspector
from rdx_fast.line.jobs import JobError, JobSource, OneDetector
from rdx_fast.line.pictures import PictureStore
from rdx_fast.line.records import InspectionRecord, RecordError, RecordWriter
from rdx_fast.line.worker import Worker

log = logging.getLogger(__name__)

OnStatus = Callable[[Status], None]
OnResult = Callable[[InspectionRecord], None]
# Inspections whose facts are remembered: more than can be on their way to the PLC.
_REMEMBERED = 256
_PICTURES_WAITING = 32


class StationError(RdxError):
    """The station was asked for something that it cannot do now."""


@dataclass(frozen=True, slots=True)
class _Picture:
    """A picture was kept."""

    inspection_id: int
    name: str


class Station:
    """Answers triggers with verdicts. A context manager; every method may be called by any thread.

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
        self._wall_clock = wall_clock
        self._first_job = first_job if first_job is not None else min(self._jobs.ids)
        with_pictures = records is not None and records.pictures_mb > 0
        self._inspector = Inspector(self._jobs, source, self.config, with_pictures)
        self._jobs.open_all()
        self._inspector.select(self._first_job)
        self._writer = None if records is None else RecordWriter(records.path, records.sync)
        self._pictures = None
        if records is not None and with_pictures:
            self._pictures = PictureStore(records.pictures, records.pictures_mb)
        next_id = 1 if self._writer is None else self._writer.next_id
        self._handshake = Handshake(self.config.rules, self._jobs.ids, next_id)
        self._on_status: list[OnStatus] = []
        self._on_result: list[OnResult] = []
        self.listen(on_status, on_result)
        self._facts: OrderedDict[int, Facts] = OrderedDict()
        # Guards the handshake.
        self._lock = threading.RLock()
        self._sooner = threading.Condition(self._lock)  # the timer is wanted earlier
        self._shown = threading.Condition(self._lock)  # a result is
        self._timer_until = 0.0
        self._running = False
        self._record_failed = False
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
        if any(isinstance(c, Record) and not c.shown for c in commands):
            raise StationError(
                f"part {part_id} has no answer: {self.config.rules.queue} results wait to be "
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
        rules = self.config.rules
        longest_s = (deadline_ms or rules.deadline_ms) + rules.record_ms
        with self._lock:
            inspection_id = self.trigger(part_id, deadline_ms, job)
            if not self._shown.wait_for(
                lambda: self._is_shown(inspection_id), 2 * longest_s / 1000 + 1
            ):
                raise StationError(
                    f"part {part_id}: no result: an earlier one waits to be acknowledged"
                )
            verdict = self.status.result
            assert verdict is not None
            record = self._record_of(verdict)
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
        self._recordings = Worker[Record | Taken | _Picture]("records", self._record, self._flush)
        self._results = Worker[InspectionRecord]("results", self._tell)
        self._photos = Worker[tuple[Verdict, Facts]](
            "pictures", self._keep_picture, most=_PICTURES_WAITING
        )
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
        self._recordings.stop()
        self._results.stop()
        self._photos.stop()
        self._flush()
        if self._writer is not None:
            self._writer.close()
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
                case Record() | Taken():
                    self._recordings.put(command)
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
            self._results.put(self._record_of(shown))
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
            if isinstance(command, SelectJob):
                self._select(inspector, command.job)
            else:
                finding, facts = inspector.inspect(command.part)
                inspection_id = command.part.inspection_id
                with self._lock:
                    if inspector is self._inspector:
                        self._remember(inspection_id, facts)
                        now = time.monotonic()
                        self._do(self._handshake.finished(inspection_id, finding, now))

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

    def _remember(self, inspection_id: int, facts: Facts) -> None:
        self._facts[inspection_id] = facts
        if len(self._facts) > _REMEMBERED:
            self._facts.popitem(last=False)

    # Records

    def _record(self, command: Record | Taken | _Picture) -> None:
        if isinstance(command, _Picture):
            if self._writer is not None:
                self._writer.note(command.inspection_id, "picture", command.name)
            return
        verdict = command.verdict
        if isinstance(command, Taken):
            if self._writer is not None:
                self._writer.note(verdict.inspection_id, "taken_ms", 1000 * command.after_s)
            self._facts.pop(verdict.inspection_id, None)
            return
        written = True
        if self._writer is not None:
            try:
                self._writer.write(self._record_of(verdict))
            except RecordError as error:
                written = False
                self._report_record(error)
            else:
                self._report_record(None)
        with self._lock:
            now = time.monotonic()
            self._do(
                self._handshake.recorded(verdict.inspection_id, verdict.revision, written, now)
            )
        if self._writer is not None:
            self._writer.note(
                verdict.inspection_id, "recorded_ms", 1000 * (now - verdict.triggered)
            )
        facts = self._facts.get(verdict.inspection_id)
        if (
            self._pictures is not None
            and verdict.code is not ResultCode.OK
            and facts is not None
            and facts.frame is not None
            and not self._photos.put((verdict, facts))
        ):
            log.warning("picture lost", extra={"inspection_id": verdict.inspection_id})

    def _flush(self) -> None:
        if self._writer is None:
            return
        try:
            self._writer.flush()
        except RecordError as error:
            self._report_record(error)

    def _report_record(self, error: RecordError | None) -> None:
        """Once when it begins to fail, once when it works again."""
        failed = error is not None
        if failed and not self._record_failed:
            log.error("records fail", extra={"detail": str(error)})
        elif self._record_failed and not failed:
            log.info("records work again")
        self._record_failed = failed

    def _record_of(self, verdict: Verdict) -> InspectionRecord:
        facts = self._facts.get(verdict.inspection_id) or Facts()
        stages = facts.stages_ms
        # The wall clock may be set at any time: only the present is asked of it.
        triggered_at = self._wall_clock() - (time.monotonic() - verdict.triggered)
        scored = facts.scored
        return InspectionRecord(
            inspection_id=verdict.inspection_id,
            part_id=verdict.part_id,
            job=verdict.job,
            bundle=facts.job.name if facts.job else None,
            bundle_sha256=facts.job.bundle_sha256 if facts.job else None,
            triggered_at=datetime.fromtimestamp(triggered_at, UTC).isoformat(
                timespec="microseconds"
            ),
            deadline_ms=1000 * (verdict.deadline - verdict.triggered),
            result=verdict.code.name,
            error=verdict.error.name if verdict.error else None,
            detail=verdict.detail or None,
            score=verdict.score if scored else None,
            threshold=facts.job.detector.manifest.threshold.value if facts.job else None,
            area_px=verdict.area_px if scored else None,
            start_ms=_ms(facts.start and facts.start - verdict.triggered),
            grab_ms=_ms(facts.grab_s),
            preprocess_ms=stages.get("preprocess"),
            network_ms=stages.get("network"),
            postprocess_ms=stages.get("postprocess"),
            score_ms=_ms(facts.score_s),
            decided_ms=1000 * (verdict.decided - verdict.triggered),
        )

    def _keep_picture(self, rejected: tuple[Verdict, Facts]) -> None:
        verdict, facts = rejected
        assert self._pictures is not None
        assert facts.frame is not None
        assert facts.job is not None
        threshold = facts.job.detector.manifest.threshold.value
        taken = datetime.fromtimestamp(self._wall_clock(), UTC)
        try:
            name = self._pictures.keep(
                verdict.inspection_id, taken, facts.frame, facts.anomaly_map, threshold
            )
        except OSError as error:
            detail = {"inspection_id": verdict.inspection_id, "detail": str(error)}
            log.error("picture not kept", extra=detail)
        else:
            self._recordings.put(_Picture(verdict.inspection_id, name))

    def _tell(self, record: InspectionRecord) -> None:
        for callback in self._on_result:
            callback(record)


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else 1000 * seconds
