"""Writes rows and pictures of inspections to disk, in two threads."""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from random import SystemRandom

from rdx_fast.station.config import RecordConfig
from rdx_fast.station.handshake.inspection import Inspection
from rdx_fast.station.handshake.signals import Taken, WriteRecord
from rdx_fast.station.inspector import Capture
from rdx_fast.station.records.pictures import PictureStore
from rdx_fast.station.records.store import InspectionRecord, RecordError, RecordWriter
from rdx_fast.station.worker import Worker

log = logging.getLogger(__name__)

# Inspections whose captures are remembered: more than can be waiting for the PLC.
_REMEMBERED = 256
_PICTURES_WAITING = 32
_AGAIN_S = 1.0


@dataclass(frozen=True, slots=True)
class _Note:
    """Values of a row that became known later, by column."""

    inspection_id: int
    values: dict[str, float | str]


class Recorder:
    """Writes the records and the pictures of the results that the configuration names.

    Args:
        config: where records and pictures are kept; None records nothing and confirms each row at
            once
        wall_clock: returns seconds since 1970
        recorded: called for each row with the inspection and whether rows and pictures can
            currently be written
        failing: called between rows with whether rows or pictures currently cannot be written

    Raises:
        RecordError: the SQLite file cannot be opened

    Attributes:
        next_id: id for the first inspection, one above the last recorded one
    """

    def __init__(
        self,
        config: RecordConfig | None,
        wall_clock: Callable[[], float],
        recorded: Callable[[Inspection, bool], None],
        failing: Callable[[bool], None],
    ) -> None:
        self._wall_clock, self._recorded, self._tell = wall_clock, recorded, failing
        self._writer = None if config is None else RecordWriter(config.path, config.sync)
        self._pictures, self._pictures_of = None, frozenset[str]()
        if config is not None and config.pictures_mb > 0:
            self._pictures = PictureStore(config.pictures, config.pictures_mb)
            self._pictures_of = frozenset(config.pictures_of)
        self._ok_share = 0.0 if config is None else config.ok_share
        self._random = SystemRandom()  # no part can be foreseen to be drawn
        self.next_id = 1 if self._writer is None else self._writer.next_id
        self._captures: OrderedDict[int, Capture] = OrderedDict()
        self._failing: set[str] = set()  # which of "records" and "pictures" fail
        self._stopping = threading.Event()

    def start(self) -> None:
        """Start the threads."""
        self._restore_pictures()
        self._rows = Worker[WriteRecord | Taken | _Note]("records", self._handle, self._idle)
        self._photos = Worker[tuple[Inspection, Capture]](
            "pictures", self._keep, max_waiting=_PICTURES_WAITING
        )

    def stop(self) -> None:
        """Write what is queued, end the threads and close the file."""
        self._stopping.set()
        self._photos.stop()
        self._rows.stop()
        self._idle()
        if self._writer is not None:
            self._writer.close()

    def put(self, command: WriteRecord | Taken) -> None:
        """Queue a command of the handshake.

        Args:
            command: write a row, or note that the PLC acknowledged its result
        """
        self._rows.put(command)

    def remember(self, inspection_id: int, capture: Capture) -> None:
        """Keep the capture of an inspection, and draw whether it is of the random sample.

        Call this before its outcome is recorded.

        Args:
            inspection_id: id of the inspection
            capture: what the camera and the engine delivered
        """
        capture.sampled = self._random.random() < self._ok_share
        self._captures[inspection_id] = capture
        if len(self._captures) > _REMEMBERED:
            self._captures.popitem(last=False)

    def capture_of(self, inspection_id: int) -> Capture | None:
        """What was remembered of an inspection. None once its result was acknowledged."""
        return self._captures.get(inspection_id)

    def note(self, inspection_id: int, **values: float | str) -> None:
        """Add values to the row of an inspection, which is written already.

        Args:
            inspection_id: id of the inspection
            values: by column, see ``RecordWriter.note``
        """
        self._rows.put(_Note(inspection_id, values))

    def record_of(self, inspection: Inspection) -> InspectionRecord:
        """Return the row of a decided inspection.

        Args:
            inspection: an inspection with an outcome
        """
        outcome = inspection.outcome
        assert outcome is not None
        capture = self._captures.get(inspection.inspection_id) or Capture()
        job, stages = capture.job, capture.stages_ms
        # The wall clock may be set at any time: use it for the present time only.
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
            score=outcome.score,
            threshold=outcome.ok_below,
            ng_above=outcome.ng_above,
            area_px=outcome.area_px,
            start_ms=_ms(capture.start and capture.start - inspection.triggered),
            grab_ms=_ms(capture.grab_s),
            preprocess_ms=stages.get("preprocess"),
            network_ms=stages.get("network"),
            postprocess_ms=stages.get("postprocess"),
            score_ms=_ms(capture.score_s),
            decided_ms=1000 * (inspection.decided - inspection.triggered),
            executed=job.detector.engine.execution.executed if job else None,
            p_value=outcome.p_value,
            region=outcome.region,
            sampled=int(capture.sampled),
        )

    def _restore_pictures(self) -> None:
        """A process that was killed may have stored pictures that their rows do not name yet."""
        if self._writer is None or self._pictures is None:
            return
        try:
            for restored in self._pictures.newest(_PICTURES_WAITING):
                self._writer.restore_picture(*restored)
        except (RecordError, OSError) as error:
            log.error("pictures of the run before not looked for", extra={"detail": str(error)})

    # In the thread that writes rows

    def _handle(self, command: WriteRecord | Taken | _Note) -> None:
        match command:
            case WriteRecord(inspection):
                self._record(inspection)
            case Taken(inspection, after_s):
                self._note(inspection.inspection_id, "taken_ms", 1000 * after_s)
                self._captures.pop(inspection.inspection_id, None)
            case _Note(inspection_id, values):
                for column, value in values.items():
                    self._note(inspection_id, column, value)

    def _record(self, inspection: Inspection) -> None:
        if self._writer is not None:
            with self._reporting_rows():
                self._writer.write(self.record_of(inspection))
        now = time.monotonic()
        self._recorded(inspection, not self._failing)
        self._note(inspection.inspection_id, "recorded_ms", 1000 * (now - inspection.triggered))
        capture = self._captures.get(inspection.inspection_id)
        if (
            capture is not None
            and (inspection.code.name in self._pictures_of or capture.sampled)
            and capture.frame is not None
            and self._pictures is not None
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
            self._report("records", "rows are still waiting" if self._writer.waiting else None)

    def _report(self, what: str, trouble: str | None) -> None:
        """Log a failure once when it begins and once when it is over."""
        if trouble is not None and what not in self._failing:
            self._failing.add(what)
            log.error("%s fail", what, extra={"detail": trouble})
        elif trouble is None and what in self._failing:
            self._failing.discard(what)
            log.info("%s work again", what)

    def _lose(self, inspection: Inspection) -> None:
        log.warning("picture lost", extra={"inspection_id": inspection.inspection_id})

    # In the thread that writes pictures

    def _keep(self, pictured: tuple[Inspection, Capture]) -> None:
        inspection, capture = pictured
        assert self._pictures is not None
        assert capture.frame is not None
        assert capture.job is not None
        taken = datetime.fromtimestamp(self._wall_clock(), UTC)
        relative = capture.anomaly_map
        if relative is not None:
            relative = capture.job.detector.relative_map(relative)
        picture = (inspection.inspection_id, taken, capture.frame, relative)
        while True:
            try:
                name = self._pictures.keep(*picture)
                break
            except OSError as error:  # such as a full disk: later pictures wait meanwhile
                self._report("pictures", str(error))
                self._tell(True)
                if self._stopping.wait(_AGAIN_S):
                    self._lose(inspection)
                    return
        self._report("pictures", None)
        self.note(inspection.inspection_id, picture=name)


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else 1000 * seconds
