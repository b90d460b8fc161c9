"""What becomes of verdicts and frames: rows and pictures on disk, each by a thread of its own."""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from rdx_fast.station.config import RecordConfig
from rdx_fast.station.handshake.signals import Record, ResultCode, Taken, Verdict
from rdx_fast.station.inspector import Facts
from rdx_fast.station.records.pictures import PictureStore
from rdx_fast.station.records.store import InspectionRecord, RecordError, RecordWriter
from rdx_fast.station.worker import Worker

log = logging.getLogger(__name__)

# Inspections whose facts are remembered: more than can be on their way to the PLC.
_REMEMBERED = 256
_PICTURES_WAITING = 32
_AGAIN_S = 1.0


@dataclass(frozen=True, slots=True)
class _Kept:
    """A picture was kept under this name."""

    inspection_id: int
    name: str


class Recorder:
    """``config`` None records nothing, and says at once that it did. ``recorded``: told of each
    row, with whether all rows and pictures could be kept so far; ``failing``: told between rows
    whether any cannot be now. Raises ``RecordError`` if the file cannot be opened."""

    def __init__(
        self,
        config: RecordConfig | None,
        wall_clock: Callable[[], float],
        recorded: Callable[[Verdict, bool], None],
        failing: Callable[[bool], None],
    ) -> None:
        self._wall_clock, self._recorded, self._tell = wall_clock, recorded, failing
        self._writer = None if config is None else RecordWriter(config.path, config.sync)
        self._pictures = None
        if config is not None and config.pictures_mb > 0:
            self._pictures = PictureStore(config.pictures, config.pictures_mb)
        self.next_id = 1 if self._writer is None else self._writer.next_id
        self._facts: OrderedDict[int, Facts] = OrderedDict()
        self._failing: set[str] = set()  # of rows and pictures
        self._stopping = threading.Event()

    def start(self) -> None:
        self._rows = Worker[Record | Taken | _Kept]("records", self._handle, self._idle)
        self._photos = Worker[tuple[Verdict, Facts]]("pictures", self._keep, most=_PICTURES_WAITING)

    def stop(self) -> None:
        """Write what there is, and close."""
        self._stopping.set()
        self._photos.stop()
        self._rows.stop()
        self._idle()
        if self._writer is not None:
            self._writer.close()

    def put(self, command: Record | Taken) -> None:
        """Record a verdict, or that it was taken."""
        self._rows.put(command)

    def remember(self, inspection_id: int, facts: Facts) -> None:
        """What is known of an inspection, before its verdict is recorded."""
        self._facts[inspection_id] = facts
        if len(self._facts) > _REMEMBERED:
            self._facts.popitem(last=False)

    def record_of(self, verdict: Verdict) -> InspectionRecord:
        """The row of a verdict."""
        facts = self._facts.get(verdict.inspection_id) or Facts()
        job, stages, scored = facts.job, facts.stages_ms, facts.scored
        # The wall clock may be set at any time: only the present is asked of it.
        triggered = self._wall_clock() - (time.monotonic() - verdict.triggered)
        return InspectionRecord(
            inspection_id=verdict.inspection_id,
            part_id=verdict.part_id,
            job=verdict.job,
            bundle=job.name if job else None,
            bundle_sha256=job.bundle_sha256 if job else None,
            triggered_at=datetime.fromtimestamp(triggered, UTC).isoformat(timespec="microseconds"),
            deadline_ms=1000 * (verdict.deadline - verdict.triggered),
            result=verdict.code.name,
            error=verdict.error.name if verdict.error else None,
            detail=verdict.detail or None,
            score=verdict.score if scored else None,
            threshold=job.detector.threshold.value if job else None,
            area_px=verdict.area_px if scored else None,
            start_ms=_ms(facts.start and facts.start - verdict.triggered),
            grab_ms=_ms(facts.grab_s),
            preprocess_ms=stages.get("preprocess"),
            network_ms=stages.get("network"),
            postprocess_ms=stages.get("postprocess"),
            score_ms=_ms(facts.score_s),
            decided_ms=1000 * (verdict.decided - verdict.triggered),
            executed=job.detector.engine.execution.executed if job else None,
        )

    # In the thread of the rows

    def _handle(self, command: Record | Taken | _Kept) -> None:
        match command:
            case Record(verdict):
                self._record(verdict)
            case Taken(verdict, after_s):
                self._note(verdict.inspection_id, "taken_ms", 1000 * after_s)
                self._facts.pop(verdict.inspection_id, None)
            case _Kept(inspection_id, name):
                self._note(inspection_id, "picture", name)

    def _record(self, verdict: Verdict) -> None:
        if self._writer is not None:
            with self._reporting_rows():
                self._writer.write(self.record_of(verdict))
        now = time.monotonic()
        self._recorded(verdict, not self._failing)
        self._note(verdict.inspection_id, "recorded_ms", 1000 * (now - verdict.triggered))
        facts = self._facts.get(verdict.inspection_id)
        if (
            self._pictures is not None
            and verdict.code is not ResultCode.OK
            and facts is not None
            and facts.frame is not None
            and not self._photos.put((verdict, facts))
        ):
            self._lose(verdict)

    def _note(self, inspection_id: int, column: str, value: float | str) -> None:
        if self._writer is not None:
            self._writer.note(inspection_id, column, value)

    def _idle(self) -> None:
        if self._writer is not None:
            with self._reporting_rows():
                self._writer.flush()
        self._tell(bool(self._failing))

    @contextmanager
    def _reporting_rows(self) -> Iterator[None]:
        assert self._writer is not None
        try:
            yield
        except RecordError as error:
            self._report("records", str(error))
        else:
            self._report("records", "rows still wait" if self._writer.waiting else None)

    def _report(self, what: str, trouble: str | None) -> None:
        """Once when it begins, once when it is over."""
        if trouble is not None and what not in self._failing:
            self._failing.add(what)
            log.error("%s fail", what, extra={"detail": trouble})
        elif trouble is None and what in self._failing:
            self._failing.discard(what)
            log.info("%s work again", what)

    def _lose(self, verdict: Verdict) -> None:
        log.warning("picture lost", extra={"inspection_id": verdict.inspection_id})

    # In the thread of the pictures

    def _keep(self, rejected: tuple[Verdict, Facts]) -> None:
        verdict, facts = rejected
        assert self._pictures is not None
        assert facts.frame is not None
        assert facts.job is not None
        threshold = facts.job.detector.threshold.value
        taken = datetime.fromtimestamp(self._wall_clock(), UTC)
        picture = (verdict.inspection_id, taken, facts.frame, facts.anomaly_map, threshold)
        while True:
            try:
                name = self._pictures.keep(*picture)
                break
            except OSError as error:  # the disk is full: others wait meanwhile
                self._report("pictures", str(error))
                self._tell(True)
                if self._stopping.wait(_AGAIN_S):
                    self._lose(verdict)
                    return
        self._report("pictures", None)
        self._rows.put(_Kept(verdict.inspection_id, name))


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else 1000 * seconds
