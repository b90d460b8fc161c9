"""A worker thread with a queue."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

log = logging.getLogger(__name__)
T = TypeVar("T")


class Worker(Generic[T]):
    """A thread that calls ``handle`` with each queued item, in order.

    Exceptions of the callbacks are logged and the thread continues: the station must never depend
    on a thread that has ended.

    Args:
        name: name of the thread
        handle: called with each item
        idle: called whenever no item came for 1 s; None for nothing
        max_waiting: most items in the queue; 0 for no limit
    """

    def __init__(
        self,
        name: str,
        handle: Callable[[T], None],
        idle: Callable[[], object] | None = None,
        max_waiting: int = 0,
    ) -> None:
        self._handle, self._idle = handle, idle
        self._queue: queue.Queue[T | None] = queue.Queue(max_waiting)
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def put(self, thing: T) -> bool:
        """Queue an item without waiting.

        Args:
            thing: the item

        Returns:
            False if ``max_waiting`` items are queued already and this one is dropped.
        """
        try:
            self._queue.put_nowait(thing)
        except queue.Full:
            return False
        return True

    def stop(self, timeout_s: float = 5.0) -> None:
        """Handle the queued items and end the thread.

        Args:
            timeout_s: longest wait in seconds, for room in the queue and then for the thread
        """
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
                log.exception("unexpected error in thread %s", self._thread.name)

    def _guarded_idle(self) -> None:
        try:
            if self._idle is not None:
                self._idle()
        except Exception:
            log.exception("unexpected error in thread %s", self._thread.name)
