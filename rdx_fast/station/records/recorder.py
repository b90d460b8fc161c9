"""Rows and pictures of inspections on disk, each by a thread of its own."""

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
from rdx_fast.station.handshake.codes import ResultCode
from rdx_fast.station.handshake.inspection import Inspection
from rdx_fast.station.handshake.signals import Taken, WriteRecord
from rdx_fast.station.inspector import Capture
from rdx_fast.station.records.pictures import PictureStore
from rdx_fast.station.records.store import InspectionRecord, RecordError, RecordWriter
from rdx_fast.station.worker import Worker

log = logging.getLogger(__name__)

# Inspections whose captures are remembered: more than can be on their way to the PLC.
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
        recorded: Callable[[Inspection, bool], None],
        failing: Callable[[bool], None],
    ) -> None:
        self._wall_clock, self._recorded, self._tell = wall_clock, recorded, failing
        self._writer = None if config is None else RecordWriter(config.path, config.sync)
        self._pictures = None
        if config is not None and config.pictures_mb > 0:
            self._pictures = PictureStore(config.pictures, config.pictures_mb)
        self.next_id = 1 if self._writer is None else self._writer.next_id
        self._captures: OrderedDict[int, Capture] = OrderedDict()
        self._failing: set[str] = set()  # of rows and pictures
        self._stopping = threading.Event()

    def start(self) -> None:
        self._rows = Worker[WriteRecord | Taken | _Kept]("records", self._handle, self._idle)
        self._photos = Worker[tuple[Inspection, Capture]](
            "pictures", self._keep, max_waiting=_PICTURES_WAITING
        )

    def stop(self) -> None:
        """Write what there is, and close."""
        self._stopping.set()
        self._photos.stop()
        self._rows.stop()
        self._idle()
        if self._writer is not None:
            self._writer.close()

    def put(self, command: WriteRecord | Taken) -> None:
        """Write a row, or that its result was acknowledged."""
        self._rows.put(command)

    def remember(self, inspection_id: int, capture: Capture) -> None:
        """What was captured for an inspection, before its outcome is recorded."""
        self._captures[inspection_id] = capture
        if len(self._captures) > _REMEMBERED:
            self._captures.popitem(last=False)

    def record_of(self, inspection: Inspection) -> InspectionRecord:
        """The row of a decided inspection."""
        outcome = inspection.outcome
        assert outcome is not None
        capture = self._captures.get(inspection.inspection_id) or Capture()
        job, stages, scored = capture.job, capture.stages_ms, capture.scored
        # The wall clock may be set at any time: only the present is asked of it.
        triggered = self._wall_clock() - (time.monotonic() - inspection.triggered)
        return InspectionRecord(
            inspection_id=inspection.inspection_id,
            part_id=inspection.part_id,
            job=inspection.job,
            bundle=job.name if job else None,
            bundle_sha256=job.bundle_sha256 if job else None,
            triggered_at=datetime.fromtimestamp(triggered, UTC).isoformat(timespec="microseconds"),
            deadline_ms=1000 * (inspection.deadline - inspection.triggered),
            result=outcome.code.name,
            error=outcome.error.name if outcome.error else None,
            detail=outcome.detail or None,
            score=outcome.score if scored else None,
            threshold=job.detector.threshold.value if job else None,
            area_px=outcome.area_px if scored else None,
            start_ms=_ms(capture.start and capture.start - inspection.triggered),
            grab_ms=_ms(capture.grab_s),
            preprocess_ms=stages.get("preprocess"),
            network_ms=stages.get("network"),
            postprocess_ms=stages.get("postprocess"),
            score_ms=_ms(capture.score_s),
            decided_ms=1000 * (inspection.decided - inspection.triggered),
            executed=job.detector.engine.execution.executed if job else None,
        )

    # In the thread of the rows

    def _handle(self, command: WriteRecord | Taken | _Kept) -> None:
        match command:
            case WriteRecord(inspection):
                self._record(inspection)
            case Taken(inspection, after_s):
                self._note(inspection.inspection_id, "taken_ms", 1000 * after_s)
                self._captures.pop(inspection.inspection_id, None)
            case _Kept(inspection_id, name):
                self._note(inspection_id, "picture", name)

    def _record(self, inspection: Inspection) -> None:
        if self._writer is not None:
            with self._reporting_rows():
                self._writer.write(self.record_of(inspection))
        now = time.monotonic()
        self._recorded(inspection, not self._failing)
        self._note(inspection.inspection_id, "recorded_ms", 1000 * (now - inspection.triggered))
        capture = self._captures.get(inspection.inspection_id)
        if (
            self._pictures is not None
            and inspection.code is not ResultCode.OK
            and capture is not None
            and capture.frame is not None
            and not self._photos.put((inspection, capture))
        ):
            self._lose(inspection)

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

    def _lose(self, inspection: Inspection) -> None:
        log.warning("picture lost", extra={"inspection_id": inspection.inspection_id})

    # In the thread of the pictures

    def _keep(self, rejected: tuple[Inspection, Capture]) -> None:
        inspection, capture = rejected
        assert self._pictures is not None
        assert capture.frame is not None
        assert capture.job is not None
        threshold = capture.job.detector.threshold.value
        taken = datetime.fromtimestamp(self._wall_clock(), UTC)
        picture = (inspection.inspection_id, taken, capture.frame, capture.anomaly_map, threshold)
        while True:
            try:
                name = self._pictures.keep(*picture)
                break
            except OSError as error:  # the disk is full: others wait meanwhile
                self._report("pictures", str(error))
                self._tell(True)
                if self._stopping.wait(_AGAIN_S):
                    self._lose(inspection)
                    return
        self._report("pictures", None)
        self._rows.put(_Kept(inspection.inspection_id, name))


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else 1000 * seconds
