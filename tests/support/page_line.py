"""A station and the server of its page in this process: each can be stopped and started again."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
from numpy.typing import NDArray
from starlette.applications import Starlette

from rdx_fast.bundle.bundle import open_bundle
from rdx_fast.bundle.changes import override_limits
from rdx_fast.hmi.app import create_app
from rdx_fast.hmi.serve import listening, make_server
from rdx_fast.hmi.users import Users
from rdx_fast.images import list_images, read_image
from rdx_fast.station import (
    DriftConfig,
    Filter,
    HandshakeConfig,
    InspectionRecord,
    Jobs,
    RecordConfig,
    Station,
    StationConfig,
    read_records,
)
from rdx_fast.station.config import JobConfig
from rdx_fast.station.hmi_config import HmiConfig
from rdx_fast.station.interfaces import StatusConfig
from rdx_fast.station.status_socket import StatusSocket
from support.line_processes import free_port
from support.page import PASSWORDS, ROLES, Clock, station_file
from support.scripted import ScriptedCamera, wait_until

NG_ABOVE = 1.5  # between the scores of parts with a notch, and of the others
PATIENT = HandshakeConfig(deadline_ms=20_000, hang_ms=20_000, watchdog_ms=0)


@contextmanager
def serving(app: Starlette, hmi: HmiConfig) -> Iterator[None]:
    """A page's server in a thread."""
    server = make_server(app, hmi)
    server.capture_signals = nullcontext  # type: ignore[method-assign, assignment]  # the main thread's
    with listening(hmi) as listener:
        thread = Thread(target=server.run, args=([listener],), name="page")
        thread.start()
        try:
            wait_until(lambda: server.started)
            yield
        finally:
            server.should_exit = True
            thread.join()


class PageLine:
    """A line with the jobs 1 and 2, an operator and an engineer. Close it.

    Args:
        folder: for everything
        bundle: of the drawn parts, is copied; its copies have a second limit
        parts: their category folder
        ok_share: share of the parts in the random sample
        hmi: of the table ``[hmi]``

    Attributes:
        camera: shows ``frames["good"]``, unless told otherwise
        clock: of sessions and logins
        usual: frames of good parts that differ as good parts do
        drift: for ``start_station``, which watches for none by default
    """

    def __init__(
        self,
        folder: Path,
        bundle: Path,
        parts: Path,
        ok_share: float = 0.0,
        **hmi: Any,
    ) -> None:
        self.folder = folder
        self.drift = DriftConfig(false_alarm_every=30, path=folder / "drift")
        for name in ("part", "other"):
            copy = open_bundle(shutil.copytree(bundle, folder / f"{name}.rdx"))
            override_limits(copy, f"for {name}", ng_above=NG_ABOVE, user="emil")
        (folder / "calibration").symlink_to(parts / "calibration")
        self.usual = [_pixels(path) for path in list_images(parts / "calibration")]
        odd, *_ = list_images(parts / "test" / "good")  # above the first limit
        bad, *_ = list_images(parts / "test" / "notch")
        self.frames = {
            "good": self.usual[0],
            "review": _pixels(odd),
            "bad": _pixels(bad),
        }
        self.camera = ScriptedCamera(self.frames["good"])
        records = RecordConfig(
            folder / "records.sqlite", pictures=folder / "pictures", ok_share=ok_share
        )
        self._config = StationConfig(PATIENT, records, frame_timeout_ms=200)
        file = station_file(
            folder, StatusConfig(folder / "station.socket"), port=free_port(), **hmi
        )
        jobs = {str(job): JobConfig(bundle=path) for job, path in self.bundles.items()}
        self.file = replace(file, jobs=jobs, records=records, drift=self.drift)
        self.users, self.clock = Users(folder / "users.json", n=2), Clock()
        for name, password in PASSWORDS.items():
            self.users.add(name, ROLES[name], password)
        self._running: ExitStack | None = None
        self._server: ExitStack | None = None
        self.parts = 0

    @property
    def bundles(self) -> dict[int, Path]:
        return {1: self.folder / "part.rdx", 2: self.folder / "other.rdx"}

    @property
    def records(self) -> Path:
        return self.file.records.path

    @property
    def address(self) -> str:
        assert self.file.hmi is not None
        return f"http://127.0.0.1:{self.file.hmi.port}"

    def start_station(self, **changes: Any) -> None:
        """Start it, with other settings of ``StationConfig`` if there are any."""
        config = replace(self._config, **changes)
        self.station = Station(Jobs(self.bundles), self.camera, config)
        assert self.file.status is not None
        self._running = ExitStack()
        self._running.enter_context(StatusSocket(self.station, self.file.status))
        self._running.enter_context(self.station)

    def stop_station(self) -> None:
        if self._running is not None:
            self._running.close()
        self._running = None

    def start_server(self, **changes: Any) -> None:
        """Start it, with other keys of ``[hmi]`` if there are any."""
        assert self.file.hmi is not None
        hmi = replace(self.file.hmi, **changes)
        app = create_app(replace(self.file, hmi=hmi), "line 1", self.users, self.clock)
        self._server = ExitStack()
        self._server.enter_context(serving(app, hmi))

    def stop_server(self) -> None:
        if self._server is not None:
            self._server.close()
        self._server = None

    def close(self) -> None:
        self.stop_server()
        self.stop_station()

    def inspect(self, *kinds: str) -> InspectionRecord:
        """Inspect a part of each kind, "good", "review" or "bad", with ids that go on; the last."""
        for kind in kinds:
            record = self.inspect_frame(self.frames[kind])
        return record

    def inspect_frame(self, frame: NDArray[np.uint8]) -> InspectionRecord:
        """Inspect a part with the next id."""
        self.camera.frame = frame
        self.parts += 1
        return self.station.inspect(self.parts)

    def stored(self) -> None:
        """Wait until the newest part has its picture on disk."""
        wait_until(lambda: next(read_records(self.records, Filter(last=1))).picture)

    def fail(self, error: Exception) -> InspectionRecord:
        """Inspect a part, at which the camera raises an error."""

        def raise_it() -> None:
            raise error

        self.camera.next = [raise_it]
        self.parts += 1
        return self.station.inspect(self.parts)


def _pixels(path: Path) -> NDArray[np.uint8]:
    return read_image(path).astype(np.uint8, copy=False)
