"""A thread that does one thing after another."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

log = logging.getLogger(__name__)
T = TypeVar("T")


class Worker(Generic[T]):
    """Calls ``handle`` with each thing put, in order; ``idle`` whenever nothing came for a second.

    What they raise is logged, and the thread goes on: nothing that the station does later may
    depend on a thread that is gone."""

    def __init__(
        self,
        name: str,
        handle: Callable[[T], None],
        idle: Callable[[], None] | None = None,
        max_waiting: int = 0,
    ) -> None:
        self._handle, self._idle = handle, idle
        self._queue: queue.Queue[T | None] = queue.Queue(max_waiting)
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def put(self, thing: T) -> bool:
        """Whether there was room (for ``max_waiting`` things, 0 for any number)."""
        try:
            self._queue.put_nowait(thing)
        except queue.Full:
            return False
        return True

    def stop(self, timeout_s: float = 5.0) -> None:
        """Let it finish what was put, but not for longer than this."""
        try:
            self._queue.put(None, timeout=timeout_s)
        except queue.Full:
            return
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while True:
            try:
                thing = self._queue.get(timeout=None if self._idle is None else 1.0)
                if thing is None:
                    return
                self._handle(thing)
            except queue.Empty:
                self._guarded_idle()
            except Exception:
                log.exception("unexpected in thread %s", self._thread.name)

    def _guarded_idle(self) -> None:
        try:
            if self._idle is not None:
                self._idle()
        except Exception:
            log.exception("unexpected in thread %s", self._thread.name)
