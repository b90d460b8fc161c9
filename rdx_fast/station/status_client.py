"""Asks a running station for its status, over its Unix-domain socket."""

from __future__ import annotations

import json
import socket
import threading
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rdx_fast.errors import RdxError
from rdx_fast.preprocess import Frame

_OPENING_S = 120.0  # longest time for a station to open a bundle


class StatusError(RdxError):
    """The station is not running, does not answer, or cannot do what was asked."""


@dataclass(frozen=True, slots=True)
class LiveFrame:
    """The part that was shown to the PLC last.

    Attributes:
        inspection_id: id of the inspection
        frame: uint8 or uint16, [H, W, 3] or [H, W]
        levels: grey levels of black and white of a uint16 frame; None for uint8
        crop: top, left, height and width of what was scored; None for the whole frame
        relative: float32 [h, w], the anomaly map as multiples of the limits, see
            ``Detector.relative_map``; None where the station keeps no maps
    """

    inspection_id: int
    frame: Frame
    levels: tuple[int, int] | None
    crop: tuple[int, int, int, int] | None
    relative: NDArray[np.float32] | None


class StatusClient:
    """Asks a station. Any thread may; the connection is opened when needed, and again if lost.

    Args:
        path: the station's socket
        timeout_s: longest wait for an answer, in seconds
    """

    def __init__(self, path: Path, timeout_s: float = 2.0) -> None:
        self._path, self._timeout_s = path, timeout_s
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._stream: BufferedReader | None = None

    def status(self) -> dict[str, Any]:
        """The station's status, see ``StatusSocket``.

        Raises:
            StatusError: the station is not running or does not answer
        """
        with self._lock:
            return self._ask({"ask": "status"})[0]

    def frame(self) -> LiveFrame | None:
        """The frame of the part that was shown last; None if none was taken of it.

        Raises:
            StatusError: the station is not running or does not answer
        """
        with self._lock:
            header, content = self._ask({"ask": "frame"})
        if "error" in header:
            return None
        dtype, shape = np.dtype(header["dtype"]), tuple(header["shape"])
        count = int(np.prod(shape))
        relative = None
        if header["map_shape"] is not None:
            relative = np.frombuffer(content, np.float32, offset=count * dtype.itemsize)
            relative = relative.reshape(header["map_shape"])
        return LiveFrame(
            header["inspection_id"],
            np.frombuffer(content, dtype, count).reshape(shape),
            None if header["levels"] is None else tuple(header["levels"]),
            None if header["crop"] is None else tuple(header["crop"]),
            relative,
        )

    def select_job(self, job: int) -> None:
        """Have the station select a job, which also changes over to a replaced bundle of it.

        The station opens that bundle first, and inspects with the one before meanwhile.

        Args:
            job: id of the job

        Raises:
            StatusError: the station is not running, does not answer, or has no such job
        """
        with self._lock:
            answer, _ = self._ask({"ask": "select_job", "job": job}, _OPENING_S)
        if "error" in answer:
            raise StatusError(answer["error"])

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            self._forget()

    def _ask(
        self, request: dict[str, Any], timeout_s: float | None = None
    ) -> tuple[dict[str, Any], bytes]:
        line = json.dumps(request).encode() + b"\n"
        # A connection of before may be to a station that was restarted since.
        for fresh in (False, True) if self._socket is not None else (True,):
            try:
                if fresh:
                    self._forget()
                    self._connect()
                assert self._socket is not None
                assert self._stream is not None
                self._socket.settimeout(timeout_s or self._timeout_s)
                self._socket.sendall(line)
                answer = self._stream.readline()
                if not answer:
                    raise ConnectionResetError("the station closed the connection")
                header = json.loads(answer)
                content = self._stream.read(header.get("bytes", 0))
                if len(content) < header.get("bytes", 0):
                    raise ConnectionResetError("the station closed the connection")
                return header, content
            except (OSError, ValueError) as error:
                self._forget()
                failure = error
                if isinstance(error, TimeoutError):
                    break  # a station that is there and slow does what it was asked for
        raise StatusError(
            f"the station does not answer on {self._path}: {failure}: start it (rdx-fast station), "
            f"with a table [status] in its configuration"
        ) from failure

    def _connect(self) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(self._timeout_s)
        self._socket.connect(str(self._path))
        self._stream = self._socket.makefile("rb")

    def _forget(self) -> None:
        if self._socket is not None:
            if self._stream is not None:
                self._stream.close()  # which holds the connection open, too
            self._socket.close()
            self._socket = self._stream = None
