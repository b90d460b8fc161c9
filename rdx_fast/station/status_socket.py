"""Tells processes of this machine what the station does, over a Unix-domain socket."""

from __future__ import annotations

import json
import os
import socket
import socketserver
import stat
import threading
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from rdx_fast.station.interfaces import StatusConfig
from rdx_fast.station.records.store import InspectionRecord
from rdx_fast.station.station import Station, StationError

_FLAGS = (
    *("online", "trigger_ready", "busy", "link_lost", "record_alarm", "missed_trigger"),
    *("overrun", "drift_cause", "heartbeat", "active_job", "waiting"),
)
_LONGEST = 65536  # bytes of a request
_ANSWER_S = 2.0  # longest wait for a station that may be there
_Answer = tuple[dict[str, Any], list[memoryview]]


class StatusSocket:
    """Answers requests, one JSON object a line; the client is ``StatusClient``.

    A context manager: listens inside the ``with``. Create it before the station is started. Each
    client has a thread of its own, which reads what the station published last: no request makes
    the station wait.

    Requests and their answers, of which "frame" is followed by the pixels and the map:

    - ``{"ask": "status"}``: status, counts and the jobs with the bundles that are open
    - ``{"ask": "frame"}``: the part that was shown last, see ``LiveFrame``
    - ``{"ask": "select_job", "job": 2}``: as ``Station.change_over``, ``{"done": true}``

    What cannot be answered is ``{"error": ...}``.

    Args:
        station: the station
        config: path of the socket, which only the station's own user may open

    Raises:
        StationError: on entry, if the socket cannot be opened or another station listens on it
    """

    def __init__(self, station: Station, config: StatusConfig) -> None:
        self._station, self._path = station, config.socket
        self._started = datetime.now(UTC).isoformat(timespec="seconds")
        self._failed: InspectionRecord | None = None  # the newest part with an error
        station.listen(on_result=self._note)

    def __enter__(self) -> StatusSocket:
        try:
            _make_room(self._path)
            self._server = _Server(str(self._path), self)
        except OSError as error:
            raise StationError(
                f"the status socket {self._path} cannot be opened: {error}: choose another path in "
                f"a folder that the station may write to ([status] socket)"
            ) from error
        self._thread = threading.Thread(
            target=self._server.serve_forever, name="status socket", daemon=True
        )
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # First, since another station may open a socket there as soon as this one does not answer.
        self._path.unlink(missing_ok=True)
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _note(self, record: InspectionRecord) -> None:
        if record.error is not None:
            self._failed = record

    # In the clients' threads

    def answer(self, line: bytes) -> _Answer:
        """The answer to a request: a JSON object, and the bytes that follow it.

        Args:
            line: the request
        """
        try:
            request = json.loads(line)
            ask = request["ask"]
        except (ValueError, RecursionError, TypeError, KeyError, IndexError):
            return _error('not a request: wanted a JSON object such as {"ask": "status"}')
        if ask == "status":
            return self._status(), []
        if ask == "frame":
            return self._frame()
        if ask == "select_job":
            return self._select_job(request.get("job"))
        return _error(f"ask is {str(ask)[:40]!r}, wanted status, frame or select_job")

    def _status(self) -> dict[str, Any]:
        station, status, failed = self._station, self._station.status, self._failed
        controls, latest = station.controls, station.latest
        shown = {name: getattr(status, name) for name in _FLAGS}
        return {
            **shown,
            "error": status.error.name,
            "error_detail": failed.detail
            if failed is not None and failed.error == status.error.name
            else None,
            "plc_enable": None if controls is None else controls.enable,
            "counts": asdict(status.counts),
            "started_at": self._started,
            "last_id": 0 if latest is None else latest[0].inspection_id,
            "jobs": {
                job: {
                    "bundle": str(held.detector.engine.bundle.path.resolve()),
                    "name": held.name,
                    "sha256": held.bundle_sha256,
                    "execution": held.detector.engine.execution.label,
                }
                for job, held in sorted(station.opened_jobs.items())
            },
        }

    def _frame(self) -> _Answer:
        latest = self._station.latest
        if latest is None or latest[1].frame is None or latest[1].job is None:
            return _error("no frame was taken of the part that was shown last")
        inspection, capture = latest
        assert capture.frame is not None
        assert capture.job is not None
        frame = np.ascontiguousarray(capture.frame)
        header: dict[str, Any] = {
            "inspection_id": inspection.inspection_id,
            "shape": frame.shape,
            "dtype": str(frame.dtype),
            "levels": capture.job.settings.levels,
            "crop": capture.job.settings.crop,
            "map_shape": None,
            "bytes": frame.nbytes,
        }
        # Not copied: a copy of a large frame would make all other threads wait.
        if capture.anomaly_map is None:
            return header, [frame.data.cast("B")]
        relative = capture.job.detector.relative_map(capture.anomaly_map)
        relative = np.ascontiguousarray(relative, np.float32)
        header |= {"map_shape": relative.shape, "bytes": frame.nbytes + relative.nbytes}
        return header, [frame.data.cast("B"), relative.data.cast("B")]

    def _select_job(self, job: Any) -> _Answer:
        jobs = sorted(self._station.opened_jobs)
        if not isinstance(job, int) or isinstance(job, bool) or job not in jobs:
            return _error(f"job is {str(job)[:40]!r}, wanted one of {', '.join(map(str, jobs))}")
        try:
            self._station.change_over(job)
        except StationError as error:
            return _error(str(error))
        return {"done": True}, []


def _error(text: str) -> _Answer:
    return {"error": text}, []


class _Handler(socketserver.StreamRequestHandler):
    server: _Server

    def handle(self) -> None:
        with suppress(OSError):  # the client went away
            while line := self.rfile.readline(_LONGEST):
                header, following = self.server.answers.answer(line)
                self.wfile.write(json.dumps(header).encode() + b"\n")
                for content in following:
                    self.wfile.write(content)


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, path: str, answers: StatusSocket) -> None:
        self.answers = answers
        self._clients: set[socket.socket] = set()
        super().__init__(path, _Handler)

    def get_request(self) -> tuple[socket.socket, Any]:
        client, address = super().get_request()
        self._clients.add(client)
        return client, address

    def shutdown_request(self, request: Any) -> None:
        self._clients.discard(request)
        super().shutdown_request(request)

    def server_close(self) -> None:
        super().server_close()
        for client in self._clients.copy():  # who is still connected learns that the station ends
            with suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)

    def server_bind(self) -> None:
        super().server_bind()
        os.chmod(str(self.server_address), 0o600)  # nobody can connect before it listens


def _make_room(path: Path) -> None:
    """Remove the socket of a station that was killed. Raises ``OSError`` if something else is
    there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise FileExistsError(f"{path} exists and is not a socket")
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(_ANSWER_S)
        try:
            client.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
    raise FileExistsError("another station listens on it")
